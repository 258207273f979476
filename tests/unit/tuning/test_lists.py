# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.virtops.kvm_fleet.plugins.filter.tuning import FilterModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._tuning import tuned_vms

from tests.tools.sync import ROOT

BUILT_IN = yaml.safe_load((ROOT / "roles/vm_tuning/vars/main.yml").read_text())["__vm_tuning_builtin"]
UUID = "0b6c2c3e-0000-4000-8000-00000000000a"
HERE = [{"name": "db1", "uuid": UUID}, {"name": "web1", "uuid": "w"}]
PROFILES: dict[str, Any] = {
    "fast": {
        "pinning": {"policy": "dedicated", "thread_policy": "isolate"},
        "cpu": {"mode": "host-passthrough", "migratable": True},
        "vcpus": {"maximum": 4, "topology": {"threads": 2}},
    },
    "faster": {"extends": "fast", "pinning": {"emulator_threads": "isolate"}, "huge_pages_kib": 2048},
    "loop": {"extends": "loop2"},
    "loop2": {"extends": "loop"},
    "orphan": {"extends": "nobody"},
}


def tuned(*vms: dict[str, Any], profiles: dict[str, Any] | None = None) -> dict[str, list[Any]]:
    return tuned_vms(list(vms), PROFILES if profiles is None else profiles, HERE)


def test_a_profile_becomes_what_each_module_is_to_do() -> None:
    assert tuned({"name": "db1", "profile": "faster", "policy": {"migration": "manual"}}) == {
        "names": ["db1"],
        "elsewhere": [],
        "resources": [
            {
                "name": "db1",
                "vcpus": {"maximum": 4, "topology": {"threads": 2}},
                "huge_pages_kib": 2048,
                "drop_pins": True,
            }
        ],
        "cpu": [{"name": "db1", "mode": "host-passthrough", "migratable": True}],
        "pinning": [
            {"name": "db1", "policy": "dedicated", "thread_policy": "isolate", "emulator_threads": "isolate"},
        ],
        "policy": [{"name": "db1", "migration": "manual"}],
        "hot_plug": [],
    }


@pytest.mark.parametrize(
    ("own", "key", "expected"),
    [
        # Key by key, in parts of parts too
        ({"vcpus": {"topology": {"sockets": 2}}}, "resources",
         {"vcpus": {"maximum": 4, "topology": {"threads": 2, "sockets": 2}}, "drop_pins": True}),
        ({"vcpus": {"maximum": 8}}, "resources",
         {"vcpus": {"maximum": 8, "topology": {"threads": 2}}, "drop_pins": True}),
        ({"pinning": {"emulator_threads": "isolate"}}, "pinning",
         {"policy": "dedicated", "thread_policy": "isolate", "emulator_threads": "isolate"}),
        # Another kind begins anew
        ({"pinning": {"policy": "numa"}}, "pinning", {"policy": "numa"}),
        ({"cpu": {"model": "Haswell"}}, "cpu", {"model": "Haswell"}),
        ({"cpu": {"mode": "host-passthrough", "features": []}}, "cpu",
         {"mode": "host-passthrough", "migratable": True, "features": []}),
        # Null takes back
        ({"vcpus": {"topology": None}}, "resources", {"vcpus": {"maximum": 4}, "drop_pins": True}),
        ({"pinning": None}, "pinning", None),
        ({"pinning": None}, "resources",
         {"vcpus": {"maximum": 4, "topology": {"threads": 2}}, "drop_pins": False}),
    ],
)  # fmt: skip
def test_what_a_vm_says_itself_counts_more(own: dict[str, Any], key: str, expected: dict[str, Any] | None) -> None:
    before = deepcopy(PROFILES)

    found = tuned({"name": "db1", "profile": "fast", **own})[key]

    assert found == ([] if expected is None else [{"name": "db1", **expected}])
    assert before == PROFILES


def test_a_vm_needs_no_profile_and_a_list_is_replaced() -> None:
    assert tuned({"name": "web1", "policy": {"hosts": ["hv1"]}})["policy"] == [{"name": "web1", "hosts": ["hv1"]}]
    groups = {"keep_apart": ["db"], "keep_together": [], "priority": -5, "hot_unplug": "refused"}
    assert tuned({"name": "web1", "policy": groups})["policy"] == [{"name": "web1", **groups}]
    profiles = {"here": {"policy": {"hosts": ["hv1", "hv2"]}}}
    found = tuned({"name": "web1", "profile": "here", "policy": {"hosts": ["hv3"]}}, profiles=profiles)
    assert found["policy"] == [{"name": "web1", "hosts": ["hv3"]}]


def test_vms_that_are_elsewhere_are_nothing_to_do() -> None:
    found = tuned({"name": "app7", "profile": "fast"}, {"name": UUID, "profile": "fast"})

    assert (found["names"], found["elsewhere"]) == (["db1"], ["app7"])
    assert [vm["name"] for key in ("resources", "cpu", "pinning") for vm in found[key]] == ["db1"] * 3


@pytest.mark.parametrize(
    ("vm", "words", "facts"),
    [
        ({"name": "db1", "profile": "fats"}, ["VM db1", "the profile fats, which does not exist", "fast, faster"],
         {"profile": "fats"}),
        ({"name": "db1", "profile": "orphan"}, ["The profile orphan extends the profile nobody"], {"vm": "db1"}),
        ({"name": "db1", "profile": "loop"}, ["VM db1", "loop extends loop2 extends loop"], {"profile": "loop"}),
        ({"name": "db1", "pining": {}}, ["VM db1 has the unknown key pining", "pinning"], {"key": "pining"}),
        ({"name": "db1", "vcpus": {"topology": {"core": 2}}}, ["VM db1", "vcpus.topology.core.", "cores"],
         {"key": "vcpus.topology.core"}),
        ({"name": "db1", "pinning": "dedicated"}, ["VM db1 has pinning that is no mapping"], {"key": "pinning"}),
        ({"name": "db1", "policy": {"migration": "never"}}, ["VM db1", "policy.migration 'never'", "pinned"],
         {"key": "policy.migration"}),
        ({"name": "db1", "profile": "fast", "pinning": {"policy": "strict"}},
         ["VM db1 (profile fast)", "policy is 'strict'"], {"key": "pinning.policy", "profile": "fast"}),
        ({"name": "db1", "pinning": {"policy": "numa", "thread_policy": "isolate"}}, ["VM db1", "has no effect"],
         {"key": "pinning.thread_policy"}),
        # Without a policy too, which the VM has stored then
        ({"name": "db1", "pinning": {"thread_policy": "isolat"}}, ["VM db1", "thread_policy is 'isolat'", "isolate"],
         {"key": "pinning.thread_policy"}),
        ({"name": "db1", "pinning": {"pins": {"vcpu": [{"vcpu": 0, "cpus": "1"}]}}},
         ["VM db1", "pins has no vcpu; it has policy, vcpus"], {"key": "pinning.pins.vcpu"}),
        ({"name": "db1", "pinning": {"policy": "manual", "pins": {"vcpus": [{"vcpu": 0, "cpu": "1"}]}}},
         ["VM db1", "pins.vcpus has no cpu; it has vcpu, cpus"], {"key": "pinning.pins.vcpus.cpu"}),
        ({"name": "db1", "pinning": {"pins": {"memory": {"mode": "strict", "node": "0"}}}},
         ["VM db1", "pins.memory has no node; it has mode, nodes"], {"key": "pinning.pins.memory.node"}),
        ({"name": "db1", "pinning": {"pins": {"cells": [{"id": 0, "nodes": "0"}]}}},
         ["VM db1", "pins.cells has no nodes; it has id, mode, node"], {"key": "pinning.pins.cells.nodes"}),
        ({"name": "db1", "pinning": {"pins": {"emulator": "1-"}}}, ["VM db1", "'1-'"], {"vm": "db1"}),
        ({"name": "db1", "pinning": {"pins": {"vcpus": [{"vcpu": 0, "cpus": "1"}] * 2}}}, ["names vCPU 0 twice"],
         {"key": "pinning.pins"}),
        ({"name": "db1", "profile": "fast", "pinning": {"pins": {"emulator": "1"}}},
         ["VM db1 (profile fast)", "the policy 'dedicated' chooses emulator itself"], {"key": "pinning.pins"}),
        ({"name": "db1", "pinning": {"pins": ["0"]}}, ["VM db1", "pins is no mapping"], {"key": "pinning.pins"}),
        ({"name": "db1", "profile": "fast", "cpu": {"fallback": "allow"}},
         ["VM db1 (profile fast)", "The mode host-passthrough takes no fallback"], {"key": "cpu.fallback"}),
        ({"name": "db1", "cpu": {"cpu": "<cpu/>", "match": "exact"}}, ["VM db1", "as XML and by options"],
         {"key": "cpu.cpu"}),
        ({"name": "db1", "iothreads": "many"}, ["VM db1", "iothreads is 'many'"], {"key": "iothreads"}),
        ({"name": "elsewhere", "cells": [{"vcpus": "0"}]}, ["VM elsewhere", "cells"], {"key": "cells"}),
    ],
)  # fmt: skip
def test_mistakes_name_the_vm_and_the_key(vm: dict[str, Any], words: list[str], facts: dict[str, str]) -> None:
    with pytest.raises(FleetError) as caught:
        tuned(vm)

    assert caught.value.code == "bad_profile"
    assert [word in caught.value.msg for word in words] == [True] * len(words), caught.value.msg
    assert facts.items() <= caught.value.facts.items()


@pytest.mark.parametrize(
    ("profiles", "words"),
    [
        ({"slow": {"pining": {}}}, "The profile slow has the unknown key pining"),
        ({"slow": {"profile": "fast"}}, "The profile slow has the unknown key profile"),
        ({"slow": "fast"}, "The profile slow is no mapping"),
        (["slow"], "The profiles are no mapping"),
    ],
)
def test_a_profile_is_checked_though_nobody_has_it(profiles: Any, words: str) -> None:
    with pytest.raises(FleetError) as caught:
        tuned_vms([], profiles, [])

    assert words in caught.value.msg


@pytest.mark.parametrize(
    ("vms", "words"),
    [
        ([{"name": "db1"}, {"name": "db1"}], "VM db1 is listed twice"),
        ([{"name": "db1"}, {"name": UUID}], "VM db1 is listed twice"),
        ([{"name": "db1"}, {"profile": "fast"}], "VM number 2 of the list has no name"),
        (["db1"], "VM number 1 of the list has no name"),
        ({"db1": {}}, "The VMs are no list"),
    ],
)
def test_a_list_that_is_none_is_refused(vms: Any, words: str) -> None:
    with pytest.raises(FleetError) as caught:
        tuned_vms(vms, {}, HERE)

    assert words in caught.value.msg


@pytest.mark.parametrize("profile", sorted(BUILT_IN))
def test_every_profile_of_the_role_can_be_used(profile: str) -> None:
    assert tuned({"name": "db1", "profile": profile}, profiles=BUILT_IN)["pinning"]


def test_hot_plug_is_a_setting_like_others() -> None:
    found = tuned({"name": "db1", "hot_plug": {"count": 3, "method": "agent"}})
    assert found["hot_plug"] == [{"name": "db1", "count": 3, "method": "agent"}]
    with pytest.raises(FleetError, match=r"hot_plug\.method"):
        tuned({"name": "db1", "hot_plug": {"method": "magic"}})


def test_the_profile_for_high_performance() -> None:
    found = tuned({"name": "db1", "profile": "high_performance"}, profiles=BUILT_IN)

    assert {key: found[key] for key in ("resources", "cpu", "pinning", "policy")} == {
        "resources": [{"name": "db1", "huge_pages_kib": 2048, "iothreads": 1, "drop_pins": True}],
        "cpu": [{"name": "db1", "mode": "host-passthrough", "migratable": True}],
        "pinning": [{"name": "db1", "policy": "dedicated"}],
        "policy": [{"name": "db1", "migration": "manual"}],
    }


def test_the_filter_tells_a_person() -> None:
    with pytest.raises(AnsibleFilterError, match="VM db1 is listed twice"):
        FilterModule().filters()["tuned_vms"]([{"name": "db1"}] * 2, {}, HERE)
    with pytest.raises(AnsibleFilterError, match="tuned_vms needs"):
        FilterModule().filters()["tuned_vms"]([], {}, [1])
