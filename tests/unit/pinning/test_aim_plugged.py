# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""VMs that got or gave up vCPUs since their pins were chosen, and VMs whose CPUs numad chooses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    Pinning,
    PinningPolicy,
    VcpuPin,
    migration_mode,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning import HostState, Wish
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import format_cpuset

from tests.unit.pinning.residents import GIB, Vm, aimed, carried, host, vm, wish
from tests.unit.pinning.small import cells

EIGHT = host(cells("0 1 2 3 4 5 6 7", (100 * GIB,)))
OWN, ALONE, BY_HAND, NONE = (
    PinningPolicy("dedicated"),
    PinningPolicy("dedicated", emulator="isolate"),
    PinningPolicy("manual"),
    PinningPolicy("none"),
)


def run(vms: Sequence[Vm], *wishes: Wish, state: HostState = EIGHT) -> list[Vm]:
    return carried(state, list(vms), aimed(state, list(vms), *wishes), *wishes)


def claims(vms: Sequence[Vm], *wishes: Wish) -> dict[str, str]:
    return {each.vm: format_cpuset(each.cpus) for each in aimed(EIGHT, list(vms), *wishes).claims}


def with_vcpus(each: Vm, current: int) -> Vm:
    """Plug or unplug vCPUs of the running VM, as virsh does: their pins stay in the XML."""
    assert each.live
    return replace(each, live=re.sub(r"<vcpu([^>]*)>\d+</vcpu>", rf"<vcpu\1 current='{current}'>2</vcpu>", each.live))


def test_a_plugged_vcpu_of_a_dedicated_vm_owns_nothing_until_its_pins_are_chosen() -> None:
    (db,) = run([vm("db", vcpus=1)], wish("db", OWN))
    vms = run([with_vcpus(db, 2), vm("web")])
    for _again in range(2):
        assert claims(vms) == {"db": "0"}
        vms = run(vms)
    assert "vCPU 1 of VM db has no CPU for itself, as the VM's others have. Choose the VM's pins anew." in (
        aimed(EIGHT, vms).warnings
    )
    assert claims(vms, wish("web", OWN)) == {"db": "0", "web": "1-2"}
    found = aimed(EIGHT, vms, wish("db", replace(OWN), apply_to="live"))
    assert [format_cpuset(each.cpus) for each in found.claims] == ["0-1"]
    assert not any("vCPU 1 of VM db" in text for text in found.warnings)


def test_a_vcpu_owns_the_cpu_to_which_its_user_had_confined_the_vm() -> None:
    vms = run([vm("db", Pinning(cpuset="0"), vcpus=1)], wish("db", ALONE, apply_to="live"))
    assert claims(vms) == {"db": "0-1"}
    assert claims(run(vms)) == {"db": "0-1"}


def test_an_unplugged_vcpu_owns_nothing_and_its_pin_is_nobodys() -> None:
    vms = run([vm("db", vcpus=2), vm("app", vcpus=1)], wish("db", OWN))
    vms = [with_vcpus(vms[0], 1), vms[1]]
    # Its definition still has both.
    vms = run(vms, wish("db", OWN, apply_to="definition"))
    live = vms[0].resident.live
    assert live
    assert [pin.vcpu for pin in live.pinning.vcpus] == [0]
    assert claims(vms) == {"db": "0-1"}


def test_pins_that_a_floating_vm_followed_stay_ours_when_a_vcpu_is_unplugged() -> None:
    vms = run([vm("app", vcpus=2), vm("db", vcpus=1)], wish("db", OWN))
    vms = run([with_vcpus(vms[0], 1), vms[1]], wish("db", ALONE))
    live = vms[0].resident.live
    assert live
    assert (live.own_pinning.vcpus, migration_mode(live)) == ((), "automatic")
    assert claims([*vms, vm("x", vcpus=3)], wish("x", OWN)) == {"db": "0-1", "x": "2-4"}


def test_a_floating_vm_with_an_unplugged_vcpu_can_get_cpus_of_its_own() -> None:
    vms = run([vm("app", vcpus=2), vm("db", vcpus=1)], wish("db", OWN))
    vms = run([with_vcpus(vms[0], 1), vms[1]], wish("app", OWN, apply_to="live"))
    for _again in range(2):
        assert claims(vms) == {"app": "1", "db": "0"}
        vms = run(vms)


def test_a_pin_by_hand_is_written_though_the_thread_runs_there_anyway() -> None:
    given = Pinning(vcpus=(VcpuPin(1, "0"),), cpuset="5")
    vms = run([vm("web", Pinning(cpuset="0"))], wish("web", BY_HAND, pins=given))
    for _again in range(2):
        live = vms[0].resident.live
        assert live
        assert {pin.vcpu: pin.cpus for pin in live.pinning.vcpus} == {0: "5", 1: "0"}
        assert live.own_pinning.vcpus == (VcpuPin(1, "0"),)
        vms = run(vms)


def test_a_set_for_a_definition_that_numad_served_is_narrowed_at_once() -> None:
    vms = [*run([vm("db")], wish("db", OWN)), vm("web", Pinning(cpuset="auto"), state="definition")]
    asked = wish("web", NONE, pins=Pinning(cpuset="0-3"))
    vms = run(vms, asked)
    for _again in range(2):
        (defined,) = vms[1].states
        assert (defined.pinning.cpuset, defined.own_pinning.cpuset) == ("2-3", "0-3")
        vms = run(vms, asked)


def test_a_running_vm_leaves_cpus_of_others_though_numad_is_to_serve_its_next_start() -> None:
    asked = [wish("db", OWN), wish("web", NONE, pins=Pinning(cpuset="auto"))]
    vms = run([vm("db"), vm("web", Pinning(cpuset="0-3"))], *asked)
    live, defined = vms[1].states
    assert {pin.cpus for pin in live.pinning.vcpus} == {"2-7"}
    assert defined.pinning.cpuset == "auto"


def test_vms_for_which_numad_chooses_are_named_where_cpus_belong_to_somebody() -> None:
    auto = vm("web", Pinning(cpuset="auto"))
    text = (
        "numad chooses the CPUs of web, perhaps such as other VMs have for themselves. Give these VMs a policy, or a "
        "cpuset."
    )
    assert text in aimed(EIGHT, [auto, vm("db")], wish("db", OWN)).warnings
    assert text not in aimed(EIGHT, [auto]).warnings
