# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import (
    HostTopology,
    format_cpuset,
    from_capabilities,
    parse_cpuset,
)

FIXTURES = Path(__file__).parent / "fixtures"


def host(cells: str, topology: str = "") -> HostTopology:
    return from_capabilities(
        f"<capabilities><host><cpu>{topology}</cpu><topology><cells>{cells}</cells></topology></host></capabilities>"
    )


def cell(number: int, cpus: str) -> str:
    return f"<cell id='{number}'><memory unit='KiB'>1024</memory><cpus>{cpus}</cpus></cell>"


def test_two_sockets_with_a_memory_only_and_a_cpu_only_cell() -> None:
    topology = from_capabilities((FIXTURES / "capabilities.xml").read_text(encoding="utf-8"))

    assert topology.as_dict() == {"sockets": 2, "dies": 1, "cores": 3, "threads": 2}
    assert topology.cpus == frozenset(range(12))
    assert topology.memory_kib == 67108864 + 67108864 + 268435456
    assert [each.as_dict() for each in topology.cells] == [
        {
            "id": 0,
            "cpus": "0-2,6-8",
            "memory_kib": 67108864,
            "distances": [10, 21, 12, 17],
            "pages": [{"size_kib": 4, "total": 16252928}, {"size_kib": 2048, "total": 1024}],
            "siblings": ["0,6", "1,7", "2,8"],
        },
        {
            "id": 1,
            "cpus": "3-4,9-10",
            "memory_kib": 67108864,
            "distances": [21, 10, 22, 27],
            "pages": [{"size_kib": 4, "total": 16777216}],
            "siblings": ["3,9", "4,10"],
        },
        {"id": 2, "cpus": "5,11", "memory_kib": 0, "distances": [12, 22, 10, 20], "pages": [], "siblings": ["5,11"]},
        {
            "id": 4,
            "cpus": "",
            "memory_kib": 268435456,
            "distances": [20, 20, 20, 10],
            "pages": [{"size_kib": 4, "total": 67108864}],
            "siblings": [],
        },
    ]


def test_free_memory_and_pages_come_from_the_caller() -> None:
    topology = from_capabilities((FIXTURES / "capabilities.xml").read_text(encoding="utf-8"))

    first = topology.cells[0].as_dict(free_kib=60000000, free_pages={2048: 1000})

    assert first["free_kib"] == 60000000
    assert first["pages"] == [{"size_kib": 4, "total": 16252928}, {"size_kib": 2048, "total": 1024, "free": 1000}]


def test_sockets_that_libvirt_counts_per_cell_are_counted_for_the_host() -> None:
    stated = "<topology sockets='1' dies='1' cores='2' threads='1'/>"
    places = [
        "".join(
            f"<cpu id='{2 * s + c}' socket_id='{s}' die_id='0' core_id='{c}' siblings='{2 * s + c}'/>" for c in (0, 1)
        )
        for s in (0, 1)
    ]

    assert host(cell(0, places[0]) + cell(1, places[1]), stated).as_dict() == {
        "sockets": 2,
        "dies": 1,
        "cores": 2,
        "threads": 1,
    }


def test_cells_that_share_a_socket_do_not_add_sockets() -> None:
    def cpus(first: int) -> str:
        return "".join(
            f"<cpu id='{n}' socket_id='0' die_id='0' core_id='{n}' siblings='{n}'/>" for n in (first, first + 1)
        )

    stated = "<topology sockets='1' dies='1' cores='4' threads='1'/>"

    assert host(cell(0, cpus(0)) + cell(1, cpus(2)), stated).as_dict() == {
        "sockets": 1,
        "dies": 1,
        "cores": 4,
        "threads": 1,
    }


def test_dies_count_within_their_socket_and_cores_within_their_die() -> None:
    cpus = "".join(
        f"<cpu id='{4 * s + 2 * d + c}' socket_id='{s}' die_id='{d}' core_id='{c}' siblings='{4 * s + 2 * d + c}'/>"
        for s in (0, 1)
        for d in (0, 1)
        for c in (0, 1)
    )

    assert host(cell(0, cpus)).as_dict() == {"sockets": 2, "dies": 2, "cores": 2, "threads": 1}


def test_core_numbers_that_repeat_between_clusters_are_different_cores() -> None:
    cpus = "".join(
        f"<cpu id='{2 * k + c}' socket_id='0' die_id='0' cluster_id='{k}' core_id='{c}' siblings='{2 * k + c}'/>"
        for k in (0, 1)
        for c in (0, 1)
    )

    assert host(cell(0, cpus)).cores == 4


def test_offline_cpus_which_libvirt_gives_no_place_are_left_out() -> None:
    topology = host(cell(0, "<cpu id='0' socket_id='0' die_id='0' core_id='0' siblings='0'/><cpu id='1'/>"))

    assert topology.cpus == {0}
    assert topology.as_dict() == {"sockets": 1, "dies": 1, "cores": 1, "threads": 1}


def test_offline_cpus_which_libvirt_puts_somewhere_are_left_out_by_whoever_knows_better() -> None:
    """As libvirt 11.3 on Linux 6.12 tells it: CPU 5 is offline, cell 1 has no memory, cell 3 no CPUs."""
    xml = (FIXTURES / "odd_cells.xml").read_text(encoding="utf-8")

    topology = from_capabilities(xml, online=parse_cpuset("0-4,6-7"))

    assert topology.as_dict() == {"sockets": 2, "dies": 1, "cores": 2, "threads": 2}
    assert [(format_cpuset(cell.cpus), cell.memory_kib) for cell in topology.cells] == [
        ("0-3", 992092),
        ("4", 0),
        ("6-7", 514516),
        ("", 515924),
    ]
    assert [[format_cpuset(core) for core in cell.siblings] for cell in topology.cells] == [
        ["0-1", "2-3"],
        ["4"],
        ["6-7"],
        [],
    ]
    assert topology.cells[1].distances == (21, 10, 12, 21)
    assert from_capabilities(xml).cpus == frozenset(range(8))


def test_cores_with_and_without_a_second_thread_are_counted_together() -> None:
    place = "<cpu id='{0}' socket_id='0' die_id='0' cluster_id='{1}' core_id='{2}' siblings='{3}'/>"
    large = [place.format(cpu, cpu // 2, 4 * (cpu // 2), "0-1" if cpu < 2 else "2-3") for cpu in range(4)]
    small = [place.format(cpu, 8, cpu + 28, cpu) for cpu in range(4, 8)]

    topology = host(cell(0, "".join(large + small)))

    assert topology.as_dict() == {"sockets": 1, "dies": 1, "cores": 6, "threads": 2}
    assert [format_cpuset(core) for core in topology.cells[0].siblings] == ["0-1", "2-3", "4", "5", "6", "7"]


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("<topology sockets='1' dies='1' cores='2' threads='1'/>", (2, 1, 2, 1)),
        ("<topology sockets='1' dies='1' cores='4' threads='1'/>", (1, 1, 4, 1)),
        ("", (1, 1, 4, 1)),
    ],
    ids=["per cell", "uneven host: one socket with all CPUs", "nothing stated"],
)
def test_without_places_libvirts_totals_are_used(stated: str, expected: tuple[int, ...]) -> None:
    topology = host(cell(0, "<cpu id='0'/><cpu id='1'/>") + cell(1, "<cpu id='2'/><cpu id='3'/>"), stated)

    assert tuple(topology.as_dict().values()) == expected
    assert topology.cpus == {0, 1, 2, 3}


def test_a_host_without_cells_has_its_stated_topology() -> None:
    assert host("", "<topology sockets='2' dies='1' cores='4' threads='2'/>") == HostTopology(2, 1, 4, 2)


def test_another_document_is_refused() -> None:
    with pytest.raises(FleetError, match="a <capabilities> is needed"):
        from_capabilities("<domain/>")
