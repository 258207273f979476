# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What every boot loader gives and takes, and the rules for arguments that somebody else sets too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Collection, List, Mapping, Protocol, Sequence, Tuple

from ..._errors import FleetError
from .cmdline import Argument, for_kernel, format_line, same_name, split

# Each of these refers to the one before it, so they are one setting together.
_TOGETHER = ("default_hugepagesz", "hugepagesz", "hugepages")


@dataclass(frozen=True)
class BootConfig:
    """The kernel command line of the next boot.

    ``others`` and ``ours`` are in the kernel's order. ``sources`` tells for an argument's name the file or command
    where somebody else sets it. ``elsewhere`` holds what others set where the next boot does not look: for another
    kernel, or in a file that the boot loader has not taken over yet.
    """

    backend: str
    others: Tuple[Argument, ...]
    ours: Tuple[Argument, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Tuple[Argument, ...] = ()

    @property
    def arguments(self) -> Tuple[Argument, ...]:
        """The whole command line."""
        return self.others + self.ours

    @property
    def foreign(self) -> Tuple[Argument, ...]:
        """Everything that others set, wherever."""
        return self.others + self.elsewhere


@dataclass(frozen=True)
class Conflict:
    """An argument that somebody else sets to another value; ``theirs`` and ``ours`` are written out."""

    name: str
    theirs: str
    ours: str
    source: str


class BootLoader(Protocol):
    """One way to set the kernel command line of the next boot. ``read`` changes nothing."""

    name: str

    def read(self) -> BootConfig:
        """Return what the next boot gives. Ours are only those that every kernel gets."""

    def write(self, ours: Sequence[Argument]) -> None:
        """Make these the collection's arguments and read them back; none restores exactly what was there.

        Raises ``not_applied`` (``place``, ``missing``, ``left``) when the boot loader will not boot with them,
        ``bad_argument`` for one that it cannot hold, ``command_failed`` and ``host_file`` from its tools and files.
        """


def conflicts(config: BootConfig, wanted: Sequence[Argument], shared: Collection[str] = ()) -> Tuple[Conflict, ...]:
    """Return the wanted arguments that somebody else sets to another value.

    ``shared`` are names that may be given several times, each with a value of its own (``console``).
    """
    found: List[Conflict] = []
    for name in dict.fromkeys(argument.name for argument in wanted):
        if any(same_name(name, other) for other in shared):
            continue
        mine = [argument for argument in wanted if same_name(argument.name, name)]
        values = {argument.value for argument in mine}
        for theirs in dict.fromkeys(config.foreign):
            if same_name(theirs.name, name) and theirs.value not in values:
                source = config.sources.get(theirs.name, config.backend)
                found.append(Conflict(name, theirs.text, format_line(mine), source))
    return tuple(found)


def missing(config: BootConfig, wanted: Sequence[Argument]) -> Tuple[Argument, ...]:
    """Return the wanted arguments that must be ours, because nobody else sets them to the same value."""
    theirs = for_kernel(config.others)
    pages = _together(wanted) != _together(theirs)
    return tuple(a for a in wanted if (pages if a.name in _TOGETHER else a not in theirs))


def from_lines(
    backend: str,
    lines: Sequence[Tuple[str, Sequence[Argument]]],
    known: Sequence[Argument],
    settings: Mapping[Argument, str],
) -> BootConfig:
    """Return the configuration that command lines give, each with its place and the next boot's first.

    ``known`` are ours as far as recorded. ``settings`` are arguments in the files that the lines are made from; these
    files are the better source to name.
    """
    divided = [(place, *split(line, known)) for place, line in lines]
    others = divided[0][1]
    foreign = [argument for _place, theirs, _ours in divided for argument in theirs] + list(settings)
    sources = {argument.name: place for place, theirs, _ours in reversed(divided) for argument in theirs}
    sources.update({argument.name: place for argument, place in settings.items()})
    elsewhere = tuple(dict.fromkeys(argument for argument in foreign if argument not in others))
    return BootConfig(backend, others, _common([ours for _place, _theirs, ours in divided]), sources, elsewhere)


def holds(verified: Callable[[], None]) -> bool:
    """Tell whether a check passes that raises ``FleetError`` where it does not."""
    try:
        verified()
    except FleetError:
        return False
    return True


def verify(
    place: str,
    line: Sequence[Argument],
    ours: Sequence[Argument],
    known: Sequence[Argument],
    theirs: Collection[Argument],
) -> None:
    """Raise ``not_applied`` unless ``ours`` are on a line for the kernel, in their order, and no other ``known`` one.

    What others set too (``theirs``) may stay.
    """
    rest, found = split(for_kernel(line), ours)
    absent = split(ours, found)[0]
    left = tuple(a for a in split(rest, split(known, ours)[0])[1] if a not in theirs)
    if found == tuple(ours) and not left:
        return
    if absent:
        problem = f"it lacks {format_line(absent)}"
    elif left:
        problem = f"it still has {format_line(left)}"
    else:
        problem = f"it has them in another order: {format_line(found)}"
    raise FleetError(
        f"The kernel command line of {place} is not as written: {problem}. Look there for what overrides it "
        "(a file read later, an argument --), remove that and try again.",
        code="not_applied",
        place=place,
        missing=[argument.text for argument in absent],
        left=[argument.text for argument in left],
    )


def _together(line: Sequence[Argument]) -> List[Argument]:
    return [argument for argument in line if argument.name in _TOGETHER]


def _common(lines: Sequence[Tuple[Argument, ...]]) -> Tuple[Argument, ...]:
    """Return the arguments that are on all lines, in the order of the first one."""
    result = lines[0]
    for line in lines[1:]:
        result = split(result, line)[1]
    return result
