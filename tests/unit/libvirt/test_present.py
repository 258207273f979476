# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A VM that ends or leaves between being listed and being read; nobody can choose that moment in the lab."""

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt import api, domains
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.domains import present

from tests.unit.libvirt.binding import INTERNAL_ERROR, NO_DOMAIN, Libvirt, LibvirtError


@pytest.fixture(autouse=True)
def binding(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (api, domains):
        monkeypatch.setattr(module, "libvirt", Libvirt())


def read(answer: object) -> object:
    if isinstance(answer, Exception):
        raise answer
    return answer


@pytest.mark.parametrize(
    "gone",
    [
        LibvirtError("Domain not found", NO_DOMAIN),
        FleetError("Reading VM web1: Domain not found", libvirt_code=NO_DOMAIN),
    ],
)
def test_one_that_is_gone_is_left_out(gone: Exception) -> None:
    assert present(["a", gone, "b"], read) == ["a", "b"]


@pytest.mark.parametrize(
    "error",
    [LibvirtError("no memory"), FleetError("Reading VM web1: no memory", libvirt_code=INTERNAL_ERROR), FleetError("x")],
)
def test_any_other_error_is_raised(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        present(["a", error, "b"], read)
    assert caught.value is error
