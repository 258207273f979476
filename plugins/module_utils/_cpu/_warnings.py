# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What libvirt and QEMU do with a guest's CPU without telling anybody, in words for the person who asked for it."""

from __future__ import annotations

from typing import Callable, Iterator, Tuple

from .. import _xml
from ._describe import CpuDescription, cpu_from_element

# Modes whose CPU is the host's, and what that means beyond one host.
_HOST_MODES = {
    "host-model": "the CPU is made anew from the host at every start, so a restart on a newer host keeps the VM there",
    "host-passthrough": "the guest gets what this host, its microcode, kernel and QEMU have, so the VM can only "
    "migrate to a host with all of these alike",
    "maximum": "the guest gets all that this host and its QEMU can give, so the VM can only migrate to a host with all "
    "of that alike",
}

# qemuProcessUpdateLiveGuestCPU, virCPUx86Compare and qemuDomainDefCPUPostParse in libvirt; measured with 9.0 and 11.3.
_POLICIES = {
    "force": "libvirt does not ask whether the host has it, and QEMU drops it silently where the host lacks it; "
    "use require, or disable",
    "optional": "QEMU drops it silently where the host lacks it, and where it is there a migration requires it of "
    "the destination; use require, or disable",
    "forbid": "the VM does not start on hosts that have it, better ones included; use disable",
}


def cpu_warnings(xml: str) -> Tuple[str, ...]:
    """Return what a person should know about a guest's ``<cpu>`` (or the domain with it) before it is used.

    A domain without ``<cpu>`` has none to warn about, and in a domain the clock is looked at as well. Needs lxml;
    raises ``FleetError`` with code ``bad_xml``.
    """
    root = _xml.parse(xml)
    element = root if root.tag == "cpu" else _xml.parse_as(xml, "domain").find("cpu")
    if element is None:
        return ()
    cpu = cpu_from_element(element)
    found = [text for rule in _RULES for text in rule(cpu)]
    return (*found, *_frequency(cpu, root))


def _mode(cpu: CpuDescription) -> Iterator[str]:
    if cpu.mode in _HOST_MODES:
        yield f"With the mode {cpu.mode} {_HOST_MODES[cpu.mode]}; no pool can have it. Use the CPU of a pool."


def _match(cpu: CpuDescription) -> Iterator[str]:
    if cpu.match == "minimum":
        yield (
            "With match minimum the guest gets everything the host has, as with host-model, "
            "and can then only migrate to hosts that have all of it. Use exact."
        )
    if cpu.match == "strict":
        yield "With match strict the VM starts only on hosts that have no feature beyond this CPU. Use exact."


def _check(cpu: CpuDescription) -> Iterator[str]:
    if cpu.check == "none":
        yield "With check none libvirt starts the VM without the features that the host lacks, silently. Use partial."
    if cpu.check == "full":
        yield (
            "With check full a VM does not start if QEMU adds anything to its CPU, as it does with the feature "
            "hypervisor. Use partial; libvirt itself makes it full once the VM runs."
        )
    if cpu.check is None and cpu.model is not None and cpu.mode in (None, "custom"):
        yield (
            "Without check libvirt takes none where guests are emulated, and drops features that the host lacks "
            "silently. Write partial."
        )


def _fallback(cpu: CpuDescription) -> Iterator[str]:
    if cpu.model is not None and cpu.mode in (None, "custom") and cpu.fallback != "forbid":
        yield f"Where the hypervisor lacks the model {cpu.model}, libvirt takes another. Use fallback forbid."


def _policies(cpu: CpuDescription) -> Iterator[str]:
    for policy, text in _POLICIES.items():
        names = sorted(feature.name for feature in cpu.features if feature.policy == policy)
        if names:
            yield f"Policy {policy} of {', '.join(names)}: {text}."


def _frequency(cpu: CpuDescription, root: _xml.Element) -> Iterator[str]:
    """Tell about invtsc without a frequency, as qemuMigrationSrcIsAllowed looks at it."""
    has_it = any(feature.name == "invtsc" and feature.policy in (None, "require", "force") for feature in cpu.features)
    if has_it and root.find("clock/timer[@name='tsc'][@frequency]") is None:
        yield (
            "The feature invtsc keeps the VM from migrating unless its clock has a timer tsc with a frequency, and "
            "then the destination must run at that frequency or be able to scale it. Disable it, or add the timer."
        )


_RULES: Tuple[Callable[[CpuDescription], Iterator[str]], ...] = (_mode, _match, _check, _fallback, _policies)
