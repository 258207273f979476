# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What the hypervisor says about CPUs: its own model, expansion, baseline and comparison.

The arithmetic is libvirt's (``virConnectBaselineHypervisorCPU``, ``virConnectCompareHypervisorCPU``), which must run on
a host whose CPU is one of the input: it intersects with what that hypervisor offers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, Optional, Sequence, Tuple

from .._cpu import parse_cpu, required
from .._errors import FleetError
from .._xml import parse_as
from .api import fleet_error, libvirt, translated

# REMOTE_CPU_BASELINE_MAX in libvirt's src/remote/remote_protocol.x.
MAX_CPUS_PER_CALL = 256


@dataclass(frozen=True)
class Comparison:
    """How a hypervisor relates to a CPU: ``identical``, ``superset`` or ``incompatible`` with the features it lacks."""

    result: str
    missing: Tuple[str, ...] = ()
    reason: Optional[str] = None


def domain_capabilities(conn: Any) -> str:
    """Return the domain capabilities XML of the hypervisor's default emulator, machine and virtualisation type."""
    with translated("Reading the domain capabilities"):
        return str(conn.getDomainCapabilities(None, None, None, None, 0))


def expand(conn: Any, cpu_xml: str) -> FrozenSet[str]:
    """Return the whole set of features that a guest with this CPU has on this host."""
    flags = libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES
    with translated("Expanding a CPU into its features"):
        return required(parse_cpu(conn.baselineHypervisorCPU(None, None, None, None, [cpu_xml], flags)))


class Expander:
    """Expands CPUs of many VMs and asks libvirt once for each different one."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self._known: Dict[str, FrozenSet[str]] = {}

    def features(self, cpu_xml: str) -> FrozenSet[str]:
        """Return the features of ``cpu_xml``."""
        if cpu_xml not in self._known:
            self._known[cpu_xml] = expand(self._conn, cpu_xml)
        return self._known[cpu_xml]


def baseline(conn: Any, cpus: Sequence[str], migratable: bool = True) -> str:
    """Return the largest CPU that all ``cpus`` have, as libvirt computes it on this member of the pool."""
    distinct = sorted(set(cpus))
    if not distinct:
        raise FleetError("No CPU was given to compute a baseline of; pass those of the pool's hosts.", "bad_input")
    if len(distinct) > MAX_CPUS_PER_CALL:
        raise FleetError(
            f"{len(distinct)} different CPUs were given, and libvirt takes at most {MAX_CPUS_PER_CALL} at once; "
            "split the hosts into smaller pools.",
            "bad_input",
        )
    for cpu_xml in distinct:
        parse_as(cpu_xml, "cpu")
    flags = libvirt.VIR_CONNECT_BASELINE_CPU_MIGRATABLE if migratable else 0
    with translated("Computing the CPU baseline", "no_baseline"):
        return str(conn.baselineHypervisorCPU(None, None, None, None, distinct, flags))


def compare(conn: Any, cpu_xml: str) -> Comparison:
    """Compare a CPU with what this hypervisor can give a guest."""
    # libvirt itself would read what an external entity names.
    parse_as(cpu_xml, "cpu")
    try:
        number = conn.compareHypervisorCPU(
            None, None, None, None, cpu_xml, libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_CPU_INCOMPATIBLE:
            raise fleet_error(error, "Comparing a CPU with this hypervisor", "bad_cpu") from error
        reason = error.get_error_message()
        return Comparison("incompatible", missing_in_message(reason), reason)
    if number == libvirt.VIR_CPU_COMPARE_INCOMPATIBLE:
        return Comparison("incompatible")
    return Comparison("identical" if number == libvirt.VIR_CPU_COMPARE_IDENTICAL else "superset")


def missing_in_message(message: str) -> Tuple[str, ...]:
    """Return the features that libvirt's text for VIR_ERR_CPU_INCOMPATIBLE lists, sorted."""
    found = re.search(r"(?:required features|missing features): ([\w.,\- ]+)", message)
    if not found:
        return ()
    return tuple(sorted(name for name in re.split(r"[,\s]+", found.group(1)) if name))
