# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What a host and its hypervisor offer, from capabilities and domain capabilities."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import FrozenSet, Optional, Tuple

from .. import _xml
from .._errors import FleetError
from ._describe import parse_cpu

# KVM can give it to every guest, and QEMU's EPYC models have it. Yet libvirt's host-model lacks it, for QEMU leaves out
# of the CPU `host` what must fit the topology (feature_word_info and kvm_arch_get_supported_cpuid in target/i386).
ON_REQUEST = frozenset({"topoext"})
_AMD = ("AMD", "Hygon")


@dataclass(frozen=True)
class CpuModel:
    """A named CPU model of the hypervisor; ``blockers`` are the features the host lacks for it (libvirt 10.9 on)."""

    name: str
    usable: bool
    vendor: Optional[str] = None
    deprecated: bool = False
    blockers: Tuple[str, ...] = ()


@dataclass(frozen=True)
class DomainCapabilities:
    """What one hypervisor binary offers. ``machine`` is the canonical type, also when an alias was asked for.

    ``host_model_xml`` is a guest ``<cpu>`` for baselines and comparisons; ``None`` where host-model is not supported.
    """

    virt_type: str
    machine: str
    arch: str
    emulator: Optional[str] = None
    vcpus_max: Optional[int] = None
    host_model_xml: Optional[str] = None
    models: Tuple[CpuModel, ...] = ()

    @property
    def on_request(self) -> FrozenSet[str]:
        """Features that guests get if they ask for them, or their model does, besides those of the host-model."""
        vendor = self.host_model_xml and parse_cpu(self.host_model_xml).vendor
        return ON_REQUEST if self.virt_type == "kvm" and vendor in _AMD else frozenset()

    @property
    def usable_models(self) -> FrozenSet[str]:
        """Names of the models the host can run."""
        return frozenset(model.name for model in self.models if model.usable)


def host_cpu_xml(capabilities_xml: str) -> str:
    """Return the host's ``<cpu>`` out of ``virConnectGetCapabilities``; code ``no_cpu`` when it names no model."""
    cpu = _xml.parse_as(capabilities_xml, "capabilities").find("host/cpu")
    if cpu is None or cpu.find("model") is None:
        raise FleetError(
            "The host's capabilities name no CPU model. Check that libvirt knows this CPU: virsh capabilities.",
            code="no_cpu",
        )
    return _xml.serialise(cpu)


def from_domain_capabilities(xml: str) -> DomainCapabilities:
    """Return what ``virConnectGetDomainCapabilities`` says about CPUs; raises ``FleetError`` with code ``bad_xml``."""
    root = _xml.parse_as(xml, "domainCapabilities")
    blockers = {group.get("model"): _names(group) for group in root.iterfind("cpu/mode/blockers")}
    models = tuple(
        CpuModel(
            name=(model.text or "").strip(),
            usable=model.get("usable") == "yes",
            vendor=model.get("vendor"),
            deprecated=model.get("deprecated") == "yes",
            blockers=blockers.get((model.text or "").strip(), ()),
        )
        for model in root.iterfind("cpu/mode[@name='custom']/model")
    )
    return DomainCapabilities(
        virt_type=_xml.find_text(root, "domain") or "",
        machine=_xml.find_text(root, "machine") or "",
        arch=_xml.find_text(root, "arch") or "",
        emulator=_xml.find_text(root, "path"),
        vcpus_max=_xml.to_int(_xml.find_attribute(root, "vcpu", "max")),
        host_model_xml=_host_model(root),
        models=models,
    )


def _names(group: _xml.Element) -> Tuple[str, ...]:
    return tuple(feature.get("name", "") for feature in group.findall("feature"))


def _host_model(root: _xml.Element) -> Optional[str]:
    """Turn the mode element into a guest CPU, as virsh does for its hypervisor baseline (``vshExtractCPUDefXMLs``)."""
    mode = root.find("cpu/mode[@name='host-model']")
    if mode is None or mode.get("supported") != "yes" or mode.find("model") is None:
        return None
    cpu = _xml.new("cpu", mode="custom", match="exact")
    for child in mode:
        cpu.append(deepcopy(child))
    cpu.text = mode.text
    return _xml.serialise(cpu)
