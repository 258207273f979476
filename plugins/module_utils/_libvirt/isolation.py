# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What isolating CPUs needs to know of the hypervisor: its topology, its guests' pins, the features it offers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, FrozenSet, Mapping, Optional

from .._cpu import from_domain_capabilities
from .._errors import FleetError
from .._host import slices
from .._host._isolation.request import settings_from
from .._host._isolation.settings import SLICES, CpuSettings, Settings
from .._host.cpus import read_cpus
from .._pinning import pins_lost, pins_outside, pins_refusal
from .._topology import from_capabilities, parse_cpuset
from .api import translated
from .cpu import domain_capabilities, expand
from .pinned import pinned_threads


def settings_for(conn: Any, root: Path, params: Mapping[str, Any]) -> Settings:
    """Return the settings that the options of ``host_isolation`` ask for on the host of a connection."""
    cpus = read_cpus(root)
    with translated("Reading the capabilities of the host"):
        topology = from_capabilities(str(conn.getCapabilities()), cpus.online)
    return settings_from(params, topology, cpus)


def offered_features(conn: Any) -> Optional[FrozenSet[str]]:
    """Return the CPU features that guests can have now, ``None`` where the hypervisor has no model of its host."""
    model = from_domain_capabilities(domain_capabilities(conn)).host_model_xml
    return None if model is None else expand(conn, model)


def disturbed(conn: Any, root: Path, wanted: CpuSettings) -> Optional[FleetError]:
    """Return the error ``pinned_vms`` if running VMs are pinned to CPUs that would be taken from them, or ``None``."""
    pins = pinned_threads(conn)
    outside = pins_outside(pins, wanted.guest_cpus()) if SLICES in wanted.methods else ()
    return pins_refusal(pins_lost(pins, wanted.isolation, _isolated_now(root)), outside)


def _isolated_now(root: Path) -> FrozenSet[int]:
    """Return the CPUs that are kept from the host's own processes now, by the kernel or by slices."""
    cpus = read_cpus(root)
    host = {unit.unit: unit.effective for unit in slices.read_slices(root)}["system.slice"]
    return cpus.isolated | (frozenset() if host is None else cpus.online - parse_cpuset(host))
