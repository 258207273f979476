# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Machine types of VMs where libvirt does what no libvirt of the lab does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt import api, domains
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.vm_machine_type import (
    HostTypes,
    MachineChange,
    MachineWish,
    diff_texts,
    set_machine_types,
)

from tests.unit.libvirt.binding import Libvirt

CAPABILITIES = """
<capabilities>
  <guest><os_type>hvm</os_type><arch name='x86_64'>
    <machine maxCpus='288' deprecated='yes'>pc-q35-2.4</machine>
    <machine maxCpus='288'>pc-q35-9.2</machine>
    <machine maxCpus='4096'>pc-q35-10.0</machine>
    <machine canonical='pc-q35-10.0' maxCpus='4096'>q35</machine>
  </arch></guest>
  <guest><os_type>hvm</os_type><arch name='i686'><machine maxCpus='288'>pc-q35-9.2</machine></arch></guest>
  <guest><os_type>hvm</os_type><arch name='aarch64'>
    <machine>virt-9.2</machine><machine>virt-10.0</machine>
  </arch></guest>
</capabilities>
"""
ADDRESS = "<address type='pci' domain='0x0000' bus='0x00' slot='0x03' function='0x0'/>"


def domain(machine: str, *, arch: str = "x86_64", vcpus: int = 1, slot: str = "0x03", name: str = "a") -> str:
    return (
        f"<domain type='kvm'><name>{name}</name><uuid>{name}</uuid><memory>1048576</memory><vcpu>{vcpus}</vcpu>"
        f"<os><type arch='{arch}' machine='{machine}'>hvm</type></os><devices><disk type='file'>"
        f"<target dev='vda' bus='virtio'/>{ADDRESS.replace('0x03', slot)}</disk></devices></domain>"
    )


class Vm:
    """A VM that is off, or has a managed-save image with the XML ``saved``."""

    def __init__(self, xml: str, saved: str | None = None) -> None:
        self.xml = xml
        self.isPersistent = lambda: True
        self.isActive = lambda: False
        self.XMLDesc = lambda flags: self.xml
        self.hasManagedSaveImage = lambda flags: saved is not None
        self.managedSaveGetXMLDesc = lambda flags: saved


class Host:
    """A connection; ``kept`` is what libvirt makes of a definition that it is given."""

    def __init__(self, kept: Callable[[str], str] = str, **vms: Vm) -> None:
        self.written: list[str] = []
        self._kept, self._vms = kept, vms
        for name, vm in vms.items():
            vm.name = vm.UUIDString = lambda name=name: name
        self.getCapabilities = lambda: CAPABILITIES
        self.getHostname = lambda: "hv1"
        self.getInfo = lambda: ["x86_64"]
        self.lookupByUUIDString = self.lookupByName = vms.__getitem__
        self.defineXMLFlags = lambda xml, flags: self._define(xml)

    def _define(self, xml: str) -> Vm:
        self.written.append(xml)
        vm = next(vm for name, vm in self._vms.items() if f"<name>{name}</name>" in xml)
        vm.xml = self._kept(xml)
        return vm


@pytest.fixture(autouse=True)
def _libvirt(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (api, domains):
        monkeypatch.setattr(module, "libvirt", Libvirt())


def change(host: Host, machine: str | None, *hosts: HostTypes, check_mode: bool = False) -> MachineChange:
    (found,) = set_machine_types(host, [MachineWish("a", machine)], hosts, check_mode)
    return found


def refusal(host: Host, *wanted: str | None) -> FleetError:
    wishes = [MachineWish(name, machine) for name, machine in zip("ab", wanted, strict=False)]
    with pytest.raises(FleetError) as caught:
        set_machine_types(host, wishes, [], check_mode=False)
    return caught.value


def other(*names: str, host: str = "hv2") -> HostTypes:
    return HostTypes(host, frozenset(names))


@pytest.mark.parametrize(
    ("kept", "moved"),
    [
        (lambda xml: xml.replace('slot="0x03"', 'slot="0x04"') if '"pc-q35-10.0"' in xml else xml, ["disk vda"]),
        (
            lambda xml: xml.partition("<disk")[0] + "</devices></domain>" if '"pc-q35-10.0"' in xml else xml,
            ["disk vda"],
        ),
    ],
)
def test_a_device_that_libvirt_moves_or_drops_is_put_back(kept: Callable[[str], str], moved: list[str]) -> None:
    host = Host(kept, a=Vm(domain("pc-q35-9.2")), b=Vm(domain("pc-q35-9.2", name="b")))

    error = refusal(host, "newest", "newest")

    assert (error.code, error.facts["vm"], error.facts["devices"]) == ("addresses_changed", "a", moved)
    assert (error.facts["rolled_back"], error.facts["not_rolled_back"]) == (True, [])
    assert host.written[-1] == domain("pc-q35-9.2")
    assert not any("<name>b" in xml for xml in host.written)


def test_a_vm_written_before_another_fails_is_put_back() -> None:
    def kept(xml: str) -> str:
        return xml.replace("10.0", "9.2") if "<name>b" in xml else xml

    host = Host(kept, a=Vm(domain("pc-q35-9.2")), b=Vm(domain("pc-q35-9.2", name="b")))

    error = refusal(host, "q35", "q35")

    assert (error.code, error.facts["vm"], error.facts["rolled_back"]) == ("not_applied", "b", True)
    assert host.lookupByUUIDString("a").xml == domain("pc-q35-9.2")


def test_an_alias_in_a_definition_is_reported_and_replaced_if_asked_for() -> None:
    host = Host(a=Vm(domain("q35")))

    report = change(host, None).as_dict()
    assert (report["machine_type"], report["canonical"], report["is_alias"]) == ("q35", "pc-q35-10.0", True)
    assert (report["changed"], report["newer"]) == (False, None)
    done = change(host, "q35").as_dict()
    assert (done["changed"], done["machine_type"], done["is_alias"]) == (True, "pc-q35-10.0", False)


def test_a_type_that_the_host_does_not_have_is_reported_as_unknown() -> None:
    report = change(Host(a=Vm(domain("pc-q35-99.0"))), None, other("pc-q35-10.0")).as_dict()

    assert (report["canonical"], report["deprecated"], report["is_alias"]) == (None, None, False)
    assert (report["missing_on"], report["newer"]) == (["hv2"], None)


def test_a_deprecated_type_is_reported_and_warned_about_when_it_is_given() -> None:
    assert change(Host(a=Vm(domain("pc-q35-2.4"))), None).as_dict()["deprecated"]
    assert change(Host(a=Vm(domain("pc-q35-2.4"))), "pc-q35-2.4").warnings == ()
    (warning,) = change(Host(a=Vm(domain("pc-q35-9.2"))), "pc-q35-2.4").warnings
    assert "VM a gets the machine type pc-q35-2.4, which is deprecated" in warning


def test_more_vcpus_than_the_type_has_are_refused() -> None:
    host = Host(a=Vm(domain("pc-q35-10.0", vcpus=289)))

    error = refusal(host, "pc-q35-9.2")

    assert (error.code, error.facts["maximum"], host.written) == ("vcpus", 288, [])
    assert change(Host(a=Vm(domain("pc-q35-10.0", vcpus=288))), "pc-q35-9.2").changed


def test_the_lists_of_hosts_count_for_their_own_architecture() -> None:
    listed = other("pc-q35-10.0", "virt-9.2")
    arm = Host(a=Vm(domain("virt-9.2", arch="aarch64")))

    assert change(arm, None, listed).as_dict()["missing_on"] is None
    assert change(arm, "newest", listed).after == "virt-10.0"
    old = change(Host(a=Vm(domain("pc-q35-9.2", arch="i686"))), None, listed)
    assert old.as_dict()["missing_on"] == ["hv2"]


def test_the_newest_of_all_hosts_may_be_an_older_one() -> None:
    lists = [other("pc-q35-9.2", "pc-q35-10.0"), other("pc-q35-2.4", "pc-q35-9.2", host="hv3")]
    assert change(Host(a=Vm(domain("pc-q35-10.0"))), "newest", *lists).after == "pc-q35-9.2"


def test_a_board_that_became_another_meanwhile_stays() -> None:
    vm = Vm(domain("pc-q35-9.2"))
    host, reads = Host(a=vm), iter(["pc-q35-9.2", "pc-i440fx-9.2", "pc-i440fx-9.2"])
    vm.XMLDesc = lambda flags: domain(next(reads))

    error = refusal(host, "q35")

    assert (error.code, host.written, error.facts["rolled_back"]) == ("machine_board", [], True)


def test_check_mode_writes_nothing_and_tells_what_would_be() -> None:
    host = Host(a=Vm(domain("pc-q35-9.2")))
    found = change(host, "newest", check_mode=True)
    assert (found.as_dict()["machine_type"], found.changed, host.written) == ("pc-q35-10.0", True, [])
    assert diff_texts([found]) == ("VM a\npc-q35-9.2\n", "VM a\npc-q35-10.0\n")


def test_a_saved_vm_counts_as_running() -> None:
    host = Host(a=Vm(domain("pc-q35-10.0"), saved=domain("pc-q35-9.2", slot="0x05")))

    report: dict[str, Any] = change(host, None).as_dict()

    assert (report["running"], report["restart_required"]) == ("pc-q35-9.2", True)
    (differing,) = report["addresses"]["differing"]
    assert (differing["running"], differing["defined"]) == ("pci 0000:00:05.0", "pci 0000:00:03.0")
