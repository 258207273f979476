# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Huge pages of each NUMA cell: what the kernel has now, and a tmpfiles.d file of ours for each boot.

The file is the only record: it says how many pages we want in which cells, and how many each had before. It is written
before the kernel is asked, so a run that is cut off can be continued or taken back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple

from .._errors import FleetError
from . import files
from .page_settings import PageSetting, page_settings

CONF = "etc/tmpfiles.d/kvm_fleet-hugepages.conf"

# A NUMA cell and a page size in KiB.
CellSize = Tuple[int, int]

# The kernel moves pages out of the way while it reserves; asked again it often finds more.
ATTEMPTS = 3

_HEADER = """\
# Written by the Ansible module virtops.kvm_fleet.host_isolation, which reads it back.
# "before" is what the cell had when the module first set it.
"""
_ENTRY = re.compile(r"# before (\d+)\nw! (\S+) - - - - (\d+)\n")
_DIRECTORY = re.compile(r"hugepages-(\d+)kB\Z")


@dataclass(frozen=True)
class CellPages:
    """Huge pages of one size in one cell; ``total`` leaves out those beyond the reservation (surplus)."""

    cell: int
    size_kib: int
    total: int
    used: int
    path: str

    @property
    def key(self) -> CellSize:
        """Cell and page size."""
        return self.cell, self.size_kib

    def __str__(self) -> str:
        """Return the words for a message."""
        return f"huge pages of {self.size_kib} KiB in NUMA cell {self.cell}"


@dataclass(frozen=True)
class HugePageState:
    """Pages of every cell and size ``now``, what we reserve at each boot (``ours``), and what was there ``before``."""

    now: Mapping[CellSize, CellPages] = field(default_factory=dict)
    ours: Mapping[CellSize, int] = field(default_factory=dict)
    before: Mapping[CellSize, int] = field(default_factory=dict)


def read_pages(root: Path) -> HugePageState:
    """Read the kernel's pages and our file; raises ``bad_record`` for a file that was edited."""
    now = {pages.key: pages for pages in _read_cells(root)}
    text = files.read_text(root / CONF)
    entries = {} if text is None else _parse(root, text, now)
    return HugePageState(
        now,
        {key: count for key, (count, _before) in entries.items()},
        {key: before for key, (_count, before) in entries.items()},
    )


def write_pages(root: Path, wanted: Mapping[CellSize, int]) -> None:
    """Reserve these pages now and at each boot; cells and sizes of ours that are not named get back what they had.

    Raises ``FleetError`` and leaves everything as it was: ``bad_options`` (no such cell or size), ``conflict``,
    ``pages_in_use`` (fewer are wanted than VMs use) and ``not_enough_memory`` (the kernel gave fewer).
    """
    state = read_pages(root)
    require_possible(root, state, wanted)
    targets = {**_released(state, wanted), **wanted}
    before = {key: state.before.get(key, state.now[key].total) for key in wanted}
    old_text = files.read_text(root / CONF)
    _write_conf(root, _format(state, wanted, before))
    try:
        _reserve(root, state, targets)
    except FleetError:
        _write_conf(root, old_text)
        raise


def require_possible(root: Path, state: HugePageState, wanted: Mapping[CellSize, int]) -> None:
    """Raise what ``write_pages`` would refuse before it touches anything; changes nothing."""
    for key, count in wanted.items():
        if key not in state.now:
            have = ", ".join(f"{size} KiB in cell {cell}" for cell, size in sorted(state.now)) or "none"
            raise FleetError(
                f"This host has no huge pages of {key[1]} KiB in NUMA cell {key[0]}. It has: {have}.",
                "bad_options",
                cell=key[0],
                size_kib=key[1],
            )
        if count < 0:
            raise FleetError(f"The number of {state.now[key]} is below 0; give 0 or more.", "bad_options")
    _require_no_conflict(root, state, wanted)
    for key, count in {**_released(state, wanted), **wanted}.items():
        if count < state.now[key].used:
            raise _in_use(state.now[key], count, state.now[key].used)


def _released(state: HugePageState, wanted: Mapping[CellSize, int]) -> Dict[CellSize, int]:
    # A cell that has gone took its pages along.
    return {key: state.before[key] for key in state.ours if key not in wanted and key in state.now}


def _reserve(root: Path, state: HugePageState, targets: Mapping[CellSize, int]) -> None:
    # What is given back first may be needed by another size in the same cell.
    order = sorted(targets, key=lambda key: (targets[key] > state.now[key].total, key))
    touched: List[CellPages] = []
    for key in order:
        pages, count = state.now[key], targets[key]
        if count == pages.total:
            continue
        touched.append(pages)
        got = _set(root, pages, count)
        if got != count:
            for each in reversed(touched):
                _set(root, each, each.total)
            raise _in_use(pages, count, got) if got > count else _not_enough(pages, count, got)


def _set(root: Path, pages: CellPages, count: int) -> int:
    """Ask the kernel for a number of pages, and return what it then has."""
    path, got = root / pages.path.lstrip("/"), -1
    for _attempt in range(ATTEMPTS):
        files.put_text(path, f"{count}\n")
        last, got = got, _read_cell(root, path.parent, pages.cell, pages.size_kib).total
        if got >= count or got == last:
            break
    return got


def _in_use(pages: CellPages, count: int, used: int) -> FleetError:
    return FleetError(
        f"There cannot be {count} {pages}, because {used} are in use or promised. "
        "Shut down or move the VMs that have their memory there, or ask for more.",
        "pages_in_use",
        cell=pages.cell,
        size_kib=pages.size_kib,
        wanted=count,
        used=used,
    )


def _not_enough(pages: CellPages, count: int, got: int) -> FleetError:
    return FleetError(
        f"The kernel reserved only {got} instead of {count} {pages}; what was there is put back. "
        "Its free memory is too little or too scattered: move VMs away, or reserve on the kernel command line.",
        "not_enough_memory",
        cell=pages.cell,
        size_kib=pages.size_kib,
        wanted=count,
        got=got,
    )


def _require_no_conflict(root: Path, state: HugePageState, wanted: Mapping[CellSize, int]) -> None:
    others = [each for each in page_settings(root) if each.file != "/" + CONF]
    for key, count in wanted.items():
        found: Optional[PageSetting] = next((each for each in others if each.disturbs(*key, count)), None)
        if found is not None:
            raise FleetError(
                f"{found.file} sets {found.what}={found.value}, but {count} {state.now[key]} are wanted, and both "
                "would be done at boot. Remove that setting from the file.",
                "conflict",
                file=found.file,
                theirs=found.value,
                ours=str(count),
                cell=key[0],
                size_kib=key[1],
            )


# Our file


def _format(state: HugePageState, wanted: Mapping[CellSize, int], before: Mapping[CellSize, int]) -> Optional[str]:
    entries = [f"# before {before[key]}\nw! {state.now[key].path} - - - - {wanted[key]}\n" for key in sorted(wanted)]
    return _HEADER + "".join(entries) if entries else None


def _parse(root: Path, text: str, now: Mapping[CellSize, CellPages]) -> Dict[CellSize, Tuple[int, int]]:
    if not text.startswith(_HEADER) or _ENTRY.sub("", text[len(_HEADER) :]):
        raise files.bad_record(root / CONF, "it is not as host_isolation writes it")
    keys = {pages.path: key for key, pages in now.items()}
    found = [(keys.get(path), int(count), int(before)) for before, path, count in _ENTRY.findall(text)]
    return {key: (count, before) for key, count, before in found if key is not None}


def _write_conf(root: Path, text: Optional[str]) -> None:
    path = root / CONF
    if text is None:
        files.remove(path)
    elif files.read_text(path) != text:
        files.make_directory(path.parent)
        files.write_text(path, text, mode=0o644)


# The kernel


def _read_cells(root: Path) -> List[CellPages]:
    nodes = sorted((root / "sys/devices/system/node").glob("node[0-9]*"))
    if not nodes:
        # Without NUMA libvirt knows one cell, 0.
        return _read_sizes(root, root / "sys/kernel/mm/hugepages", 0)
    return [pages for node in nodes for pages in _read_sizes(root, node / "hugepages", int(node.name[len("node") :]))]


def _read_sizes(root: Path, directory: Path, cell: int) -> List[CellPages]:
    found = [(_DIRECTORY.match(path.name), path) for path in sorted(directory.glob("hugepages-*kB"))]
    return [_read_cell(root, path, cell, int(match[1])) for match, path in found if match]


def _read_cell(root: Path, directory: Path, cell: int, size_kib: int) -> CellPages:
    def number(name: str) -> int:
        return int(files.read_text(directory / name) or "0")

    total, surplus, free = number("nr_hugepages"), number("surplus_hugepages"), number("free_hugepages")
    path = "/" + str((directory / "nr_hugepages").relative_to(root))
    return CellPages(cell, size_kib, total - surplus, total - free, path)
