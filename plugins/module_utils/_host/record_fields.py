# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Typed access to a record in a file, with errors that name the file and the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Mapping, Tuple

from .._errors import FleetError
from . import files


class RecordFields:
    """The fields of an object in a record; each reader raises ``bad_record`` with ``path`` and the field's full name.

    ``where`` is the name of the object itself, empty for the whole record.
    """

    def __init__(self, path: Path, data: Mapping[str, Any], where: str = "") -> None:
        self.path = path
        self.data = data
        self.where = where

    def wrong(self, key: str, wanted: str) -> FleetError:
        """Return the error for a field that is not what it must be."""
        name = self._name(key)
        return bad_field(self.path, name, f"its field {name} must be {wanted}, not {_shown(self.data.get(key))}")

    def has(self, key: str) -> bool:
        """Return whether the field is there and not null."""
        return self.data.get(key) is not None

    def text(self, key: str) -> str:
        """Return text that is not empty."""
        value = self.data.get(key)
        if not isinstance(value, str) or not value:
            raise self.wrong(key, "text that is not empty")
        return value

    def whole(self, key: str) -> int:
        """Return a whole number above 0."""
        value = self.data.get(key)
        if not is_whole(value) or value == 0:
            raise self.wrong(key, "a whole number above 0")
        return int(value or 0)

    def items(self, key: str) -> List[Any]:
        """Return a list."""
        value = self.data.get(key)
        if not isinstance(value, list):
            raise self.wrong(key, "a list")
        return value

    def texts(self, key: str) -> Tuple[str, ...]:
        """Return a list of text, sorted, each once."""
        items = self.items(key)
        if not all(isinstance(item, str) and item for item in items):
            raise self.wrong(key, "a list of text")
        return tuple(sorted(set(items)))

    def child(self, key: str) -> RecordFields:
        """Return an object."""
        value = self.data.get(key)
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return RecordFields(self.path, value, self._name(key))

    def children(self, key: str) -> List[RecordFields]:
        """Return the objects of a list that is not empty."""
        items = self.items(key)
        if not items or not all(isinstance(item, dict) for item in items):
            raise self.wrong(key, "a list of objects that is not empty")
        return [RecordFields(self.path, item, f"{self._name(key)}[{index}]") for index, item in enumerate(items)]

    def _name(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key


def is_whole(value: Any) -> bool:
    """Return whether a JSON value is a whole number that is not negative."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _shown(value: Any) -> str:
    return repr(value) if value is None or isinstance(value, (str, int, float)) else f"a {value.__class__.__name__}"


def bad_field(path: Path, field: str, cause: str) -> FleetError:
    """Return the error for a field of a record."""
    error = files.bad_record(path, cause)
    return FleetError(error.msg, error.code, field=field, **error.facts)
