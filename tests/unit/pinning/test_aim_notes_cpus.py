# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""VMs that have or use CPUs otherwise than the host divides them now: refused where asked for, else told."""

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import Pinning, PinningPolicy
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning import HostState, Wish
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import format_cpuset

from tests.unit.pinning.residents import Vm, aimed, host, pins, vm, wish
from tests.unit.pinning.small import cells, dedicated

PLAIN = host(cells("0 1 2 3 4 5", memory=[1 << 30]))
ISOLATED = host(PLAIN.cells, isolated="4-5")
FREE, SHARE = PinningPolicy(), dedicated(emulator="share")
DB1 = vm("db1", pins("4 5 | 0-3", "strict 0", cpuset="0-3"), SHARE)


def refused(state: HostState, vms: list[Vm], *wishes: Wish, keep_free: str = "") -> FleetError:
    free = frozenset(int(cpu) for cpu in keep_free.split())
    with pytest.raises(FleetError) as caught:
        aimed(state, vms, *wishes, keep_free=free)
    return caught.value


def limited(cpuset: str) -> Wish:
    return wish("web", FREE, pins=Pinning(cpuset=cpuset))


@pytest.mark.parametrize(
    ("state", "vms", "cpuset", "code", "words"),
    [
        (PLAIN, [DB1], "4-5", "cpu_owned", "but VM db1 has it for itself."),
        (PLAIN, [DB1], "5", "cpu_owned", "but VM db1 has it for itself."),
        (ISOLATED, [], "4-5", "policy_isolation", "the host isolates it"),
        (ISOLATED, [], "4", "policy_isolation", "VM web is to float on CPU 4, but the host isolates it."),
        (host(PLAIN.cells, machine="0-3"), [], "4", "cpu_not_allowed", "the host lets VMs use 0-3 only"),
    ],
)
def test_a_set_of_which_nothing_is_shared_is_not_given(
    state: HostState, vms: list[Vm], cpuset: str, code: str, words: str
) -> None:
    error = refused(state, [vm(), *vms], limited(cpuset))
    assert (error.code, error.facts["vm"]) == (code, "web")
    assert words in error.msg


@pytest.mark.parametrize("wishes", [[], [limited("4-5")]], ids=["nobody asked", "asked before"])
def test_a_set_of_which_nothing_is_left_is_widened_and_told(wishes: list[Wish]) -> None:
    found = aimed(PLAIN, [vm(own=Pinning(cpuset="4-5")), DB1], *wishes)
    assert found.aims[-1].defined == Pinning(cpuset="0-3")
    assert found.warnings[0] == (
        "VM web is to float on CPU 4-5, but none of it is shared, so it floats on all CPUs that are. "
        "Give it a cpuset with shared CPUs."
    )
    assert not any("is to float" in text for text in aimed(PLAIN, [vm(own=Pinning(cpuset="3-5")), DB1]).warnings)
    by_hand = vm(own=pins("0 1 | 2", cpuset="4-5"))
    assert not any("is to float" in text for text in aimed(PLAIN, [by_hand, DB1]).warnings)


def test_what_is_kept_free_must_exist_and_be_nobodys() -> None:
    error = refused(PLAIN, [], keep_free="3 9")
    assert (error.code, error.facts["cpus"]) == ("no_such_cpu", "9")
    assert aimed(host(PLAIN.cells, offline="5"), [], keep_free=frozenset({5})).aims == ()

    error = refused(PLAIN, [DB1], keep_free="3 4")
    assert (error.code, error.facts["conflicts"]) == ("conflict", [{"vms": ["db1"], "cpus": "4"}])
    assert error.msg.startswith("CPU 4 cannot be kept free for a VM that arrives: VM db1 has it for itself.")
    assert aimed(PLAIN, [DB1], wish("db1", SHARE), keep_free=frozenset({3, 4})).claims[0].cpus == frozenset({0, 1})


@pytest.mark.parametrize(
    ("state", "vms", "keep_free", "shared"),
    [
        (PLAIN, [], "", "0-5"),
        (PLAIN, [DB1], "", "0-3"),
        (PLAIN, [DB1], "3", "0-2"),
        (ISOLATED, [], "", "0-3"),
        (host(PLAIN.cells, isolated="0-5"), [DB1], "", "0-3"),
    ],
)
def test_the_shared_cpus_are_those_that_floating_threads_get(
    state: HostState, vms: list[Vm], keep_free: str, shared: str
) -> None:
    found = aimed(state, [*vms, vm()], keep_free=frozenset(int(cpu) for cpu in keep_free))
    assert format_cpuset(found.shared) == shared
    assert all(each.defined is None or each.defined.cpuset == shared for each in found.aims if each.name == "web")


@pytest.mark.parametrize(
    ("state", "vms", "words"),
    [
        (host(PLAIN.cells, offline="5"), [DB1], "VM db1 has CPU 5 for itself, but that is offline."),
        (host(PLAIN.cells, isolated="3-4"), [DB1], "VM db1 has CPU 5 for itself, but the host isolates others"),
        (ISOLATED, [DB1], None),
        (ISOLATED, [vm("old", pins("0 3-5"))], "VM old has pins by hand with several CPUs for one thread, and the host "
                                               "isolates CPU 4-5, so"),
        (ISOLATED, [vm("old", pins("4 5"))], None),
        (PLAIN, [vm("old", pins("4-5 5"))], None),
    ],
)  # fmt: skip
def test_pins_that_the_host_no_longer_suits_are_told(state: HostState, vms: list[Vm], words: str | None) -> None:
    found = aimed(state, vms).warnings
    assert len(found) == (words is not None), found
    assert words is None or found[0].startswith(words)


def test_vms_that_stay_on_cpus_of_others_are_named() -> None:
    vms = [vm(), vm("app", Pinning(cpuset="0-1")), vm("old", pins("4 5 | 4")), DB1]
    assert "stay on" not in " ".join(aimed(PLAIN, vms).warnings)
    assert [text for text in aimed(PLAIN, vms, float_others=False).warnings if "stay on" in text] == [
        "Threads of web stay on CPUs that other VMs have for themselves (4-5), as float_others is off. "
        "Let them float later."
    ]
