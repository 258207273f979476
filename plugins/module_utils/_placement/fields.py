# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Typed access to JSON mappings with errors that name the object and the field."""

from __future__ import annotations

from typing import Any, FrozenSet, Mapping, Optional, Tuple

from .._errors import FleetError
from .._topology import parse_cpuset


class Fields:
    """A JSON mapping that belongs to a named object, for example ``host hv1``.

    Every reader returns ``None`` for a field that is absent or null, because a missing field means "no such
    constraint". A field of the wrong type raises ``FleetError`` with ``code`` and the facts ``object`` and ``field``.
    """

    def __init__(self, data: Any, where: str, code: str = "bad_snapshot") -> None:
        if not isinstance(data, Mapping):
            raise FleetError(f"{where} must be a mapping, not {_shown(data)}.", code=code, object=where)
        self.data: Mapping[str, Any] = data
        self.where = where
        self.code = code

    def wrong(self, key: str, wanted: str) -> FleetError:
        """Return the error for a field that is not what it must be."""
        message = f"{self.where}: {key} must be {wanted}, not {_shown(self.data.get(key))}."
        return FleetError(message, code=self.code, object=self.where, field=key)

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
            raise FleetError(f"{self.where}: {key} is missing.", code=self.code, object=self.where, field=key)
        return value

    def choice(self, key: str, choices: Tuple[str, ...]) -> Optional[str]:
        value = self.text(key)
        if value is not None and value not in choices:
            raise self.wrong(key, f"one of {', '.join(choices)}")
        return value

    def whole(self, key: str, unit: str = "") -> Optional[int]:
        """Return a whole number that is not negative; ``unit`` is for the error message."""
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.wrong(key, f"a whole number of {unit}" if unit else "a whole number")
        return value

    def number(self, key: str) -> Optional[float]:
        """Return a number that is not negative."""
        value = self.data.get(key)
        if value is None:
            return None
        # NaN fails the comparison, so a JSON file with it is refused here.
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < float("inf"):
            raise self.wrong(key, "a number that is not negative")
        return float(value)

    def flag(self, key: str) -> Optional[bool]:
        value = self.data.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def texts(self, key: str) -> Optional[Tuple[str, ...]]:
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, "a list of texts")
        return tuple(value)

    def cpuset(self, key: str) -> Optional[FrozenSet[int]]:
        """Return a set of CPU or node numbers in libvirt's notation; empty text is the empty set."""
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.wrong(key, "a set such as '0-3,8'")
        try:
            return parse_cpuset(value)
        except FleetError as error:
            raise self.wrong(key, "a set such as '0-3,8'") from error

    def child(self, key: str) -> Optional[Fields]:
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.wrong(key, "a mapping")
        return Fields(value, f"{self.where}: {key}", self.code)

    def children(self, key: str) -> Tuple[Fields, ...]:
        value = self.data.get(key)
        if value is None:
            return ()
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, Mapping) for item in value):
            raise self.wrong(key, "a list of mappings")
        return tuple(Fields(item, f"{self.where}: {key}[{index}]", self.code) for index, item in enumerate(value))

    def refuse_unknown(self, known: Tuple[str, ...]) -> None:
        """Raise for keys that nobody reads: in a request a misspelt option must not pass silently."""
        unknown = sorted(str(key) for key in self.data if key not in known)
        if unknown:
            message = f"{self.where}: {', '.join(unknown)} not known here. Known are {', '.join(known)}."
            raise FleetError(message, code=self.code, object=self.where, unknown=unknown)


def named(fields: Fields, kind: str) -> Fields:
    """Return the same fields under the object's name, which says more than its position in a list."""
    return Fields(fields.data, f"{kind} {fields.required_text('name')}", fields.code)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
