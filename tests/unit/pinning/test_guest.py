# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a VM asks for, from its definition and from a snapshot."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import parse_domain
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning import (
    Guest,
    GuestCell,
    guest_from_data,
    guest_of,
)

NUMA = (
    "<cpu><topology sockets='1' dies='1' cores='4' threads='2'/><numa><cell id='1' cpus='4-7' memory='2048'/>"
    "<cell id='0' cpus='0-1' memory='1024'/></numa></cpu>"
)
PAGES = "<memoryBacking><hugepages><page size='1' unit='GiB'/></hugepages></memoryBacking>"
ODD = (
    "<vcpus><vcpu id='0' enabled='yes'/><vcpu id='2' enabled='yes'/><vcpu id='5' enabled='yes'/>"
    "<vcpu id='6' enabled='no'/></vcpus>"
)


def xml(inside: str, memory: int = 3072) -> str:
    return f"<domain><name>db1</name><uuid>u1</uuid><memory>{memory}</memory>{inside}</domain>"


def as_data(definition: str) -> dict[str, Any]:
    vm = parse_domain(definition)
    return {
        "name": vm.name,
        "uuid": vm.uuid,
        "vcpus": vm.vcpus.as_dict(),
        "memory_kib": vm.memory_kib,
        "pinning": vm.pinning_as_dict(),
        "huge_pages_kib": vm.huge_pages_kib,
        "iothreads": list(vm.iothreads),
    }


@pytest.mark.parametrize(
    ("definition", "guest"),
    [
        (
            xml("<vcpu current='2'>4</vcpu><iothreads>1</iothreads>"),
            Guest("db1", "u1", (0, 1), 4, 1, (GuestCell(0, (0, 1), 3072),), numa=False, iothreads=(1,)),
        ),
        (
            xml(f"<vcpu>8</vcpu>{NUMA}{PAGES}"),
            Guest(
                "db1",
                "u1",
                tuple(range(8)),
                8,
                2,
                (GuestCell(0, (0, 1, 2, 3), 1024), GuestCell(1, (4, 5, 6, 7), 2048)),
                numa=True,
                huge_pages_kib=1048576,
            ),
        ),
        (
            xml(f"<vcpu current='3'>8</vcpu>{ODD}{NUMA}", memory=4096),
            Guest("db1", "u1", (0, 2, 5), 8, 2, (GuestCell(0, (0, 2), 2048), GuestCell(1, (5,), 2048)), numa=True),
        ),
    ],
    ids=["no cells", "cells; vCPUs of none are the first's", "some vCPUs; plugged memory is the first's"],
)
def test_a_definition_and_a_snapshot_give_the_same_guest(definition: str, guest: Guest) -> None:
    assert guest_of(parse_domain(definition)) == guest
    assert guest_from_data(as_data(definition)) == guest


def test_a_snapshot_may_say_little() -> None:
    vm = {"name": "db1", "vcpus": {"current": 2}, "pinning": {"iothreads": [{"iothread": 3, "cpus": "0"}]}}

    assert guest_from_data(vm) == Guest("db1", "", (0, 1), 2, 1, (GuestCell(0, (0, 1), 0),), False, iothreads=(3,))


@pytest.mark.parametrize(
    "vm", [{"name": "db1"}, {"name": "db1", "vcpus": {}}, {"name": "db1", "vcpus": {"current": 1}, "pinning": 3}]
)
def test_a_snapshot_that_cannot_be_read_names_the_vm(vm: dict[str, Any]) -> None:
    with pytest.raises(FleetError, match="VM db1 in the snapshot cannot be read") as caught:
        guest_from_data(vm)
    assert caught.value.code == "bad_snapshot"


def test_threads_of_a_guests_core_go_together() -> None:
    guest = guest_of(parse_domain(xml(f"<vcpu current='3'>8</vcpu>{ODD}{NUMA}")))

    assert guest.siblings((5, 4, 0, 7)) == ((0,), (4, 5), (7,))
    assert guest.memory_kib == 3072
