# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Typed access to JSON mappings with errors that name the object and the field."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, FrozenSet, Optional, Tuple

from .._errors import FleetError
from .._topology import parse_cpuset

# A fleet has few different sets, and thousands of hosts and VMs that share them.
_cpuset = lru_cache(maxsize=4096)(parse_cpuset)


class Fields:
    """A JSON mapping that belongs to a named object, for example ``host hv1``.

    Every reader returns ``None`` for a field that is absent or null, because a missing field means "no such
    constraint". A field of the wrong type raises ``FleetError`` with ``code`` and the facts ``object`` and ``field``.
    Where the mapping has a ``path`` (``hosts[0].reserved``; that of the whole document is empty), the message starts
    with the path of the field, and the fact ``path`` has it too.
    """

    # A large fleet has hundreds of thousands of mappings.
    __slots__ = ("code", "data", "path", "where")

    def __init__(self, data: Any, where: str, code: str = "bad_snapshot", path: Optional[str] = None) -> None:
        self.where = where
        self.code = code
        self.path = path
        if not isinstance(data, Mapping):
            place = f"{path} ({where}):" if path else where
            facts = {} if path is None else {"path": path}
            raise FleetError(f"{place} must be a mapping, not {_shown(data)}.", code=code, object=where, **facts)
        self.data: Mapping[str, Any] = data

    def at(self, key: str) -> str:
        """Return the path of a field."""
        return f"{self.path}.{key}" if self.path else str(key)

    def refused(self, key: str, says: str, inside: str = "") -> FleetError:
        """Return the error that says something of a field, or of what is ``inside`` it (``[2].cpus``)."""
        facts = {"object": self.where, "field": key}
        if self.path is None:
            return FleetError(f"{self.where}: {key}{inside} {says}", code=self.code, **facts)
        path = self.at(key) + inside
        return FleetError(f"{path} ({self.where}): {says}", code=self.code, path=path, **facts)

    def wrong(self, key: str, wanted: str) -> FleetError:
        """Return the error for a field that is not what it must be."""
        return self.refused(key, _must(wanted, self.data.get(key)))

    def text(self, key: str) -> Optional[str]:
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value:
            raise self.wrong(key, "text that is not empty")
        return value

    def required_text(self, key: str) -> str:
        value = self.text(key)
        if value is None:
            raise self.refused(key, "is missing.")
        return value

    def choice(self, key: str, choices: Tuple[str, ...]) -> Optional[str]:
        value = self.text(key)
        if value is not None and value not in choices:
            raise self.wrong(key, f"one of {', '.join(choices)}")
        return value

    def integer(self, key: str, unit: str = "") -> Optional[int]:
        """Return a whole number; ``unit`` is for the error message."""
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(key, _whole(unit))
        return value

    def whole(self, key: str, unit: str = "") -> Optional[int]:
        """Return a whole number that is not negative."""
        value = self.integer(key, unit)
        if value is not None and value < 0:
            raise self.wrong(key, f"{_whole(unit)} that is not negative")
        return value

    def number(self, key: str) -> Optional[float]:
        """Return a number that is not negative."""
        value = self.data.get(key)
        if value is None:
            return None
        # NaN fails the comparison, so a JSON file with it is refused here.
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= sys.float_info.max:
            raise self.wrong(key, "a number that is not negative")
        return float(value)

    def flag(self, key: str) -> Optional[bool]:
        value = self.data.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def texts(self, key: str) -> Optional[Tuple[str, ...]]:
        found = self._list(key, "a list of texts")
        for index, item in enumerate(found or ()):
            if not isinstance(item, str):
                raise self.refused(key, _must("text", item), f"[{index}]")
        return found

    def distinct(self, key: str) -> Optional[FrozenSet[str]]:
        """Return a list of texts as a set."""
        found = self.texts(key)
        return None if found is None else _set(found)

    def wholes(self, key: str) -> Optional[Tuple[int, ...]]:
        found = self._list(key, "a list of whole numbers")
        for index, item in enumerate(found or ()):
            if not isinstance(item, int) or isinstance(item, bool) or item < 0:
                raise self.refused(key, _must("a whole number that is not negative", item), f"[{index}]")
        return found

    def cpuset(self, key: str) -> Optional[FrozenSet[int]]:
        """Return a set of CPU or node numbers in libvirt's notation; empty text is the empty set."""
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.wrong(key, "a set such as '0-3,8'")
        try:
            return _cpuset(value)
        except FleetError as error:
            raise self.wrong(key, "a set such as '0-3,8'") from error

    def child(self, key: str) -> Optional[Fields]:
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.wrong(key, "a mapping")
        return self._inner(value, key)

    def part(self, key: str) -> Fields:
        """Return the mapping in a field, an empty one where there is none."""
        return self.child(key) or self._inner({}, key)

    def children(self, key: str) -> Tuple[Fields, ...]:
        found = self._list(key, "a list of mappings") or ()
        for index, item in enumerate(found):
            if not isinstance(item, Mapping):
                raise self.refused(key, _must("a mapping", item), f"[{index}]")
        return tuple(self._inner(item, f"{key}[{index}]") for index, item in enumerate(found))

    def _list(self, key: str, wanted: str) -> Optional[Tuple[Any, ...]]:
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, (list, tuple)):
            raise self.wrong(key, wanted)
        return tuple(value)

    def _inner(self, data: Mapping[str, Any], name: str) -> Fields:
        if self.path is None:
            return Fields(data, f"{self.where}: {name}", self.code)
        return Fields(data, self.where, self.code, self.at(name))

    def refuse_unknown(self, known: Tuple[str, ...]) -> None:
        """Raise for keys that nobody reads: in a request a misspelt option must not pass silently."""
        unknown = sorted(str(key) for key in self.data if key not in known)
        if unknown:
            message = f"{self.where}: {', '.join(unknown)} not known here. Known are {', '.join(known)}."
            raise FleetError(message, code=self.code, object=self.where, unknown=unknown)


def named(fields: Fields, kind: str) -> Fields:
    """Return the same fields under the object's name, which says more than its position in a list."""
    return Fields(fields.data, f"{kind} {fields.required_text('name')}", fields.code, fields.path)


@lru_cache(maxsize=4096)
def _set(texts: Tuple[str, ...]) -> FrozenSet[str]:
    return frozenset(texts)


def _whole(unit: str) -> str:
    return f"a whole number of {unit}" if unit else "a whole number"


def _must(wanted: str, value: Any) -> str:
    return f"must be {wanted}, not {_shown(value)}."


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
