# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What is written down of a move while it is carried out, and what proves that a leftover is its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from ..._host.journal import Begun, Journal
from .arrival import clear
from .move import Move, move_from_dict
from .sides import Sides


class Trace:
    """The journal of this host, as far as it is about one VM."""

    def __init__(self, sides: Sides, journal: Optional[Journal] = None) -> None:
        self._sides = sides
        self._journal = journal or Journal()

    def begin(self, uuid: str, destination_uuid: str) -> None:
        """Note the move before it begins."""
        move = replace(self._sides.move, uuid=uuid, destination_uuid=destination_uuid)
        self._journal.begin(Begun(move.as_dict(), defined_there=self._sides.destination_domain() is not None))

    def pending(self) -> bool:
        """Whether this move began and is not known to have ended."""
        return self._own() is not None

    def earlier(self) -> Optional[Move]:
        """Return a move of this VM to another host that is not known to have ended."""
        begun = self._begun()
        return None if begun is None or self._own() is not None else move_from_dict(begun.move)

    def clear(self) -> bool:
        """Remove a definition at the destination if this move left it there, and forget the move; the VM stayed."""
        begun = self._own()
        # Never the last one: it may be all that there is of a VM that was shut down after it arrived.
        here = self._sides.source_domain()
        removable = begun is not None and not begun.defined_there and here is not None and here.isPersistent()
        cleared = removable and clear(self._sides)
        self.forget()
        return bool(cleared)

    def forget(self) -> None:
        """Note that this move has ended."""
        begun = self._own()
        if begun is not None:
            self._journal.end(begun.uuid)

    def _own(self) -> Optional[Begun]:
        begun = self._begun()
        return begun if begun is not None and begun.move["uri"] == self._sides.move.uri else None

    def _begun(self) -> Optional[Begun]:
        uuid = self._sides.move.uuid
        return self._journal.find(uuid) if uuid else None
