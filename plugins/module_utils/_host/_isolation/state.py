# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""What the collection has set on a host for isolated CPUs and huge pages: read, plan, apply, verify."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from ..._errors import FleetError
from ..._topology import format_cpuset
from .. import files, hugepages, slices
from .._boot import Argument, BootConfig, BootLoader, boot_loader, conflicts, difference, format_line, missing, running
from .._boot.tuned import Tuned, read_tuned, write_tuned
from ..command import Run
from ..paths import HostPaths
from .arguments import OWN_NAMES, in_cells, wanted_arguments
from .settings import SLICES, TUNED, CpuSettings, Settings, format_size

# The loader that is not needed, because nothing of ours is or shall be on the command line.
UNKNOWN = "unknown_boot_loader"


@dataclass(frozen=True)
class State:
    """What is ours on a host, beside the whole kernel command line of its next boot.

    ``boot`` is ``None`` where no boot loader is known and none is needed. ``slices`` gives the CPUs of the units that
    we restrict, ``cell_pages`` the huge pages by (cell, size in KiB), ``tuned`` the CPUs of the profile if we chose it.
    """

    boot: Optional[BootConfig] = None
    slices: Mapping[str, str] = field(default_factory=dict)
    cell_pages: Mapping[hugepages.CellSize, int] = field(default_factory=dict)
    tuned: Optional[str] = None

    @property
    def ours(self) -> Tuple[Argument, ...]:
        """Our part of the command line."""
        return self.boot.ours if self.boot else ()

    def to_data(self) -> Dict[str, Any]:
        """Return the value behind ``changed`` and ``diff``; what tuned does to the command line is tuned's."""
        return {
            "kernel_command_line": format_line(self.boot.arguments) if self.boot and not self.tuned else None,
            "kernel_arguments": [argument.text for argument in self.ours],
            "slices": dict(self.slices),
            "huge_pages": [
                {"cell": cell, "size": format_size(size), "count": count}
                for (cell, size), count in sorted(self.cell_pages.items())
            ],
            "tuned": self.tuned,
        }


def find_boot_loader(root: Path, run: Run, name: Optional[str], settings: Optional[Settings]) -> Optional[BootLoader]:
    """Return the host's boot loader; ``None`` if there is none that is known and none is needed.

    ``settings`` are ``None`` when all is to be removed.
    """
    try:
        return boot_loader(root, run, name)
    except FleetError as error:
        if error.code != UNKNOWN or name is not None or (settings and wanted_arguments((), settings)):
            raise
        return None


def observe(root: Path, loader: Optional[BootLoader]) -> State:
    """Read what is ours, as it is in force: where that differs from what our files say, there is something to do."""
    tuned, pages = read_tuned(root), hugepages.read_pages(root)
    return State(
        loader.read() if loader else None,
        {unit.unit: unit.in_force for unit in slices.read_slices(root) if unit.in_force is not None},
        {key: pages.now[key].total if key in pages.now else 0 for key in pages.ours},
        tuned.isolated if tuned.ours else None,
    )


def plan(before: State, settings: Optional[Settings]) -> State:
    """Return the state that a request leads to; without one, that of a host on which nothing is ours.

    Raises ``conflict`` where somebody else sets a kernel argument to another value.
    """
    if settings is None:
        return State(_with_ours(before.boot, ()))
    wanted = wanted_arguments(before.ours, settings)
    if before.boot is not None:
        _require_agreement(before.boot, wanted)
        wanted = missing(before.boot, wanted)
    return State(
        _with_ours(before.boot, wanted),
        before.slices if settings.cpus is None else _slices(settings.cpus),
        before.cell_pages if settings.huge_pages is None else in_cells(settings.huge_pages),
        before.tuned if settings.cpus is None else _tuned(settings.cpus),
    )


def _with_ours(boot: Optional[BootConfig], ours: Sequence[Argument]) -> Optional[BootConfig]:
    return replace(boot, ours=tuple(ours)) if boot else None


def _require_agreement(boot: BootConfig, wanted: Sequence[Argument]) -> None:
    found = conflicts(boot, wanted)
    if found:
        told = "; ".join(f"{item.theirs} in {item.source}, where {item.ours} is wanted" for item in found)
        raise FleetError(
            f"Somebody else sets kernel arguments to other values: {told}. "
            "Remove them there, or do not ask for them here. Nothing was changed.",
            "conflict",
            conflicts=[vars(item) for item in found],
        )


def _slices(cpus: CpuSettings) -> Dict[str, str]:
    if SLICES not in cpus.methods or not cpus.isolation.isolated:
        return {}
    wanted = {unit: cpus.isolation.housekeeping for unit in slices.UNITS if unit != slices.GUESTS}
    if cpus.guest_cpus() != cpus.isolation.isolated | cpus.isolation.housekeeping:
        wanted[slices.GUESTS] = cpus.guest_cpus()
    return {unit: format_cpuset(allowed) for unit, allowed in wanted.items()}


def _tuned(cpus: CpuSettings) -> Optional[str]:
    return format_cpuset(cpus.isolation.isolated) if TUNED in cpus.methods else None


def require_possible(root: Path, after: State) -> None:
    """Raise what applying a state would refuse before it touches anything: ``conflict``, ``no_cgroup2`` and more."""
    slices.require_possible(root, after.slices)
    hugepages.require_possible(root, hugepages.read_pages(root), after.cell_pages)


def carry_out(root: Path, run: Run, loader: Optional[BootLoader], before: State, after: State, wait_s: float) -> State:
    """Bring the host to a state that is possible and return what is then read back; raises ``not_applied``.

    What is in force at once comes first, so that a failure leaves the next boot as it was. Steps whose files are right
    already are taken again: a run that was cut off may have left them half done.
    """
    paths = HostPaths(root)
    files.make_directory(paths.state)
    with files.locked(paths.state):
        _apply(root, run, loader, before, after, wait_s)
        found = observe(root, loader)
    if _owned(found) != _owned(after):
        raise FleetError(
            "The host does not hold what was just written; find out which other program writes there.",
            "not_applied",
            wanted=after.to_data(),
            found=found.to_data(),
        )
    return found


def _apply(root: Path, run: Run, loader: Optional[BootLoader], before: State, after: State, wait_s: float) -> None:
    units = {unit: after.slices.get(unit) for unit in slices.UNITS if unit in after.slices or unit in before.slices}
    slices.write_slices(root, run, units, wait_s)
    if after.cell_pages or before.cell_pages:
        hugepages.write_pages(root, after.cell_pages)
    if after.tuned or before.tuned:
        write_tuned(root, run, after.tuned)
    # A record without arguments of ours is what a write that failed has left.
    if loader is not None and (after.ours or before.ours or HostPaths(root).kernel_arguments.exists()):
        loader.write(after.ours)


def _owned(state: State) -> Dict[str, Any]:
    return {**state.to_data(), "kernel_command_line": None}


def reboot_reasons(root: Path, before: State, after: State, tuned: Tuned, named: Sequence[str]) -> Tuple[str, ...]:
    """Return the names of arguments in which the next boot differs from the running kernel, as far as they are ours.

    ``after`` is what was read back, or in check mode what is planned; ``tuned`` was read before. ``named`` are the
    free-form arguments that the request names. Without a boot loader nothing is known to differ.
    """
    if after.boot is None:
        return ()
    names = [*OWN_NAMES, *(item.name for item in (*before.ours, *after.ours)), *named]
    if before.tuned or after.tuned:
        names += [item.name for item in (*tuned.arguments, *read_tuned(root).arguments)]
    return difference(after.boot.arguments, running(root), tuple(dict.fromkeys(names)))
