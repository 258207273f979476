# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the memory of a VM is sent, and whether it can be sent at all."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import parse_domain
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration.destination import (
    local_address,
    migration_port,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration.move import Move
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration.transport import (
    Transport,
    connections,
    require_possible,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._migration import Schedule, schedule_from

PRE_COPY, POST_COPY = schedule_from("minimal_downtime"), schedule_from("post_copy")

EXCLUDED = [
    ({"tunnelled": True, "tls": True}, PRE_COPY, ("tunnelled", "tls")),
    ({"tunnelled": True, "parallel_connections": 2}, PRE_COPY, ("tunnelled", "parallel_connections")),
    ({"tunnelled": True}, POST_COPY, ("tunnelled", "post_copy")),
    ({"parallel_connections": 4}, POST_COPY, ("parallel_connections", "post_copy")),
    ({"parallel_connections": 4, "compression": "xbzrle"}, PRE_COPY, ("parallel_connections", "xbzrle")),
    ({"compression": "zstd"}, PRE_COPY, ("zstd", "one connection")),
    ({"compression": "zlib"}, PRE_COPY, ("zlib", "one connection")),
]

POSSIBLE = [
    ({}, PRE_COPY),
    ({}, POST_COPY),
    ({"tls": True, "compression": "xbzrle"}, POST_COPY),
    ({"tls": True, "parallel_connections": 4, "compression": "zstd"}, PRE_COPY),
    ({"tunnelled": True}, PRE_COPY),
]


@pytest.mark.parametrize(("wishes", "schedule", "named"), EXCLUDED)
def test_wishes_that_exclude_each_other_are_named(
    wishes: dict[str, Any], schedule: Schedule, named: tuple[str, ...]
) -> None:
    with pytest.raises(FleetError, match="is not possible with") as caught:
        require_possible(Transport(**wishes), schedule)
    assert caught.value.code == "bad_input"
    for name in named:
        assert name in caught.value.msg


def test_disks_are_not_copied_through_a_tunnel() -> None:
    with pytest.raises(FleetError, match="tunnelled is not possible with copy_storage") as caught:
        require_possible(Transport(tunnelled=True), PRE_COPY, copy_storage=True)
    assert caught.value.code == "bad_input"


@pytest.mark.parametrize("copy_storage", [False, True])
@pytest.mark.parametrize(("wishes", "schedule"), POSSIBLE[:-1])
def test_disks_are_copied_in_every_other_way(wishes: dict[str, Any], schedule: Schedule, copy_storage: bool) -> None:
    require_possible(Transport(**wishes), schedule, copy_storage)


@pytest.mark.parametrize(("wishes", "schedule"), POSSIBLE)
def test_other_wishes_are_taken(wishes: dict[str, Any], schedule: Schedule) -> None:
    require_possible(Transport(**wishes), schedule)


@pytest.mark.parametrize(
    ("emulator", "asked", "expected"),
    [("", 8, 8), ("", 1, 1), ("2-3", 8, 2), ("2", 8, 1), ("2-3", 1, 1), ("0-31", 8, 8), ("", 1000, 255)],
)
def test_no_more_connections_than_the_emulator_has_cpus(emulator: str, asked: int, expected: int) -> None:
    pin = f"<cputune><emulatorpin cpuset='{emulator}'/></cputune>" if emulator else ""
    vm = parse_domain(f"<domain type='kvm' id='3'><name>db1</name><memory>1</memory><vcpu>2</vcpu>{pin}</domain>")
    assert connections(Transport(parallel_connections=asked), vm) == expected


def move(migrate_uri: str | None = None, uri: str = "qemu+ssh://root@127.0.0.1/system") -> Move:
    return Move("db1", "hv2", uri, migrate_uri=migrate_uri)


@pytest.fixture
def port() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_that_takes_connections_or_says_no_can_be_reached(port: int) -> None:
    assert migration_port(move(f"tcp://127.0.0.1:{port}")) is None
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    assert migration_port(move(f"tcp://127.0.0.1:{closed}")) is None


@pytest.mark.parametrize("address", ["no-such-host.invalid", "255.255.255.255"])
def test_an_address_that_leads_nowhere_is_told(address: str) -> None:
    found = migration_port(move(f"tcp://{address}"))
    assert found is not None
    assert found.code == "port_blocked"
    assert f"hv2 cannot be sent memory at {address} port 49152 (" in found.text


def test_a_way_that_nobody_can_try_is_not_judged() -> None:
    assert migration_port(move(uri="qemu+unix:///system?socket=/tmp/sock")) is None
    assert local_address(move(uri="qemu+unix:///system?socket=/tmp/sock")) is None


def test_a_link_is_the_address_that_the_memory_is_sent_from() -> None:
    assert local_address(move("tcp://127.0.0.1:49200")) == "127.0.0.1"
    assert local_address(move()) == "127.0.0.1"
    assert local_address(move("tcp://no-such-host.invalid")) is None
