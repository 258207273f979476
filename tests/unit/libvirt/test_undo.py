# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import NoReturn

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt import api, domains
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.undo import Undo, all_or_nothing, redefine


class LibvirtError(Exception):
    def get_error_code(self) -> int:
        return 42

    def get_error_message(self) -> str:
        return str(self)


class Libvirt(SimpleNamespace):
    def __getattr__(self, name: str) -> int:
        return 0


class Host:
    """A connection and its only VM: `kept` is what libvirt makes of what it is given, `None` a VM that has left."""

    def __init__(self, xml: str) -> None:
        self.xml: str | None = xml
        self.kept: Callable[[str], str] = str
        self.defined: list[str] = []
        self.name = lambda: "a"
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
        monkeypatch.setattr(module, "libvirt", Libvirt(libvirtError=LibvirtError))


def failing(error: BaseException, *bodies: Callable[[Undo], object]) -> NoReturn:
    """Do all this, and then fail."""
    with all_or_nothing() as steps:
        for body in bodies:
            body(steps)
        raise error


def fail(error: BaseException) -> NoReturn:
    raise error


def test_what_was_done_is_taken_back_newest_first_and_the_error_says_so() -> None:
    done: list[str] = []
    with pytest.raises(FleetError) as caught:
        failing(
            FleetError("No.", "refused", vm="c"),
            lambda steps: steps.add("a", lambda: done.append("first")),
            lambda steps: steps.add("b", lambda: done.append("second")),
            lambda steps: steps.add("c", lambda: False),
        )

    assert done == ["second", "first"]
    assert (caught.value.msg, caught.value.code) == ("No. Changed back: a, b.", "refused")
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
    assert caught.value.msg == "No. Changed back: a. VM b could not be changed back: Changing VM b back: gone"
    assert [step["vm"] for step in caught.value.facts["not_rolled_back"]] == ["b"]
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
