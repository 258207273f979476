# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A VM that leaves its source between two questions; the hosts of the lab do so in a moment that nobody can choose."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration import sides
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration.move import Move
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration.sides import Peers, Sides

from tests.unit.libvirt.binding import Libvirt, LibvirtError

MOVE = Move(vm="web1", uuid=None, destination="hv2", uri="qemu+ssh://hv2/system")
DOMAIN = object()


@pytest.fixture(autouse=True)
def binding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "libvirt", Libvirt())


class Seen(Sides):
    """Sides whose source answers each look-up with the next of some answers."""

    def __init__(self, *answers: Any) -> None:
        super().__init__(Peers(), "qemu:///system", MOVE)
        self.answers = list(answers)

    def source_domain(self) -> Any:
        return self.answers.pop(0)


ERRORS = (FleetError("Reading VM web1: Domain not found", "libvirt"), LibvirtError("Domain not found"))


def failing(error: Exception) -> Any:
    def read(_domain: Any) -> None:
        raise error

    return read


def test_what_is_there_is_read() -> None:
    assert Seen(DOMAIN).of_source(lambda domain: domain is DOMAIN, None) is True


def test_what_is_not_there_is_not_read() -> None:
    assert Seen(None).of_source(failing(ERRORS[0]), "absent") == "absent"


@pytest.mark.parametrize("error", ERRORS)
def test_what_leaves_meanwhile_is_absent(error: Exception) -> None:
    assert Seen(DOMAIN, None).of_source(failing(error), "absent") == "absent"


@pytest.mark.parametrize("error", ERRORS)
def test_what_cannot_be_read_and_is_still_there_is_an_error(error: Exception) -> None:
    with pytest.raises(type(error), match="Domain not found"):
        Seen(DOMAIN, DOMAIN).of_source(failing(error), "absent")
