# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A CPU for VMs that come, go and change meanwhile, and what a running VM has of it."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, Callable

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt import (
    api,
    cpu,
    domains,
    running_cpu,
    snapshot,
    vm_cpu,
    vms,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.address_space import bits_needed
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.probe import Probe
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.running_cpu import RunningCpus
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.snapshot import CpuTable

from tests.unit.libvirt.binding import NO_DOMAIN, Libvirt, LibvirtError

NEW = "<cpu mode='custom' match='exact' check='partial'><model fallback='forbid'>kvm64</model>{}</cpu>".format
OLD = "<cpu mode='custom' match='exact' check='partial'><model>Westmere</model></cpu>"
NARROW = NEW("<maxphysaddr mode='emulate' bits='36'/>")
UUID = "0b6c2c3e-0000-4000-8000-00000000000a"
CAPABILITIES = "<domainCapabilities><domain>kvm</domain><arch>x86_64</arch></domainCapabilities>"


def domain_xml(cpu_xml: str = OLD, *, memory: str = "", arch: str = "x86_64", devices: str = "") -> str:
    return (
        f"<domain type='kvm'><name>a</name><uuid>{UUID}</uuid>{memory or '<memory>1048576</memory>'}<vcpu>1</vcpu>"
        f"<os><type arch='{arch}' machine='pc-q35-10.0'>hvm</type></os>{cpu_xml}<devices>{devices}</devices></domain>"
    )


class Host:
    """A libvirt with one VM that is off; `meanwhile` happens between the plan and the write.

    Methods have libvirt's names in the spelling of Python.
    """

    def __init__(self, xml: str = domain_xml(), meanwhile: Callable[[Host], None] = lambda host: None) -> None:
        self.xml: str | None = xml
        self.persistent = True
        self.defined: list[str] = []
        self._meanwhile = [meanwhile]

    def __getattr__(self, name: str) -> Any:
        spelt = re.sub("(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
        if spelt == name:
            raise AttributeError(name)
        return getattr(self, spelt)

    def name(self) -> str:
        return "a"

    def uuid_string(self) -> str:
        return UUID

    def is_persistent(self) -> bool:
        return self.persistent

    def is_active(self) -> bool:
        self._get()
        # The last call of a plan.
        while self._meanwhile:
            self._meanwhile.pop()(self)
        return False

    def has_managed_save_image(self, flags: int) -> bool:
        return False

    def xml_desc(self, flags: int) -> str:
        return self._get()

    def _get(self) -> str:
        if self.xml is None:
            raise LibvirtError("no domain", NO_DOMAIN)
        return self.xml

    def lookup_by_uuid_string(self, name: str) -> Host:
        return self

    lookup_by_name = lookup_by_uuid_string

    def list_all_domains(self, flags: int = 0) -> list[Host]:
        return [self]

    def get_hostname(self) -> str:
        return "hv1"

    def get_domain_capabilities(self, *asked: Any) -> str:
        return CAPABILITIES

    def define_xml_flags(self, xml: str, flags: int) -> Host:
        self.defined.append(xml)
        self.xml = xml
        return self


@pytest.fixture(autouse=True)
def _libvirt(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (api, cpu, domains, vms):
        monkeypatch.setattr(module, "libvirt", Libvirt())


def change(host: Host, cpu_xml: str = NEW(""), *, every: bool = False, **more: Any) -> vm_cpu.CpuChange:
    options = {"keep": [], "check_mode": False, **more}
    (only,) = vm_cpu.set_cpus(host, cpu_xml, None if every else ["a"], **options)
    return only


# What happens between the plan and the write


def leaves(host: Host) -> None:
    host.xml = None


@pytest.mark.parametrize("every", [False, True])
def test_a_vm_that_has_left_is_not_defined_here_again(every: bool) -> None:
    host = Host(meanwhile=leaves)
    found = change(host, every=every)
    assert (found.skipped, found.changed, host.defined) == ("it has left the host", False, [])


@pytest.mark.parametrize("every", [False, True])
def test_a_change_made_meanwhile_is_kept(every: bool) -> None:
    def gets_memory(host: Host) -> None:
        host.xml = domain_xml(memory="<memory>2097152</memory>")

    host = Host(meanwhile=gets_memory)
    found = change(host, every=every)
    assert "2097152" in host.defined[0]
    assert "kvm64" in host.defined[0]
    assert (found.changed, found.before, found.skipped) == (True, OLD.replace("'", '"'), None)


def test_a_vm_that_got_the_cpu_meanwhile_is_not_written_again() -> None:
    def gets_cpu(host: Host) -> None:
        host.xml = domain_xml(NEW(""))

    host = Host(meanwhile=gets_cpu)
    assert (change(host).changed, host.defined) == (False, [])


def loses_definition(host: Host) -> None:
    host.persistent = False


def test_a_vm_that_lost_its_definition_meanwhile_gets_none() -> None:
    host = Host(meanwhile=loses_definition)
    assert change(host, every=True).skipped == "it is transient: it has no definition"
    with pytest.raises(FleetError) as raised:
        change(Host(meanwhile=loses_definition))
    assert (raised.value.code, raised.value.facts["written"], host.defined) == ("vm_transient", [], [])


def test_another_error_is_not_taken_for_a_departure(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(host: Host) -> None:
        def refuse(flags: int) -> str:
            raise LibvirtError("no image")

        monkeypatch.setattr(host, "xml_desc", refuse)

    with pytest.raises(FleetError, match="Reading the definition of VM a: no image"):
        change(Host(meanwhile=breaks), every=True)


# Which VMs are left alone


@pytest.mark.parametrize("keep", ["a", UUID, UUID.upper()])
def test_a_vm_is_kept_by_name_and_by_uuid_in_any_case(keep: str) -> None:
    assert change(Host(), every=True, keep=[keep]).skipped == "it is to be kept"


def test_a_name_in_other_letters_is_another_vm() -> None:
    assert change(Host(), every=True, keep=["A"]).changed


def test_a_vm_for_another_machine_is_left_alone() -> None:
    assert "a kvm VM for aarch64" in str(change(Host(domain_xml(arch="aarch64")), every=True).skipped)


HUGE = "<maxMemory slots='16'>67108864</maxMemory><memory>1048576</memory>"


def test_a_cpu_too_narrow_for_the_memory_is_refused_by_name_and_skipped_for_all() -> None:
    host = Host(domain_xml(memory=HUGE))
    assert "from 37 address bits on, and the CPU has 36" in str(change(host, NARROW, every=True).skipped)
    with pytest.raises(FleetError) as raised:
        change(host, NARROW)
    assert (raised.value.code, raised.value.facts["vm"], host.defined) == ("address_bits", "a", [])
    assert change(host, NARROW.replace("36", "37")).changed
    # It may run with an old QEMU that does not look.
    assert not change(Host(domain_xml(NARROW, memory=HUGE)), NARROW).changed


@pytest.mark.parametrize(
    ("machine", "memory", "most", "slots", "hole", "bits"),
    [
        # QEMU 10.0 was asked for each of these: it starts with the bits and not with one less.
        ("pc-q35-10.0", 1, 28, 1, None, 36),
        ("pc-q35-10.0", 1, 29, 1, None, 37),
        ("pc-q35-10.0", 1, 28, 2, None, 37),
        ("pc-q35-10.0", 1, 13, 16, None, 36),
        ("pc-q35-10.0", 1, 14, 16, None, 37),
        ("pc-q35-10.0", 8, 29, 1, None, 36),
        ("pc-q35-10.0", 8, 30, 1, None, 37),
        ("pc-q35-10.0", 1, 28, 1, 40, 37),
        ("pc-q35-10.0", 1, 44, 1, 16, 36),
        ("pc-q35-10.0", 1, 988, 1, None, 40),
        ("pc-q35-10.0", 1, 990, 1, None, 41),
        ("pc-i440fx-10.0", 1, 58, 1, None, 36),
        ("pc-i440fx-10.0", 1, 59, 1, None, 37),
        ("pc-i440fx-10.0", 1, None, 0, None, 33),
        ("q35", 1, None, 0, None, 36),
        ("microvm", 1, None, 0, None, None),
    ],
)
def test_memory_slots_and_holes_need_addresses(
    machine: str, memory: int, most: int | None, slots: int, hole: int | None, bits: int | None
) -> None:
    gib = 1024 * 1024
    room = f"<maxMemory slots='{slots}' unit='KiB'>{most * gib}</maxMemory>" if most else ""
    pci = (
        f"<controller type='pci' index='0'><pcihole64 unit='KiB'>{hole * gib}</pcihole64></controller>" if hole else ""
    )
    xml = domain_xml(memory=f"{room}<memory unit='KiB'>{memory * gib}</memory>", devices=pci)
    assert bits_needed(xml.replace("pc-q35-10.0", machine)) == bits


# What a running VM has

MODELS = {"kvm64": "ab", "Westmere": "abc", "Haswell": "abcd", "EPYC": "abm"}
OWN = "<cpu mode='custom'><model>Westmere</model></cpu>"


class Expander:
    """Features are single letters; the host has a, b and c, and QEMU adds q to each of its models and knows no m."""

    def __init__(self, conn: None) -> None:
        pass

    def features(self, cpu_xml: str) -> frozenset[str]:
        described = running_cpu.parse_cpu(cpu_xml)
        return frozenset(MODELS[str(described.model)]).union(feature.name for feature in described.features)


@pytest.fixture
def _features(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(conn: None, cpu_xml: str) -> Probe:
        described = running_cpu.parse_cpu(cpu_xml)
        model = "Westmere" if described.mode == "host-model" else str(described.model)
        if model == "Haswell":
            return Probe(error="the host lacks d")
        return Probe(model, features=(*MODELS[model].rstrip("m"), "q", "hypervisor"))

    monkeypatch.setattr(running_cpu, "Expander", Expander)
    monkeypatch.setattr(running_cpu, "own_cpu_xml", lambda conn: OWN)
    monkeypatch.setattr(running_cpu, "expand", lambda conn, cpu_xml: Expander(None).features(cpu_xml))
    monkeypatch.setattr(running_cpu, "probe_cpu", probe)


def custom(model: str, more: str = "", bits: int | None = None) -> str:
    address = f"<maxphysaddr mode='emulate' bits='{bits}'/>" if bits else ""
    features = "".join(f"<feature policy='require' name='{name}'/>" for name in more.split())
    return f"<cpu mode='custom'><model>{model}</model>{address}{features}</cpu>"


HOST_MODEL, PASSTHROUGH = "<cpu mode='host-model'/>", "<cpu mode='host-passthrough'/>"


@pytest.mark.usefixtures("_features")
@pytest.mark.parametrize(
    ("running", "defined", "expected"),
    [
        (custom("kvm64", "q hypervisor ht"), custom("kvm64"), None),
        (custom("kvm64"), custom("Westmere"), {"missing": ["c"], "running_model": "kvm64"}),
        (custom("kvm64", "q"), custom("EPYC"), None),
        # The CPU of a managed-save image does not name what QEMU adds.
        (custom("kvm64"), custom("kvm64", "hypervisor"), None),
        (custom("Westmere", "q"), custom("kvm64"), {"extra": ["c"], "running_model": "Westmere"}),
        # It was started before the host lost d.
        (custom("Haswell"), custom("Westmere"), {"extra": ["d"], "running_model": "Haswell"}),
        # The definition cannot be started here, so nobody knows what QEMU would add.
        (custom("Westmere", "q"), custom("Haswell"), {"missing": ["d"], "extra": ["q"], "running_model": "Westmere"}),
        (
            custom("kvm64", bits=40),
            custom("kvm64", bits=41),
            {"address_bits": {"running": 40, "defined": 41}, "running_model": "kvm64"},
        ),
        (
            custom("kvm64"),
            custom("kvm64", bits=40),
            {"address_bits": {"running": None, "defined": 40}, "running_model": "kvm64"},
        ),
        # libvirt makes a list of features of a host-model that is started, and nothing of a host-passthrough.
        (custom("Westmere", "q hypervisor"), HOST_MODEL, None),
        (custom("kvm64"), HOST_MODEL, {"missing": ["c"], "running_model": "kvm64"}),
        (custom("Haswell"), HOST_MODEL, {"extra": ["d"], "running_model": "Haswell"}),
        (PASSTHROUGH, PASSTHROUGH, None),
        (HOST_MODEL, HOST_MODEL, None),
        (PASSTHROUGH, custom("kvm64"), {"extra": ["c"], "mode": {"running": "host-passthrough", "defined": "custom"}}),
        (PASSTHROUGH, HOST_MODEL, {"mode": {"running": "host-passthrough", "defined": "host-model"}}),
        ("", custom("kvm64"), {"mode": {"running": None, "defined": "custom"}}),
    ],
)
def test_a_restart_is_due_if_it_gives_another_cpu(running: str, defined: str, expected: dict[str, Any] | None) -> None:
    same = {"missing": [], "extra": [], "mode": None, "address_bits": None, "running_model": None}
    found = RunningCpus(None, defined).difference(domain_xml(running), defined)
    assert found == (expected and {**same, **expected})


@pytest.mark.usefixtures("_features")
def test_a_vm_that_is_off_needs_no_restart() -> None:
    assert RunningCpus(None, NEW("")).difference(None, NEW("")) is None


@pytest.mark.parametrize(
    ("domain", "seen"),
    [
        (SimpleNamespace(isActive=lambda: True, XMLDesc=lambda flags: "live"), "live"),
        (SimpleNamespace(isActive=lambda: False, hasManagedSaveImage=lambda flags: 0), None),
        (
            SimpleNamespace(
                isActive=lambda: False, hasManagedSaveImage=lambda flags: 1, managedSaveGetXMLDesc=lambda flags: "image"
            ),
            "image",
        ),
        # Bindings before 3.7.
        (SimpleNamespace(isActive=lambda: False, hasManagedSaveImage=lambda flags: 1), None),
    ],
)
def test_a_saved_vm_counts_with_its_image(domain: SimpleNamespace, seen: str | None) -> None:
    domain.name = lambda: "a"
    assert domains.running_xml(domain) == seen


# Entries of the snapshot


class Listed(Host):
    """A VM in the bulk calls of the snapshot, off unless told otherwise, and its image if it is saved."""

    def __init__(self, xml: str, image: str | None = None, state: int = 5) -> None:
        super().__init__(xml)
        self.image, self.state = image, state

    def get_all_domain_stats(self, *asked: int) -> list[tuple[Host, dict[str, int]]]:
        return [(self, {"state.state": self.state})]

    def get_info(self) -> list[str]:
        return ["x86_64"]

    def list_all_domains(self, flags: int = 0) -> list[Host]:
        return [] if flags == 1 and self.image is None else [self]

    def snapshot_num(self, flags: int) -> int:
        return 0

    def has_managed_save_image(self, flags: int) -> bool:
        return self.image is not None

    def managed_save_get_xml_desc(self, flags: int) -> str:
        return str(self.image)


def entry(monkeypatch: pytest.MonkeyPatch, host: Listed) -> tuple[dict[str, Any], dict[str, Any]]:
    monkeypatch.setattr(vms, "libvirt", Libvirt(VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE=1))
    monkeypatch.setattr(cpu, "expand_foreign", lambda conn, xml: Expander(None).features(xml))
    monkeypatch.setattr(snapshot, "expand", lambda conn, xml: Expander(None).features(xml) & set("abc"))
    table = CpuTable(host)
    (record,) = vms.read_vms(host, "hv1", "the host's", table)
    return record, table.entries


@pytest.mark.parametrize(("arch", "given"), [("x86_64", True), ("i686", True), ("aarch64", False)])
def test_a_vm_of_another_architecture_has_none_of_the_hosts_machine_types(
    monkeypatch: pytest.MonkeyPatch, arch: str, given: bool
) -> None:
    record, _entries = entry(monkeypatch, Listed(domain_xml(arch=arch)))
    assert ("machine_type" in record, "cpu" in record, "saved" in record) == (given, given, False)


@pytest.mark.parametrize(
    ("image", "features", "bits"),
    [(custom("Haswell", bits=40), list("abc"), 40), (HOST_MODEL, None, None), (PASSTHROUGH, None, None)],
)
def test_a_saved_vm_has_the_cpu_with_which_it_resumes(
    monkeypatch: pytest.MonkeyPatch, image: str, features: list[str] | None, bits: int | None
) -> None:
    record, entries = entry(monkeypatch, Listed(domain_xml(), domain_xml(image)))
    found = entries.get(record["cpu"], {})
    assert (record["saved"], found.get("features"), found.get("address_bits")) == (True, features, bits)
    assert found or record["cpu"] == "the host's"


@pytest.mark.parametrize(("state", "features"), [(1, "abcd"), (3, "abcd"), (5, "abc")])
def test_only_a_vm_that_runs_may_have_what_the_host_has_not(
    monkeypatch: pytest.MonkeyPatch, state: int, features: str
) -> None:
    record, entries = entry(monkeypatch, Listed(domain_xml(custom("Haswell", bits=39)), state=state))
    found = entries[record["cpu"]]
    assert (found["features"], found["address_bits"]) == (list(features), 39)
