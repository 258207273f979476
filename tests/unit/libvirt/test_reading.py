# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Numbers, URIs and messages of libvirt as the collection reads them."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import overhead_kib
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration.move import move_from_dict
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration.watch import progress
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import bounded, remote_endpoint
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.cpu import missing_in_message
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.domains import state_of
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.host import describe_cell
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.host_cpu import dotted
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import Cell, PageSize


@pytest.mark.parametrize(
    ("uri", "endpoint"),
    [
        ("qemu:///system", None),
        ("test:///default", None),
        ("qemu+ssh://root@hv2/system", ("hv2", 22)),
        ("qemu+ssh://root@hv2:2222/system", ("hv2", 2222)),
        ("qemu+libssh2://hv2/system", ("hv2", 22)),
        ("qemu+tls://10.0.0.2/system", ("10.0.0.2", 16514)),
        ("qemu://hv2/system", ("hv2", 16514)),
        ("qemu+tcp://[fd00::2]/system", ("fd00::2", 16509)),
        ("qemu+unix:///system?socket=/tmp/sock", None),
        ("qemu+ext://hv2/system", None),
    ],
)
def test_a_remote_uri_leads_to_a_host_and_port(uri: str, endpoint: tuple[str, int] | None) -> None:
    assert remote_endpoint(uri) == endpoint


@pytest.mark.parametrize(
    ("numbers", "state", "reason", "active"),
    [
        ((1, 1), "running", "booted", True),
        ((1, 2), "running", "migrated", True),
        ((1, 6), "running", "migration_canceled", True),
        ((3, 1), "paused", "user", True),
        ((3, 2), "paused", "migration", True),
        ((3, 13), "paused", "postcopy_failed", True),
        ((5, 1), "shutoff", "shutdown", False),
        ((5, 4), "shutoff", "migrated", False),
        ((6, 0), "crashed", "unknown", False),
        ((7, 0), "pmsuspended", "unknown", True),
        ((3, 99), "paused", "unknown", True),
        ((42, 0), "nostate", "unknown", False),
    ],
)
def test_states_have_libvirts_names(numbers: tuple[int, int], state: str, reason: str, active: bool) -> None:
    found = state_of(*numbers)
    assert (found.state, found.reason, found.active) == (state, reason, active)


@pytest.mark.parametrize(
    ("message", "missing"),
    [
        (
            "the CPU is incompatible with host CPU: Host CPU does not provide required features: fma, avx2",
            ("avx2", "fma"),
        ),
        ("guest CPU doesn't match specification: missing features: sse4.1,avx512-bf16", ("avx512-bf16", "sse4.1")),
        ("host CPU vendor does not match required CPU vendor Intel", ()),
    ],
)
def test_missing_features_are_read_from_libvirts_words(message: str, missing: tuple[str, ...]) -> None:
    assert missing_in_message(message) == missing


def test_a_version_number_becomes_dotted() -> None:
    assert dotted(11003000) == "11.3.0"
    assert dotted(10000013) == "10.0.13"


def memory(free: list[int], pages: dict[int, dict[int, int]]) -> SimpleNamespace:
    """The two questions about a cell, answered as libvirt answers on some host."""
    return SimpleNamespace(getCellsFreeMemory=lambda start, count: free, getFreePages=lambda sizes, start, count: pages)


@pytest.mark.parametrize(
    ("conn", "free_kib", "free_pages"),
    [
        (memory([512 * 1024], {2: {2048: 7}}), 512, 7),
        (memory([0], {2: {2048: 0}}), 0, 0),
        (memory([], {}), None, None),
    ],
    ids=["a cell with memory", "a cell with CPUs only", "libvirt finds no NUMA"],
)
def test_free_memory_of_a_cell_is_what_libvirt_tells(
    conn: SimpleNamespace, free_kib: int | None, free_pages: int | None
) -> None:
    described = describe_cell(conn, Cell(2, frozenset(), 1024, pages=(PageSize(2048, 9),)))
    assert described.get("free_kib") == free_kib
    assert described["pages"][0].get("free") == free_pages


def test_overhead_grows_with_memory_and_vcpus() -> None:
    assert overhead_kib(0, 1) == (64 + 8) * 1024
    assert overhead_kib(8 * 1024 * 1024, 4) == (64 + 32 + 16) * 1024


def test_progress_is_told_in_percent_and_speed() -> None:
    stats = {
        "data_total": 400 * 1048576,
        "data_remaining": 100 * 1048576,
        "memory_bps": 50 * 1048576,
        "auto_converge_throttle": 30,
        "downtime": 240,
        "time_elapsed": 6000,
    }
    assert progress(stats, rounds=2) == {
        "percent": 75,
        "remaining_kib": 100 * 1024,
        "speed_mib_s": 50.0,
        "eta_s": 2,
        "iteration": 2,
        "throttle_percent": 30,
        "expected_downtime_ms": 240,
        "elapsed_ms": 6000,
    }


def test_progress_before_the_first_figures_is_zero() -> None:
    assert progress({}) == {
        "percent": 0,
        "remaining_kib": 0,
        "speed_mib_s": 0.0,
        "eta_s": None,
        "iteration": 0,
        "throttle_percent": 0,
        "expected_downtime_ms": None,
        "elapsed_ms": 0,
    }


def test_a_move_is_looked_up_by_uuid_and_keeps_its_pins() -> None:
    move = move_from_dict(
        {
            "vm": "db1",
            "uuid": "u1",
            "destination": "hv2",
            "uri": "qemu+ssh://root@hv2/system",
            "pins": {"vcpus": [{"vcpu": 0, "cpus": "2"}], "emulator": "0-1"},
        }
    )
    assert move.key == "u1"
    assert move.pins is not None
    assert [(pin.vcpu, pin.cpus) for pin in move.pins.vcpus] == [(0, "2")]
    assert move.pins.emulator == "0-1"


def test_a_move_without_pins_keeps_the_present_ones() -> None:
    assert move_from_dict({"vm": "db1", "destination": "hv2", "uri": "x", "pins": None}).pins is None


def test_a_call_that_does_not_answer_is_given_up() -> None:
    begun = time.monotonic()
    with pytest.raises(FleetError, match=r"Asking hv2: no answer within 0\.05 seconds") as caught:
        bounded(lambda: time.sleep(5), 0.05, "Asking hv2")
    assert caught.value.code == "timeout"
    assert time.monotonic() - begun < 2
