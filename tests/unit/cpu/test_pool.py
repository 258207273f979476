# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._cpu import pool_cpu, same_cpu
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError

BASELINE = """<cpu mode='custom' match='exact'>
  <model fallback='allow'>SandyBridge</model>
  <vendor>Intel</vendor>
  <maxphysaddr mode='passthrough' limit='46'/>
  <feature policy='require' name='vme'/>
  <feature policy='disable' name='xsaveopt'/>
  <feature policy='disable' name='arat'/>
</cpu>"""


def test_a_baseline_becomes_an_exact_cpu_that_is_checked() -> None:
    assert pool_cpu(BASELINE) == (
        '<cpu mode="custom" match="exact" check="partial">\n'
        '  <model fallback="forbid">SandyBridge</model>\n'
        "  <vendor>Intel</vendor>\n"
        '  <maxphysaddr mode="passthrough" limit="46"/>\n'
        '  <feature policy="disable" name="arat"/>\n'
        '  <feature policy="require" name="vme"/>\n'
        '  <feature policy="disable" name="xsaveopt"/>\n'
        "</cpu>"
    )


def test_a_pool_cpu_of_a_pool_cpu_is_the_same() -> None:
    assert pool_cpu(pool_cpu(BASELINE)) == pool_cpu(BASELINE)
    assert same_cpu(pool_cpu(pool_cpu(BASELINE)), pool_cpu(BASELINE))


def test_what_belongs_to_a_host_or_vm_is_not_taken_over() -> None:
    host = (
        "<cpu><arch>x86_64</arch><model>Nehalem</model><microcode version='1'/>"
        "<topology sockets='1' cores='2' threads='1'/><maxphysaddr bits='46'/><feature name='vme'/><numa/></cpu>"
    )

    assert pool_cpu(host) == (
        '<cpu mode="custom" match="exact" check="partial">\n'
        '  <model fallback="forbid">Nehalem</model>\n'
        '  <feature policy="require" name="vme"/>\n'
        "</cpu>"
    )


@pytest.mark.parametrize("policy", ["force", "optional", "forbid"])
def test_policies_that_members_would_not_keep_are_refused(policy: str) -> None:
    with pytest.raises(FleetError, match=rf"Feature avx has policy '{policy}'") as caught:
        pool_cpu(f"<cpu><model>a</model><feature policy='{policy}' name='avx'/></cpu>")

    assert caught.value.code == "cpu_policy"
    assert caught.value.facts == {"feature": "avx", "policy": policy}


def test_a_baseline_without_model_is_refused() -> None:
    with pytest.raises(FleetError, match="no CPU model") as caught:
        pool_cpu("<cpu mode='host-passthrough'/>")

    assert caught.value.code == "no_cpu"
