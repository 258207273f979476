# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""All or nothing: what was changed before a failure is changed back, newest first."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

from .._errors import FleetError
from .api import translated
from .domains import define, definition

Failures = List[Dict[str, str]]

# What comes when ssh is lost, or when somebody ends the task.
_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class Undo:
    """How to take back what was done so far, each step with the name of the VM it belongs to.

    ``signals`` are the names of those that have come and ask to stop.
    """

    def __init__(self, signals: Sequence[str] = ()) -> None:
        self._signals = signals
        self._steps: List[Tuple[str, Callable[[], object]]] = []

    def add(self, vm: str, back: Callable[[], object]) -> None:
        """Remember how to take back what is about to be done; raises ``interrupted`` if it is not to be done at all."""
        self.require_wanted()
        self._steps.append((vm, back))

    def require_wanted(self) -> None:
        """Raise ``interrupted`` if a signal asks to stop."""
        if self._signals:
            raise FleetError(
                f"The task was interrupted by {self._signals[0]}.", "interrupted", signal=str(self._signals[0])
            )

    def run(self) -> Failures:
        """Take everything back and return ``{vm, msg}`` for each VM of which something could not be.

        A step that fails does not keep the others from being taken back.
        """
        failed: Dict[str, str] = {}
        while self._steps:
            vm, step = self._steps.pop()
            try:
                with translated(f"Changing VM {vm} back"):
                    step()
            except FleetError as error:
                failed[vm] = error.msg
        return [{"vm": vm, "msg": msg} for vm, msg in sorted(failed.items())]


def _nothing(failed: Failures) -> Failures:
    return []


@contextmanager
def all_or_nothing(look: Callable[[Failures], Failures] = _nothing) -> Iterator[Undo]:
    """Take back what the block has added to ``Undo`` if it fails, and say so in the ``FleetError``.

    Its ``rolled_back`` is whether everything is as it was, ``not_rolled_back`` a list of ``{vm, msg}``. ``look`` is
    given the latter afterwards and returns what else is not as it was. SIGTERM, SIGHUP and SIGINT let the block fail
    before its next step (``interrupted``), and do not keep anything from being taken back.
    """
    with _signals_noted() as signals:
        undo = Undo(signals)
        try:
            yield undo
            undo.require_wanted()
        except FleetError as error:
            failed = undo.run()
            failed += look(failed)
            facts = {**error.facts, "rolled_back": not failed, "not_rolled_back": failed}
            raise FleetError(f"{error.msg.rstrip('.')}. {_told(failed)}", error.code, **facts) from error
        except BaseException:
            undo.run()
            raise


@contextmanager
def _signals_noted() -> Iterator[List[str]]:
    """Note the names of signals instead of ending by them; those that are ignored stay so."""
    came: List[str] = []
    if threading.current_thread() is not threading.main_thread():
        # Python lets no other thread handle signals.
        yield came
        return

    def note(number: int, frame: object) -> None:
        came.append(signal.Signals(number).name)

    wanted = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in wanted}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _told(failed: Failures) -> str:
    if not failed:
        return "Everything was put back as it was. Remove the cause, then try again."
    words = "; ".join(f"VM {each['vm']} ({each['msg'].rstrip('.')})" for each in failed)
    return f"Not put back as it was: {words}. Look at these VMs, then try again."


def redefine(conn: Any, undo: Undo, domain: Any, change: Callable[[str], str]) -> str:
    """Change the definition of a VM as it is now, and return what libvirt keeps.

    It is read just before it is written, so that a VM that has left the host is ``libvirt`` and does not come to be
    here again. Raises ``changed_meanwhile`` for one that has lost its definition, and ``not_applied`` if libvirt keeps
    something that ``change`` would change once more.
    """
    name, found = str(domain.name()), definition(domain)
    wanted = change(found)
    if wanted == found:
        return found
    # A running VM without a definition gives one all the same.
    _require_defined(domain, name)
    kept = [wanted]
    undo.add(name, lambda: _define_again(conn, domain, found, kept[-1]))
    kept.append(definition(define(conn, wanted, name)))
    if change(kept[-1]) != kept[-1]:
        raise FleetError(
            f"libvirt keeps another definition of VM {name} than it was given. Compare it with what was asked for.",
            "not_applied",
            vm=name,
        )
    return kept[-1]


def _require_defined(domain: Any, name: str) -> None:
    with translated(f"Asking whether VM {name} is defined"):
        if not domain.isPersistent():
            text = f"VM {name} has no definition any more: somebody has removed it meanwhile. Try again."
            raise FleetError(text, "changed_meanwhile", vm=name)


def _define_again(conn: Any, domain: Any, before: str, written: str) -> None:
    """Define a VM as it was before, unless somebody else has removed or changed its definition meanwhile."""
    name, now = str(domain.name()), definition(domain)
    _require_defined(domain, name)
    if now == before:
        return
    if now != written:
        raise FleetError(
            f"The definition of VM {name} was changed meanwhile, by somebody else. Compare it with what it was.",
            "changed_meanwhile",
            vm=name,
        )
    define(conn, before, name)
