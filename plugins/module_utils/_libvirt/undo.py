# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""All or nothing: what was changed before a failure is changed back, newest first."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Tuple

from .._errors import FleetError
from .api import translated
from .domains import define, definition


class Undo:
    """How to take back what was done so far, each step with the name of the VM it belongs to."""

    def __init__(self) -> None:
        self._steps: List[Tuple[str, Callable[[], object]]] = []

    def add(self, vm: str, back: Callable[[], object]) -> None:
        """Remember how to take back what is about to be done; ``back`` returns ``False`` if there is nothing to."""
        self._steps.append((vm, back))

    def run(self) -> Dict[str, Any]:
        """Take everything back and return ``rolled_back`` and ``not_rolled_back``, names of VMs.

        A step that fails does not keep the others from being taken back.
        """
        back: List[str] = []
        failed: Dict[str, str] = {}
        while self._steps:
            vm, step = self._steps.pop()
            try:
                with translated(f"Changing VM {vm} back"):
                    taken = step()
                back += [] if taken is False else [vm]
            except FleetError as error:
                failed[vm] = error.msg
        return {
            "rolled_back": sorted(set(back) - set(failed)),
            "not_rolled_back": [{"vm": vm, "msg": msg} for vm, msg in sorted(failed.items())],
        }


@contextmanager
def all_or_nothing() -> Iterator[Undo]:
    """Take back what the block has added to ``Undo`` if it fails, and say so in the ``FleetError``.

    Its ``rolled_back`` is whether everything is as it was, ``not_rolled_back`` a list of ``{vm, msg}``.
    """
    undo = Undo()
    try:
        yield undo
    except FleetError as error:
        found = undo.run()
        facts = {**found, "rolled_back": not found["not_rolled_back"]}
        raise FleetError(error.msg + _told(found), error.code, **{**error.facts, **facts}) from error
    except BaseException:
        undo.run()
        raise


def _told(found: Dict[str, Any]) -> str:
    told = ""
    if found["rolled_back"]:
        told += f" Changed back: {', '.join(found['rolled_back'])}."
    for step in found["not_rolled_back"]:
        told += f" VM {step['vm']} could not be changed back: {step['msg']}"
    return told


def redefine(conn: Any, undo: Undo, domain: Any, change: Callable[[str], str]) -> str:
    """Change the definition of a VM as it is now, and return what libvirt keeps.

    It is read just before it is written, so that a VM that has left the host is ``libvirt`` and does not come to be
    here again. Raises ``not_applied`` if libvirt keeps something that ``change`` would change once more.
    """
    name, found = str(domain.name()), definition(domain)
    wanted = change(found)
    if wanted == found:
        return found
    undo.add(name, lambda: _define_again(conn, domain, found, name))
    kept = definition(define(conn, wanted, name))
    if change(kept) != kept:
        raise FleetError(
            f"libvirt keeps another definition of VM {name} than it was given. Compare it with what was asked for.",
            "not_applied",
            vm=name,
        )
    return kept


def _define_again(conn: Any, domain: Any, xml: str, name: str) -> bool:
    # Reading it first keeps a VM that has left the host from coming to be here again.
    if definition(domain) == xml:
        return False
    define(conn, xml, name)
    return True
