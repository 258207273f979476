# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt import api, domains
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.undo import Undo, all_or_nothing, redefine

from tests.unit.libvirt.binding import Libvirt, LibvirtError


class Host:
    """A connection and its only VM: `kept` is what libvirt makes of what it is given, `None` a VM that has left."""

    def __init__(self, xml: str) -> None:
        self.xml: str | None = xml
        self.kept: Callable[[str], str] = str
        self.defined: list[str] = []
        self.persistent = True
        self.name = lambda: "a"
        self.isPersistent = lambda: self.persistent
        self.XMLDesc = lambda flags: self._read()
        self.defineXMLFlags = lambda xml, flags: self._define(xml)

    def _read(self) -> str:
        if self.xml is None:
            raise LibvirtError("no domain")
        return self.xml

    def _define(self, xml: str) -> Host:
        self.defined.append(xml)
        self.xml = self.kept(xml)
        return self


@pytest.fixture(autouse=True)
def _libvirt(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (api, domains):
        monkeypatch.setattr(module, "libvirt", Libvirt())


def failing(error: BaseException, *bodies: Callable[[Undo], object]) -> NoReturn:
    """Do all this, and then fail."""
    doing(*bodies, lambda steps: fail(error))
    raise AssertionError("it did not fail")


def doing(*bodies: Callable[[Undo], object], **options: Any) -> None:
    with all_or_nothing(**options) as steps:
        for body in bodies:
            body(steps)


def fail(error: BaseException) -> NoReturn:
    raise error


def test_what_was_done_is_taken_back_newest_first_and_the_error_says_so() -> None:
    done: list[str] = []
    with pytest.raises(FleetError) as caught:
        failing(
            FleetError("No.", "refused", vm="c"),
            lambda steps: steps.add("a", lambda: done.append("first")),
            lambda steps: steps.add("b", lambda: done.append("second")),
        )

    assert done == ["second", "first"]
    assert caught.value.msg == "No. Everything was put back as it was. Remove the cause, then try again."
    assert caught.value.code == "refused"
    assert caught.value.facts == {"vm": "c", "rolled_back": True, "not_rolled_back": []}


def test_a_step_that_fails_keeps_no_other_from_being_taken_back() -> None:
    done: list[str] = []
    with pytest.raises(FleetError) as caught:
        failing(
            FleetError("No.", "refused"),
            lambda steps: steps.add("a", lambda: done.append("a")),
            lambda steps: steps.add("b", lambda: fail(LibvirtError("gone"))),
        )

    assert done == ["a"]
    told = "Not put back as it was: VM b (Changing VM b back: gone). Look at these VMs, then try again."
    assert caught.value.msg == f"No. {told}"
    assert caught.value.facts["not_rolled_back"] == [{"vm": "b", "msg": "Changing VM b back: gone"}]
    assert not caught.value.facts["rolled_back"]


def test_nothing_is_taken_back_without_a_failure() -> None:
    done: list[str] = []
    with all_or_nothing() as steps:
        steps.add("a", lambda: done.append("a"))

    assert done == []


def test_an_interruption_is_taken_back_and_goes_on() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        failing(KeyboardInterrupt(), lambda steps: steps.add("a", lambda: done.append("a")))

    assert done == ["a"]


def test_a_definition_is_written_and_taken_back() -> None:
    host = Host("old")
    with pytest.raises(FleetError):
        failing(FleetError("No."), lambda steps: redefine(host, steps, host, lambda xml: "new"))

    assert (host.xml, host.defined) == ("old", ["new", "old"])


def test_a_definition_that_is_right_is_not_written() -> None:
    host = Host("old")

    assert redefine(host, Undo(), host, str) == "old"
    assert host.defined == []


def test_what_libvirt_keeps_otherwise_is_taken_back() -> None:
    host = Host("old")
    host.kept = lambda xml: "other" if xml == "new" else xml
    with pytest.raises(FleetError) as caught:
        failing(FleetError("Not reached."), lambda steps: redefine(host, steps, host, lambda xml: "new"))

    assert (caught.value.code, caught.value.facts["rolled_back"], host.xml) == ("not_applied", True, "old")


def test_a_vm_that_has_left_does_not_come_back() -> None:
    host = Host("old")
    with pytest.raises(FleetError) as caught:
        failing(
            FleetError("No."),
            lambda steps: redefine(host, steps, host, lambda xml: "new"),
            lambda steps: setattr(host, "xml", None),
        )

    assert (host.xml, host.defined) == (None, ["new"])
    assert [step["vm"] for step in caught.value.facts["not_rolled_back"]] == ["a"]


def test_vm_that_has_lost_its_definition_is_not_defined_by_a_change() -> None:
    """A running VM without a definition gives XML all the same."""
    host = Host("old")
    host.persistent = False
    with pytest.raises(FleetError) as caught:
        failing(FleetError("Not reached."), lambda steps: redefine(host, steps, host, lambda xml: "new"))

    assert (caught.value.code, caught.value.facts["not_rolled_back"], host.defined) == ("changed_meanwhile", [], [])


@pytest.mark.parametrize(
    ("meanwhile", "words"),
    [({"persistent": False}, "no definition any more"), ({"xml": "edited"}, "changed meanwhile")],
    ids=["removed", "edited"],
)
def test_definition_that_others_remove_or_change_meanwhile_is_not_taken_back(
    meanwhile: dict[str, object], words: str
) -> None:
    host = Host("old")
    with pytest.raises(FleetError) as caught:
        failing(
            FleetError("No."),
            lambda steps: redefine(host, steps, host, lambda xml: "new"),
            lambda steps: vars(host).update(meanwhile),
        )

    assert host.defined == ["new"]
    ((vm, text),) = [(step["vm"], step["msg"]) for step in caught.value.facts["not_rolled_back"]]
    assert vm == "a"
    assert words in text


def test_what_libvirt_made_of_a_definition_is_no_edit_of_others() -> None:
    host = Host("old")
    host.kept = lambda xml: xml if xml == "old" else "new, tidied"
    with pytest.raises(FleetError) as caught:
        failing(
            FleetError("No."),
            lambda steps: redefine(host, steps, host, lambda xml: xml if xml == "new, tidied" else "new"),
        )

    assert (caught.value.facts["rolled_back"], host.xml) == (True, "old")


def test_what_is_found_otherwise_at_the_end_is_told_too() -> None:
    def looked(failed: list[dict[str, str]]) -> list[dict[str, str]]:
        return [{"vm": "b", "msg": f"it differs, and so do {len(failed)} others"}]

    with pytest.raises(FleetError) as caught:
        doing(
            lambda steps: steps.add("a", lambda: fail(LibvirtError("gone"))),
            lambda steps: fail(FleetError("No.", "refused")),
            look=looked,
        )

    assert [step["vm"] for step in caught.value.facts["not_rolled_back"]] == ["a", "b"]
    assert not caught.value.facts["rolled_back"]
    assert "VM b (it differs, and so do 1 others)" in caught.value.msg


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signal_stops_before_the_next_step_and_cannot_stop_what_is_taken_back(number: signal.Signals) -> None:
    done: list[str] = []

    def back(name: str) -> Callable[[], None]:
        def run() -> None:
            os.kill(os.getpid(), number)
            done.append(name)

        return run

    def next_step(steps: Undo) -> None:
        steps.add("c", back("c"))
        done.append("not reached")

    before = signal.getsignal(number)
    with pytest.raises(FleetError) as caught:
        failing(
            FleetError("Not reached."),
            lambda steps: steps.add("a", back("a")),
            lambda steps: steps.add("b", back("b")),
            lambda steps: os.kill(os.getpid(), number),
            next_step,
        )

    assert done == ["b", "a"]
    assert (caught.value.code, caught.value.facts["signal"]) == ("interrupted", number.name)
    assert caught.value.facts["rolled_back"]
    assert signal.getsignal(number) == before


def test_signal_after_the_last_step_takes_everything_back() -> None:
    done: list[str] = []
    with pytest.raises(FleetError) as caught:
        doing(
            lambda steps: steps.add("a", lambda: done.append("a")),
            lambda steps: os.kill(os.getpid(), signal.SIGTERM),
        )

    assert (caught.value.code, done) == ("interrupted", ["a"])


def test_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with all_or_nothing():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
