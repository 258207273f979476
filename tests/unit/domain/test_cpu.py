# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._cpu import parse_cpu, same_cpu
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import parse_domain, with_cpu
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError

POOL = (
    "<cpu mode='custom' match='exact' check='partial'><model fallback='forbid'>Nehalem</model><vendor>Intel</vendor>"
    "<maxphysaddr mode='passthrough' limit='40'/><feature policy='require' name='vme'/>"
    "<feature policy='disable' name='pcid'/></cpu>"
)
OWNED = ("cpu/model", "cpu/vendor", "cpu/maxphysaddr", "cpu/feature")
ATTRIBUTES = ("mode", "match", "check", "migratable")
CPUS = [POOL, "<cpu mode='host-model'/>", "<cpu mode='host-passthrough' check='none' migratable='off'/>"]


@pytest.mark.parametrize("cpu", CPUS, ids=["pool", "host-model", "host-passthrough"])
def test_the_cpu_is_replaced_and_all_else_stays(live: str, nodes: Callable[..., Any], cpu: str) -> None:
    written = with_cpu(live, cpu)

    assert same_cpu(written, cpu)
    before, after = (nodes(xml, *OWNED, "cpu") for xml in (live, written))
    assert after == before
    inside_before, inside_after = (nodes(xml, *OWNED, attributes=ATTRIBUTES) for xml in (live, written))
    assert inside_after == inside_before


def test_topology_numa_and_cache_stay_in_libvirts_order(live: str) -> None:
    assert parse_domain(with_cpu(live, POOL)).cpu_xml == (
        '<cpu mode="custom" match="exact" check="partial">\n'
        '    <model fallback="forbid">Nehalem</model>\n'
        "    <vendor>Intel</vendor>\n"
        '    <topology sockets="2" dies="1" clusters="1" cores="2" threads="2"/>\n'
        '    <cache level="3" mode="emulate"/>\n'
        '    <maxphysaddr mode="passthrough" limit="40"/>\n'
        '    <feature policy="require" name="vme"/>\n'
        '    <feature policy="disable" name="pcid"/>\n'
        "    <numa>\n"
        '      <cell id="0" cpus="0-7" memory="8388608" unit="KiB"/>\n'
        "    </numa>\n"
        "  </cpu>"
    )


def test_topology_numa_and_cache_of_the_given_cpu_are_left_out(live: str, plain: str) -> None:
    given = POOL.replace("</cpu>", "<topology sockets='9' cores='1' threads='1'/><numa/><cache mode='disable'/></cpu>")

    assert with_cpu(live, given) == with_cpu(live, POOL)
    assert parse_cpu(with_cpu(plain, given)).topology is None


def test_a_domain_without_cpu_gets_one_before_the_clock(plain: str) -> None:
    written = with_cpu(plain, "<cpu mode='host-model'/>")

    assert '  </os>\n  <cpu mode="host-model"/>\n  <clock offset="utc"/>' in written


@pytest.mark.parametrize("cpu", CPUS)
def test_the_second_time_nothing_changes(live: str, plain: str, cpu: str) -> None:
    for xml in (live, plain):
        once = with_cpu(xml, cpu)
        assert with_cpu(once, cpu) == once


def test_the_cpu_a_domain_has_already_changes_nothing(live: str) -> None:
    cpu = parse_domain(live).cpu_xml
    assert cpu is not None
    assert with_cpu(live, cpu) == live


def test_comments_inside_the_cpu_stay() -> None:
    xml = "<domain><name>a</name><cpu mode='host-model'><!-- why --><topology sockets='1'/></cpu></domain>"

    assert "<!-- why -->" in with_cpu(xml, POOL)


def test_the_description_of_a_host_is_refused(live: str) -> None:
    with pytest.raises(FleetError, match="baseline") as caught:
        with_cpu(live, "<cpu><arch>x86_64</arch><model>Nehalem</model></cpu>")

    assert caught.value.code == "bad_cpu"
