# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""CPUs of the slices that the host's processes live in (``AllowedCPUs``), by drop-ins of our own.

What was found with systemd 257 on Linux 6.12, and decides how this is done:

* ``systemctl set-property`` leaves a file of its own that others may own too, so only drop-ins are written.
* After ``daemon-reload`` systemd knows the new value, but gives it to slices only when something is started among
  them. So something is.
* The kernel refuses to clear the CPUs of a control group with processes in it ("No space left on device", up to Linux
  6.17), and systemd then leaves the old value in force. So before a drop-in goes, it is widened to all CPUs.
* Where the kernel isolates CPUs too, processes had its mask before and have that of their slice, all CPUs, afterwards.
  The scheduler moves none to isolated CPUs by itself, and the next boot gives them the mask again.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, FrozenSet, List, Mapping, Optional, Tuple

from .._errors import FleetError
from .._topology import canonical_cpuset, format_cpuset, parse_cpuset
from . import files
from .command import Run, run_checked
from .cpus import read_cpus
from .unit_files import add_up, section_of, settings, unit_files

# The slice that virtual machines and containers run in.
GUESTS = "machine.slice"
UNITS = (GUESTS, "system.slice", "user.slice", "init.scope")
SETTING = "AllowedCPUs"

# Sorts after what distributions ship and after 50-AllowedCPUs.conf of `systemctl set-property`.
DROP_IN = "50-kvm_fleet.conf"

POLL_S = 0.1

RELOAD = ("systemctl", "daemon-reload")
# Whatever is started anywhere makes systemd catch up on the control groups of all slices above and beside it.
NUDGE = ("systemd-run", "--quiet", "--collect", "--slice=system.slice", "--property=Type=oneshot", "true")


@dataclass(frozen=True)
class UnitCpus:
    """CPUs of one unit, each set as text: by our drop-in, by files of others, and in force.

    A file of others with an empty value takes back what files before it set. ``effective`` is ``None`` when the unit
    has no control group (machine.slice before the first VM) or the host has no unified hierarchy. ``late`` tells that
    systemd has not done what the files say.
    """

    unit: str
    ours: Optional[str]
    theirs: Tuple[Tuple[str, str], ...]
    effective: Optional[str]
    late: bool = False

    @property
    def in_force(self) -> Optional[str]:
        """What our drop-in gives the unit, or what the unit has instead; ``None`` without a drop-in of ours."""
        return self.effective if self.ours is not None and self.late else self.ours


def read_slices(root: Path) -> Tuple[UnitCpus, ...]:
    """Read the CPUs of all ``UNITS`` from the files and the control groups; nothing is run."""
    return tuple(_read_unit(root, unit) for unit in UNITS)


def write_slices(root: Path, run: Run, wanted: Mapping[str, Optional[str]], wait_s: float) -> None:
    """Give units the CPUs that ``wanted`` names, now and at each boot; ``None`` takes our setting away.

    Units that are not named stay as they are. Runs nothing when all is as wanted. Raises ``FleetError``: ``conflict``
    (a file of somebody else sets other CPUs), ``no_cgroup2``, ``command_failed``, and ``not_applied`` when systemd has
    not done it after ``wait_s`` seconds; our files are then written, and the next run goes on from there.
    """
    sets = {unit: canonical_cpuset(cpus) for unit, cpus in wanted.items() if cpus is not None}
    frees = [unit for unit, cpus in wanted.items() if cpus is None and _ours(root, unit) is not None]
    require_possible(root, sets)
    # Clearing fails where processes are, so they get every CPU there could ever be first.
    wide = {unit: format_cpuset(read_cpus(root).possible) for unit in frees if _in_force(root, unit)}
    changed = [_write(root, unit, cpus) for unit, cpus in {**sets, **wide}.items()]
    if any(changed) or not _settled(root, [*sets, *wide]):
        _apply(root, run, [*sets, *wide], wait_s)
    if frees:
        for unit in frees:
            _remove(root, unit)
        _apply(root, run, frees, wait_s)


def require_possible(root: Path, wanted: Mapping[str, Optional[str]]) -> None:
    """Raise ``no_cgroup2`` or ``conflict`` if these CPUs cannot be given to units of this host; changes nothing."""
    sets = {unit: canonical_cpuset(cpus) for unit, cpus in wanted.items() if cpus is not None}
    if sets:
        _require_cgroup2(root)
    for unit, cpus in sets.items():
        for path, theirs in _read_unit(root, unit).theirs:
            # An empty setting only harms if it is read after ours.
            if theirs == cpus or (not theirs and Path(path).name < DROP_IN):
                continue
            raise FleetError(
                f"{path} sets {SETTING}={theirs} for {unit}, but {cpus} is wanted. "
                "Remove that setting from the file, or ask for the same CPUs.",
                "conflict",
                unit=unit,
                file=path,
                theirs=theirs,
                ours=cpus,
            )


def _require_cgroup2(root: Path) -> None:
    controllers = files.read_text(root / "sys/fs/cgroup/cgroup.controllers")
    if controllers is not None and "cpuset" in controllers.split():
        return
    cause = "it runs with control groups of version 1, or both" if controllers is None else "its kernel has no cpuset"
    raise FleetError(
        f"The CPUs of slices cannot be set on this host: {cause}. "
        "Boot with systemd.unified_cgroup_hierarchy=1, or isolate CPUs by the kernel command line.",
        "no_cgroup2",
    )


def _read_unit(root: Path, unit: str) -> UnitCpus:
    theirs = []
    for path in _their_files(root, unit):
        values = settings(path, section_of(unit), SETTING)
        if values:
            theirs.append(("/" + str(path.relative_to(root)), format_cpuset(add_up(values) or ())))
    effective = _effective(root, unit)
    shown = None if effective is None else format_cpuset(effective)
    return UnitCpus(unit, _ours(root, unit), tuple(theirs), shown, not _settled(root, [unit]))


def _drop_in(root: Path, unit: str) -> Path:
    return root / f"etc/systemd/system/{unit}.d" / DROP_IN


def _their_files(root: Path, unit: str) -> List[Path]:
    return [path for path in unit_files(root, unit) if path != _drop_in(root, unit)]


def _ours(root: Path, unit: str) -> Optional[str]:
    path = _drop_in(root, unit)
    if files.read_text(path) is None:
        return None
    return format_cpuset(add_up(settings(path, section_of(unit), SETTING)) or ())


def _write(root: Path, unit: str, cpus: str) -> bool:
    path = _drop_in(root, unit)
    text = (
        f"# Written by the Ansible module virtops.kvm_fleet.host_isolation.\n[{section_of(unit)}]\n{SETTING}={cpus}\n"
    )
    if files.read_text(path) == text:
        return False
    files.make_directory(path.parent)
    files.write_text(path, text, mode=0o644)
    return True


def _remove(root: Path, unit: str) -> None:
    path = _drop_in(root, unit)
    files.remove(path)
    # Others may have drop-ins there too.
    with suppress(OSError):
        path.parent.rmdir()


# The control groups


def _apply(root: Path, run: Run, units: List[str], wait_s: float) -> None:
    """Have systemd read its files anew, and return when the units have their CPUs."""
    run_checked(run, RELOAD, f"have systemd read {SETTING} of {', '.join(units)}")
    deadline = time.monotonic() + wait_s
    if not _settled(root, units):
        run_checked(run, NUDGE, f"have systemd apply {SETTING} of {', '.join(units)}")
    while not _settled(root, units):
        if time.monotonic() >= deadline:
            raise _not_applied(root, units, wait_s)
        time.sleep(POLL_S)


def _settled(root: Path, units: List[str]) -> bool:
    return all(_effective(root, unit) in (None, _expected(root, unit)) for unit in units)


def _not_applied(root: Path, units: List[str], wait_s: float) -> FleetError:
    late: Dict[str, Dict[str, str]] = {}
    for unit in units:
        if not _settled(root, [unit]):
            found, expected = _effective(root, unit) or frozenset(), _expected(root, unit)
            late[unit] = {"wanted": format_cpuset(expected), "found": format_cpuset(found)}
    names = "; ".join(f"{unit} has {each['found']} instead of {each['wanted']}" for unit, each in late.items())
    return FleetError(
        f"systemd has not applied {SETTING} within {wait_s:g} s: {names}. "
        "See `journalctl -b _PID=1` for the cause, then run this again.",
        "not_applied",
        units=late,
    )


def _expected(root: Path, unit: str) -> FrozenSet[int]:
    """Return the CPUs that the files give a unit, within those of the root control group.

    CPUs that are offline, or that an exclusive partition took, are in nobody's effective set.
    """
    values = [value for path in unit_files(root, unit) for value in settings(path, section_of(unit), SETTING)]
    everything = _read_cpuset(root / "sys/fs/cgroup/cpuset.cpus.effective") or read_cpus(root).online
    # Where nothing is left, the kernel gives a control group what its parent has.
    return ((add_up(values) or everything) & everything) or everything


def _in_force(root: Path, unit: str) -> bool:
    return bool(_read_cpuset(root / "sys/fs/cgroup" / unit / "cpuset.cpus"))


def _effective(root: Path, unit: str) -> Optional[FrozenSet[int]]:
    """Return what processes of a unit may use: without a cpuset controller that is what its parent may."""
    top = root / "sys/fs/cgroup"
    if not (top / "cgroup.controllers").is_file() or not (top / unit).is_dir():
        return None
    own = _read_cpuset(top / unit / "cpuset.cpus.effective")
    return own if own is not None else _read_cpuset(top / "cpuset.cpus.effective")


def _read_cpuset(path: Path) -> Optional[FrozenSet[int]]:
    text = files.read_text(path)
    return None if text is None else parse_cpuset(text.strip())
