# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Whether a VM runs with another CPU than the one that its definition gives it at the next start."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Dict, FrozenSet, List, Optional

from .._cpu import CpuDescription, parse_cpu
from .._domain import parse_domain
from .cpu import Expander, emulated_bits, expand, own_cpu_xml
from .probe import Probe, probe_cpu

# QEMU sets these by itself, the latter where the topology of the VM has more than one CPU in a socket.
_QEMUS_OWN = frozenset({"hypervisor", "ht"})
# What the host and QEMU have when the VM starts; of the last two libvirt lists it not even then.
_HOSTS_OWN = ("host-model", "host-passthrough", "maximum")


class RunningCpus:
    """Compares running VMs with their definitions; what libvirt and QEMU say to one CPU is asked once.

    ``wanted`` is the CPU of all definitions, but for what belongs to a VM.
    """

    def __init__(self, conn: Any, wanted: str) -> None:
        self._conn = conn
        self._wanted = wanted
        self._expander = Expander(conn)
        self._probe: Optional[Probe] = None

    def difference(self, domain_xml: Optional[str], defined_xml: Optional[str]) -> Optional[Dict[str, Any]]:
        """Return how a running VM differs from the CPU in its definition, ``None`` if it does not or is off.

        It has ``missing`` and ``extra`` features, the ``running_model``, and ``mode`` and ``address_bits``, each
        ``None`` or a mapping of ``running`` and ``defined``.
        """
        if domain_xml is None or defined_xml is None:
            return None
        running_xml = parse_domain(domain_xml).cpu_xml or "<cpu/>"
        running, defined = parse_cpu(running_xml), parse_cpu(defined_xml)
        modes = (_mode(running), _mode(defined))
        found = {
            **self._features_between(self._features(running, running_xml), self._features(defined, defined_xml)),
            # A host-model becomes a list of features when the VM starts.
            "mode": None if modes == ("custom", "host-model") else _pair(*modes),
            "address_bits": _pair(emulated_bits(running), emulated_bits(defined)),
        }
        return {**found, "running_model": running.model} if any(found.values()) else None

    def _features_between(
        self, has: Optional[FrozenSet[str]], should: Optional[FrozenSet[str]]
    ) -> Dict[str, List[str]]:
        if has is None or should is None:
            return {"missing": [], "extra": []}
        missing, extra = should - has - _QEMUS_OWN, has - should - _QEMUS_OWN
        given = self._given_by_qemu() if missing or extra else None
        if given is not None:
            missing, extra = missing & given, extra - given
        return {"missing": sorted(missing), "extra": sorted(extra)}

    def _features(self, cpu: CpuDescription, cpu_xml: str) -> Optional[FrozenSet[str]]:
        if _mode(cpu) in _HOSTS_OWN:
            return self._of_host
        return None if cpu.model is None else self._expander.features(cpu_xml)

    @cached_property
    def _of_host(self) -> Optional[FrozenSet[str]]:
        own = own_cpu_xml(self._conn)
        return None if own is None else expand(self._conn, own)

    def _given_by_qemu(self) -> Optional[FrozenSet[str]]:
        """Return what a VM started now would see, if it would start: QEMU's models have other features than libvirt's.

        Nobody can say of a CPU that libvirt does not list.
        """
        if self._probe is None and _mode(parse_cpu(self._wanted)) in ("custom", "host-model"):
            self._probe = probe_cpu(self._conn, self._wanted)
        return None if self._probe is None or self._probe.error else frozenset(self._probe.features)


def _mode(cpu: CpuDescription) -> Optional[str]:
    return "custom" if cpu.mode is None and cpu.model is not None else cpu.mode


def _pair(running: Any, defined: Any) -> Optional[Dict[str, Any]]:
    return None if running == defined else {"running": running, "defined": defined}
