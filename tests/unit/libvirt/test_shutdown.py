# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guests that go off while libvirt reports an error; in the lab that happens in a moment that nobody can choose."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, List, Optional

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt import api, connection
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._power import look, shutdown
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._power.look import Look
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.deadline import Deadline
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.domains import DomainState

from tests.unit.libvirt.binding import Libvirt, LibvirtError

AGENT, ACPI = 1, 2
INVALID = 55
END_OF_FILE = LibvirtError("internal error: End of file from agent socket")
NOT_RUNNING = LibvirtError("Requested operation is not valid: domain is not running", INVALID)


class Guest:
    """One that answers each request with the next of some errors, and is off from the ``off``-th look on."""

    def __init__(self, *errors: Any, off: Optional[int]) -> None:
        self.errors, self.off, self.looks = list(errors), off, 0
        self.asked: List[int] = []
        # libvirt's names
        self.domain = SimpleNamespace(name=lambda: "web1", isActive=self._is_active, shutdownFlags=self._shut_down)

    def _is_active(self) -> bool:
        self.looks += 1
        return self.off is None or self.looks < self.off

    def _shut_down(self, flags: int) -> int:
        self.asked.append(flags)
        error = self.errors.pop(0)
        if error is not None:
            raise error
        return 0


@pytest.fixture(autouse=True)
def binding(monkeypatch: pytest.MonkeyPatch) -> None:
    libvirt = Libvirt(
        VIR_DOMAIN_SHUTDOWN_GUEST_AGENT=AGENT,
        VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN=ACPI,
        VIR_ERR_OPERATION_INVALID=INVALID,
    )
    for module in (api, look, shutdown):
        monkeypatch.setattr(module, "libvirt", libvirt)
    monkeypatch.setattr(connection, "require_libvirt", lambda: libvirt)
    monkeypatch.setattr(shutdown, "SETTLE_S", 0.5)


def asking(guest: Guest, agent: Optional[bool] = True) -> shutdown.Asking:
    running = DomainState("running", "booted")
    return shutdown.Asking(Look(guest.domain, "web1", "u", running, True, True, False, agent=agent, remembered=None))


@pytest.mark.parametrize("off", [1, 2])
def test_a_guest_that_goes_off_with_an_error_has_heard(off: int) -> None:
    guest = Guest(END_OF_FILE, off=off)
    request = asking(guest)
    assert request.ask(Deadline(10)) == "agent"
    assert (guest.asked, request.heard) == ([AGENT], ["agent"])


def test_after_an_error_the_next_way_is_tried() -> None:
    guest = Guest(END_OF_FILE, None, off=6)
    request = asking(guest)
    assert request.ask(Deadline(10)) == "acpi"
    assert (guest.asked, request.heard) == ([AGENT, ACPI], ["agent", "acpi"])


def test_it_was_the_agent_if_it_is_off_when_acpi_asks() -> None:
    guest = Guest(END_OF_FILE, NOT_RUNNING, off=5)
    assert asking(guest).ask(Deadline(10)) == "agent"
    assert guest.asked == [AGENT, ACPI]


def test_one_that_goes_off_before_it_is_asked_went_off_by_itself() -> None:
    request = asking(Guest(NOT_RUNNING, off=1), agent=None)
    assert (request.ask(Deadline(10)), request.heard) == ("itself", [])


@pytest.mark.parametrize(("error", "heard"), [(END_OF_FILE, ["acpi"]), (NOT_RUNNING, [])])
def test_only_an_error_that_says_so_means_that_it_has_not_heard(error: Any, heard: List[str]) -> None:
    request = asking(Guest(error, off=None), agent=None)
    assert (request.ask(Deadline(1)), request.heard) == (None, heard)
    assert request.refused == [f"acpi: {error}"]
