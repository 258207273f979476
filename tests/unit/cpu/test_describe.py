# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._cpu import (
    AddressBits,
    CpuModel,
    CpuTopology,
    DomainCapabilities,
    Feature,
    Signature,
    TscCounter,
    from_domain_capabilities,
    host_cpu_xml,
    parse_cpu,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError

FIXTURES = Path(__file__).parent / "fixtures"


def fixture(name: str) -> str:
    return (FIXTURES / name).read_text(encoding="utf-8")


def test_a_host_cpu_has_address_bits_microcode_signature_and_tsc() -> None:
    cpu = parse_cpu(fixture("capabilities.xml"))

    assert (cpu.arch, cpu.mode, cpu.model, cpu.vendor) == ("x86_64", None, "Haswell-noTSX-IBRS", "Intel")
    assert cpu.address == AddressBits(mode="emulate", bits=46)
    assert cpu.microcode == 73
    assert cpu.signature == Signature(family=6, model=63, stepping=2)
    assert cpu.tsc == TscCounter(frequency_hz=2394230000, scaling=False)
    assert cpu.features == (Feature("vme"), Feature("invtsc"), Feature("aes"))


def test_the_host_cpu_can_be_taken_out_of_capabilities() -> None:
    xml = host_cpu_xml(fixture("capabilities.xml"))

    assert xml.startswith("<cpu>")
    assert parse_cpu(xml) == parse_cpu(fixture("capabilities.xml"))


@pytest.mark.parametrize("host", ["<host/>", "<host><cpu><arch>x86_64</arch></cpu></host>"])
def test_a_host_whose_cpu_libvirt_does_not_know_is_refused(host: str) -> None:
    with pytest.raises(FleetError, match="no CPU model") as caught:
        host_cpu_xml(f"<capabilities>{host}</capabilities>")

    assert caught.value.code == "no_cpu"


def test_a_guest_cpu_keeps_what_belongs_to_the_vm_as_text() -> None:
    cpu = parse_cpu(
        "<domain xmlns:qemu='urn:q'><cpu mode='custom' match='exact' check='full' migratable='on'>"
        "<model fallback='forbid' vendor_id='KVMKVMKVM   '>Haswell</model><vendor>Intel</vendor>"
        "<topology sockets='2' dies='1' clusters='1' cores='2' threads='2'/><cache level='3' mode='emulate'/>"
        "<maxphysaddr mode='passthrough' limit='39'/><feature policy='disable' name='arat'/>"
        "<numa><cell id='0' cpus='0-7' memory='8' unit='GiB'/></numa></cpu></domain>"
    )

    assert (cpu.mode, cpu.match, cpu.check, cpu.migratable) == ("custom", "exact", "full", "on")
    assert (cpu.model, cpu.fallback, cpu.vendor_id) == ("Haswell", "forbid", "KVMKVMKVM   ")
    assert cpu.topology == CpuTopology(sockets=2, dies=1, clusters=1, cores=2, threads=2)
    assert cpu.address == AddressBits(mode="passthrough", limit=39)
    assert cpu.features == (Feature("arat", "disable"),)
    assert cpu.numa == '<numa><cell id="0" cpus="0-7" memory="8" unit="GiB"/></numa>'
    assert cpu.cache == ('<cache level="3" mode="emulate"/>',)


def test_other_documents_are_refused() -> None:
    with pytest.raises(FleetError, match="is a <network>") as caught:
        parse_cpu("<network/>")
    assert caught.value.code == "bad_xml"

    with pytest.raises(FleetError, match="has no <cpu>") as caught:
        parse_cpu("<domain/>")
    assert caught.value.code == "no_cpu"


def test_domain_capabilities_name_machine_models_and_blockers() -> None:
    offered = from_domain_capabilities(fixture("domcapabilities.xml"))

    assert (offered.virt_type, offered.machine, offered.arch) == ("kvm", "pc-q35-10.0", "x86_64")
    assert (offered.emulator, offered.vcpus_max) == ("/usr/bin/qemu-system-x86_64", 4096)
    assert offered.models == (
        CpuModel("Cascadelake-Server", usable=False, vendor="Intel", blockers=("avx512f", "pku")),
        CpuModel("Haswell", usable=True, vendor="Intel"),
        CpuModel("qemu64", usable=True, vendor="unknown", deprecated=True),
    )
    assert offered.usable_models == {"Haswell", "qemu64"}


@pytest.mark.parametrize(
    ("virt_type", "vendor", "features"),
    [("kvm", "AMD", {"topoext"}), ("kvm", "Hygon", {"topoext"}), ("kvm", "Intel", set()), ("qemu", "AMD", set())],
)
def test_kvm_gives_what_the_models_of_amd_bring_and_the_host_model_lacks(
    virt_type: str, vendor: str, features: set[str]
) -> None:
    cpu = f"<cpu mode='custom'><model>EPYC</model><vendor>{vendor}</vendor></cpu>"
    assert DomainCapabilities(virt_type, "q35", "x86_64", host_model_xml=cpu).on_request == features
    assert DomainCapabilities(virt_type, "q35", "x86_64").on_request == set()


def test_the_host_model_becomes_a_guest_cpu() -> None:
    offered = from_domain_capabilities(fixture("domcapabilities.xml"))

    assert offered.host_model_xml is not None
    cpu = parse_cpu(offered.host_model_xml)
    assert (cpu.arch, cpu.mode, cpu.match, cpu.model) == (None, "custom", "exact", "Haswell-noTSX-IBRS")
    assert cpu.address == AddressBits(mode="passthrough", limit=46)
    assert cpu.features == (Feature("vme", "require"), Feature("hypervisor", "require"), Feature("arat", "disable"))


@pytest.mark.parametrize(
    "mode",
    [
        "",
        "<mode name='host-model' supported='no'/>",
        "<mode name='host-model' supported='no'><model>a</model></mode>",
        "<mode name='host-model' supported='yes'/>",
    ],
)
def test_a_hypervisor_without_host_model_has_none(mode: str) -> None:
    offered = from_domain_capabilities(f"<domainCapabilities><cpu>{mode}</cpu></domainCapabilities>")

    assert offered.host_model_xml is None
    assert offered.models == ()
