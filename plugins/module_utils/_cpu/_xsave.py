# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The XSAVE area, where a CPU keeps the registers of a guest, compared between hosts.

CPUID leaf 0xD gives the size and the place of each state component. Places are the CPU's own choice, so hosts with
equal features may differ, and then a saved guest cannot be loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, FrozenSet, Iterable, Optional, Tuple

# Numbers and names: Intel SDM volume 1, section 13.1, and AMD APM volume 2, section 11.5. Components 0 and 1 are the
# legacy area of every CPU, 2 always lies at 576 with 256 bytes.
_COMPONENTS: Dict[int, Tuple[str, FrozenSet[str]]] = {
    2: ("AVX", frozenset({"avx"})),
    3: ("MPX bound registers", frozenset({"mpx"})),
    4: ("MPX configuration", frozenset({"mpx"})),
    5: ("AVX-512 opmask", frozenset({"avx512f"})),
    6: ("AVX-512 upper half of ZMM0 to ZMM15", frozenset({"avx512f"})),
    7: ("AVX-512 ZMM16 to ZMM31", frozenset({"avx512f"})),
    8: ("processor trace", frozenset({"intel-pt"})),
    9: ("protection keys", frozenset({"pku"})),
    11: ("CET of user mode", frozenset({"shstk", "ibt"})),
    12: ("CET of the kernel", frozenset({"shstk", "ibt"})),
    15: ("last branch records", frozenset({"arch-lbr"})),
    17: ("AMX tile configuration", frozenset({"amx-tile"})),
    18: ("AMX tile data", frozenset({"amx-tile"})),
}

# A component's size in bytes and its offset from the start of the area.
Place = Tuple[int, int]


@dataclass(frozen=True)
class XsaveDifference:
    """A state component that two hosts keep differently; ``None`` where a host does not have it at all."""

    component: int
    name: str
    a: Optional[Place]
    b: Optional[Place]

    def __str__(self) -> str:
        """Return the difference in words, the side of ``a`` first."""
        return f"{self.name} (component {self.component}): {_words(self.a)} and {_words(self.b)}"


def components_of(features: Iterable[str]) -> FrozenSet[int]:
    """Return the state components, beyond the legacy area, that a guest with ``features`` (libvirt's names) uses."""
    given = frozenset(features)
    return frozenset(number for number, (_name, needs) in _COMPONENTS.items() if needs & given)


def layout_differences(
    a: Iterable[Iterable[int]], b: Iterable[Iterable[int]], features: Iterable[str]
) -> Tuple[XsaveDifference, ...]:
    """Return how two layouts, ``[(component, size, offset)]``, differ in what a guest with ``features`` uses."""
    places_a, places_b = _places(a), _places(b)
    return tuple(
        XsaveDifference(number, _COMPONENTS[number][0], places_a.get(number), places_b.get(number))
        for number in sorted(components_of(features))
        if places_a.get(number) != places_b.get(number)
    )


def _words(place: Optional[Place]) -> str:
    return "nothing" if place is None else f"{place[0]} bytes at {place[1]}"


def _places(layout: Iterable[Iterable[int]]) -> Dict[int, Place]:
    return {component: (size, offset) for component, size, offset in layout}
