# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._cpu import same_cpu
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    Following,
    GuestCell,
    Home,
    MemNode,
    Pinning,
    Policy,
    ResourceWish,
    Topology,
    VcpuPin,
    parse_domain,
    policy_of_domain,
    resources_of,
    resources_text,
    with_cpu,
    with_pinning,
    with_policy,
    with_resources,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import parse_cpuset
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

MIB = 1024
OWNED = ("vcpu", "vcpus", "iothreads", "iothreadids", "memoryBacking", "cpu/topology", "cpu/numa")


def wish(data: dict[str, Any]) -> ResourceWish:
    return ResourceWish.from_dict(data)


def shaped(xml: str, data: dict[str, Any], drop_pins: bool = False) -> str:
    """Return the changed XML, and see that a second time changes nothing."""
    written = with_resources(xml, wish(data), drop_pins)
    assert with_resources(written, wish(data), drop_pins) == written
    return written


def refused(xml: str, data: dict[str, Any], drop_pins: bool = False) -> FleetError:
    with pytest.raises(FleetError) as caught:
        with_resources(xml, wish(data), drop_pins)
    assert caught.value.facts["vm"] in caught.value.msg
    return caught.value


def vm(*parts: str, vcpus: int = 4, memory_mib: int = 4096, devices: str = "", cpu: str = "") -> str:
    return (
        f"<domain><name>a</name><memory>{memory_mib * MIB}</memory>{''.join(parts)}<vcpu>{vcpus}</vcpu>"
        f"<os><type arch='x86_64'>hvm</type></os><cpu>{cpu}</cpu><devices>{devices}</devices></domain>"
    )


def cells(*sizes: tuple[str, int]) -> tuple[GuestCell, ...]:
    return tuple(GuestCell(number, vcpus, mib * MIB) for number, (vcpus, mib) in enumerate(sizes))


def listed(*sizes: tuple[str, int]) -> list[dict[str, Any]]:
    return [{"vcpus": vcpus, "memory_kib": mib * MIB} for vcpus, mib in sizes]


def test_a_vm_is_shaped_and_all_else_stays(plain: str, nodes: Callable[..., Any]) -> None:
    data = {
        "vcpus": {"maximum": 8, "current": 4, "topology": {"sockets": 2, "threads": 2}},
        "cells": 2,
        "huge_pages_kib": 2048,
        "iothreads": 2,
    }

    written = shaped(plain, data)

    assert resources_of(parse_domain(written)).as_dict() == {
        "vcpus": {"maximum": 8, "current": 4, "topology": {"sockets": 2, "dies": 1, "cores": 2, "threads": 2}},
        "cells": [
            {"id": 0, "vcpus": "0-3", "memory_kib": 256 * MIB},
            {"id": 1, "vcpus": "4-7", "memory_kib": 256 * MIB},
        ],
        "huge_pages_kib": 2048,
        "iothreads": [1, 2],
    }
    assert nodes(written, *OWNED, "cpu") == nodes(plain, *OWNED)


def test_new_parts_stand_where_libvirt_prints_them(plain: str) -> None:
    written = shaped(plain, {"vcpus": {"topology": {"threads": 2}}, "cells": 1, "huge_pages_kib": 2048, "iothreads": 1})
    root = etree.fromstring(written)

    assert [child.tag for child in root][:8] == [
        *("name", "uuid", "memory", "memoryBacking", "vcpu", "iothreads", "os", "cpu")
    ]
    assert [child.tag for child in root.find("cpu")] == ["topology", "numa"]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"vcpus": {"maximum": 8, "current": 4}},
        {"vcpus": {"topology": {"sockets": 2, "cores": 2, "threads": 2}}},
        {"vcpus": {"topology": {"sockets": 2, "threads": 2}}, "iothreads": 1},
        {"cells": 1, "huge_pages_kib": 2048},
        {"cells": [{"vcpus": "0-7", "memory_kib": "8388608"}]},
    ],
)
def test_a_vm_that_is_as_wished_stays_as_it_is(live: str, data: dict[str, Any]) -> None:
    assert with_resources(live, wish(data)) == live


@pytest.mark.parametrize(
    ("given_topology", "expected"),
    [
        ({"sockets": 2}, (2, 1, 4, 1)),
        ({"threads": 2}, (1, 1, 4, 2)),
        ({"cores": 2}, (4, 1, 2, 1)),
        ({"cores": 2, "threads": 2}, (2, 1, 2, 2)),
        ({"dies": 2}, (1, 2, 4, 1)),
        ({"sockets": 2, "dies": 2, "cores": 1, "threads": 2}, (2, 2, 1, 2)),
    ],
)
def test_what_a_topology_lacks_makes_the_product(given_topology: dict[str, int], expected: tuple[int, ...]) -> None:
    written = shaped(vm(vcpus=8), {"vcpus": {"topology": given_topology}})

    assert resources_of(parse_domain(written)).topology == Topology(*expected)


@pytest.mark.parametrize(
    ("xml", "data", "code", "words"),
    [
        (vm(), {"vcpus": {"topology": {"sockets": 3}}}, "topology", "makes 3 vCPUs and not the maximum of 4"),
        (vm(), {"vcpus": {"maximum": 6, "topology": {"sockets": 2, "cores": 2}}}, "topology", "makes 4 vCPUs"),
        (
            vm(cpu="<topology sockets='1' cores='4' threads='1'/>"),
            {"vcpus": {"maximum": 8}},
            "topology",
            "makes 4 vCPUs and not the maximum of 8",
        ),
        (vm(), {"vcpus": {"maximum": 2}}, "vcpus", "4 vCPUs at the start are more than the 2"),
        (vm(), {"vcpus": {"current": 5}}, "vcpus", "5 vCPUs at the start are more than the 4"),
        (vm(), {"cells": listed(("0-1", 2048), ("2", 2048))}, "cells", "the vCPUs 3 are in no cell"),
        (vm(), {"cells": listed(("0-2", 2048), ("2-3", 2048))}, "cells", "the vCPUs 2 are in several cells"),
        (vm(), {"cells": listed(("0-7", 4096))}, "cells", "the vCPUs 4-7, and it has none beyond 3"),
        (vm(), {"cells": listed(("0-1", 2048), ("2-3", 1024))}, "cells", "have 3145728 KiB of memory, and it has"),
        (vm(), {"cells": 5}, "cells", "4 cores cannot be shared out to 5 cells"),
        (vm(memory_mib=2048), {"cells": 3, "huge_pages_kib": 1048576}, "cells", "2 pieces of memory of 1048576 KiB"),
        (vm(memory_mib=1536), {"huge_pages_kib": 1048576}, "huge_pages", "it has 1572864 KiB"),
        (
            vm("<memoryBacking><hugepages/></memoryBacking>", memory_mib=3),
            {"cells": listed(("0-1", 1), ("2-3", 2))},
            "huge_pages",
            "cell 0 has 1024 KiB",
        ),
        (
            vm(devices="<memory model='dimm'><target><size>1024</size><node>0</node></target></memory>", memory_mib=5),
            {"huge_pages_kib": 2048},
            "huge_pages",
            "DIMM 0 has 1024 KiB",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(xml: str, data: dict[str, Any], code: str, words: str) -> None:
    error = refused(xml, data)

    assert (error.code, words in error.msg) == (code, True), error.msg


def test_cells_that_grow_with_the_vcpus_have_to_be_given_anew(live: str) -> None:
    error = refused(live, {"vcpus": {"maximum": 16, "topology": {"cores": 8}}})

    assert (error.code, "the vCPUs 8-15 are in no cell" in error.msg) == ("cells", True)


@given(
    cores=st.integers(1, 40), threads=st.sampled_from([1, 2]), count=st.integers(1, 40), kib=st.integers(1024, 10**7)
)
def test_equal_cells_have_everything_once_and_whole_cores(cores: int, threads: int, count: int, kib: int) -> None:
    maximum = cores * threads
    xml = vm(vcpus=maximum).replace(f"<memory>{4096 * MIB}", f"<memory>{kib}")
    data = {"vcpus": {"topology": {"threads": threads}}, "cells": count}
    if count > min(cores, kib // MIB):
        assert refused(xml, data).code == "cells"
        return

    found = parse_domain(shaped(xml, data)).guest_cells

    sizes = [len(parse_cpuset(cell.vcpus)) // threads for cell in found]
    assert len(sizes) == count
    assert max(sizes) - min(sizes) <= 1
    assert [int(cell.vcpus.split("-")[0]) % threads for cell in found] == [0] * count
    assert sum(cell.memory_kib for cell in found) == kib
    assert max(cell.memory_kib for cell in found) - min(cell.memory_kib for cell in found) < 2 * MIB


def test_memory_of_dimms_is_in_no_cell() -> None:
    dimm = "<memory model='dimm'><target><size unit='MiB'>1024</size><node>0</node></target></memory>"

    written = shaped(vm(devices=dimm, memory_mib=5120), {"cells": 2})

    assert parse_domain(written).guest_cells == cells(("0-1", 2048), ("2-3", 2048))


NUMA = (
    "<numa><cell id='0' cpus='0-1' memory='2' unit='GiB' memAccess='shared'><distances><sibling id='1' value='21'/>"
    "</distances></cell><cell id='1' cpus='2-3' memory='2' unit='GiB' memAccess='shared'/></numa>"
)


def test_cells_keep_how_their_memory_is_made() -> None:
    written = shaped(vm(cpu=NUMA), {"cells": 4})

    cell = etree.fromstring(written).findall("cpu/numa/cell")
    assert [each.get("memAccess") for each in cell] == ["shared"] * 4
    assert [each.get("value") for each in cell[0].iter("sibling")] == ["21"]


def test_a_cell_that_goes_takes_its_distances_along() -> None:
    written = shaped(vm(cpu=NUMA), {"cells": 1})

    assert etree.fromstring(written).find(".//distances") is None
    assert parse_domain(written).guest_cells == cells(("0-3", 4096))
    shared = "<memoryBacking><access mode='shared'/></memoryBacking>"
    assert etree.fromstring(shaped(vm(shared, cpu=NUMA), {"cells": 0})).find("cpu/numa") is None


@pytest.mark.parametrize(
    ("before", "count", "words"),
    [
        (NUMA, 0, ["cell 0 has memory with memAccess='shared', which <memoryBacking> does not have", "cell 1 has"]),
        (NUMA.replace("memAccess='shared'/>", "/>"), 1, None),
        (NUMA.replace("memAccess='shared'>", ">"), 1,
         ["cell 1 has memory with memAccess='shared', which the other cells do not have"]),
        (NUMA.replace("memAccess='shared'", "memAccess='private'"), 0, None),
        (NUMA.replace("memAccess='shared'", "discard='no'"), 0, None),
        (NUMA.replace("memAccess='shared'", "discard='yes'"), 0, ["discard='yes'"]),
    ],
)  # fmt: skip
def test_a_cell_does_not_take_along_how_memory_is_made(before: str, count: int, words: list[str] | None) -> None:
    if words is None:
        shaped(vm(cpu=before), {"cells": count})
        return

    error = refused(vm(cpu=before), {"cells": count})

    assert (error.code, [word in error.msg for word in words]) == ("in_use", [True] * len(words)), error.msg


def test_how_the_memory_of_the_vm_is_made_goes_for_cells_that_go() -> None:
    backing = "<memoryBacking><access mode='shared'/><discard/></memoryBacking>"

    shaped(vm(backing, cpu=NUMA.replace("memAccess='shared'", "discard='yes'")), {"cells": 0})
    shaped(vm(backing, cpu=NUMA.replace("memAccess='shared'>", ">")), {"cells": 1})


@pytest.mark.parametrize("xml", [vm(vcpus=8, cpu=NUMA), vm(cpu="<feature name='x'/>"), vm().replace("<cpu></cpu>", "")])
def test_cpu_and_resources_can_be_written_in_either_order(xml: str) -> None:
    cpu = "<cpu mode='custom'><model>Haswell</model><feature name='md-clear' policy='require'/></cpu>"
    data = {"vcpus": {"topology": {"threads": 2}}, "cells": 4 if "numa" in xml else 2}

    cpu_first, cpu_last = shaped(with_cpu(xml, cpu), data), with_cpu(shaped(xml, data), cpu)

    assert resources_of(parse_domain(cpu_first)) == resources_of(parse_domain(cpu_last))
    found = [etree.fromstring(written).find("cpu") for written in (cpu_first, cpu_last)]
    assert [[child.tag for child in each] for each in found] == [["model", "topology", "feature", "numa"]] * 2
    assert same_cpu(*(etree.tostring(each, encoding="unicode") for each in found))


def test_a_cell_of_memory_alone_has_no_set_of_vcpus() -> None:
    data = {"cells": [{"vcpus": "0-3", "memory_kib": 1024 * MIB}, {"vcpus": "", "memory_kib": 3072 * MIB}]}

    for before in ("", NUMA):
        written = shaped(vm(cpu=before), data)
        assert parse_domain(written).guest_cells == cells(("0-3", 1024), ("", 3072))
        assert [cell.get("cpus") for cell in etree.fromstring(written).findall("cpu/numa/cell")] == ["0-3", None]


@pytest.mark.parametrize(
    ("before", "size", "after"),
    [
        ("", 2048, [("2048", None)]),
        # The default of the host, which another host may not have.
        ("<memoryBacking><hugepages/><locked/></memoryBacking>", 2048, [("2048", None)]),
        ("<memoryBacking><hugepages><page size='2' unit='MiB'/></hugepages></memoryBacking>", 2048, [("2", None)]),
        ("<memoryBacking><hugepages><page size='2' unit='MiB' nodeset='0'/></hugepages></memoryBacking>", 0, []),
        ("<memoryBacking><hugepages><page size='1' unit='GiB' nodeset='0'/></hugepages></memoryBacking>", 2048,
         [("2048", None)]),
    ],
)  # fmt: skip
def test_one_size_of_huge_pages_for_the_whole_vm(before: str, size: int, after: list[tuple[str, None]]) -> None:
    root = etree.fromstring(shaped(vm(before, memory_mib=4096), {"huge_pages_kib": size}))

    pages = root.findall("memoryBacking/hugepages/page")
    assert [(page.get("size"), page.get("nodeset")) for page in pages] == after
    assert (root.find("memoryBacking/hugepages") is None) == (size == 0)
    assert (root.find("memoryBacking/locked") is None) == ("locked" not in before)


def test_what_huge_pages_leave_behind_goes() -> None:
    backing = "<memoryBacking><hugepages/></memoryBacking>"

    assert "memoryBacking" not in shaped(vm(backing), {"huge_pages_kib": 0})


@pytest.mark.parametrize(
    ("before", "count", "after"),
    [
        ("", 2, (1, 2)),
        ("<iothreads>2</iothreads>", 1, (1,)),
        ("<iothreads>2</iothreads>", 0, ()),
        ("<iothreads>2</iothreads><iothreadids><iothread id='5'/></iothreadids>", 3, (1, 2, 5)),
        ("<iothreads>3</iothreads><iothreadids><iothread id='2' thread_pool_max='4'/><iothread id='7'/></iothreadids>",
         2, (1, 2)),
        ("<iothreads>1</iothreads><iothreadids><iothread id='4'/></iothreadids>", 1, (4,)),
    ],
)  # fmt: skip
def test_io_threads_keep_their_numbers(before: str, count: int, after: tuple[int, ...]) -> None:
    written = shaped(vm(before), {"iothreads": count})

    assert parse_domain(written).iothreads == after
    assert ("thread_pool_max" in written) == ("thread_pool_max" in before)


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("<disk><driver name='qemu' iothread='2'/><target dev='vda'/></disk>", "disk vda"),
        ("<controller type='scsi' index='3'><driver iothread='2'/></controller>", "controller 3"),
        ("<disk><driver><iothreads><iothread id='2'/></iothreads></driver><target dev='vdb'/></disk>", "disk vdb"),
        ("<disk><driver iothread='1'><iothreads><iothread id='2'/></iothreads></driver></disk>", "disk"),
    ],
)
def test_an_io_thread_that_a_device_uses_does_not_go(device: str, name: str) -> None:
    xml = vm("<iothreads>2</iothreads>", devices=device)

    error = refused(xml, {"iothreads": 1}, drop_pins=True)

    assert (error.code, error.facts["used"]) == ("in_use", [f"{name} uses I/O thread 2"])


@pytest.mark.parametrize(
    ("part", "data", "words"),
    [
        ("<cputune><vcpusched vcpus='0-3' scheduler='fifo'/></cputune>", {"vcpus": {"maximum": 2, "current": 2}},
         "<vcpusched> is for vCPU 2 too"),
        ("<cputune><cachetune vcpus='3'/></cputune>", {"vcpus": {"maximum": 2, "current": 2}},
         "<cachetune> is for vCPU 3 too"),
        ("<memoryBacking><hugepages><page size='2048' nodeset='0-1'/></hugepages></memoryBacking>", {"cells": 1},
         "a size of huge pages is for cell 1"),
    ],
)  # fmt: skip
def test_what_other_settings_need_does_not_go(part: str, data: dict[str, Any], words: str) -> None:
    error = refused(vm(part), data, drop_pins=True)

    assert (error.code, words in error.msg) == ("in_use", True), error.msg


@pytest.mark.parametrize(("count", "gone"), [(1, [1]), (0, [0, 1])])
def test_a_cell_with_interconnects_does_not_go(count: int, gone: list[int]) -> None:
    links = (
        "<interconnects><latency initiator='0' target='1' type='access' value='5'/>"
        "<bandwidth initiator='0' target='1' type='access' value='204800' unit='KiB'/></interconnects></numa>"
    )
    xml = vm("<memoryBacking><access mode='shared'/></memoryBacking>", cpu=NUMA.replace("</numa>", links))

    assert refused(xml, {"cells": count}).facts["used"] == [f"an interconnect is for cell {cell}" for cell in gone]
    shaped(xml, {"iothreads": 1})


def test_a_cell_with_a_dimm_does_not_go() -> None:
    dimm = "<memory model='dimm'><target><size unit='MiB'>1024</size><node>1</node></target></memory>"

    error = refused(vm(devices=dimm, cpu=NUMA, memory_mib=5120), {"cells": 1})

    assert error.facts["used"] == ["memory is for cell 1"]


PINNED = Pinning(
    "manual",
    vcpus=(VcpuPin(0, "2"), VcpuPin(3, "5")),
    emulator="0-1",
    cells=(MemNode(0, "strict", "0"), MemNode(1, "strict", "1")),
)
SMALLER = {"vcpus": {"maximum": 2, "current": 2}, "cells": 1}
AT_HOME = Home("u", "hv1", pins=Pinning.from_dict({"vcpus": [{"vcpu": 3, "cpus": "1"}]}))


def test_pins_of_what_goes_are_refused() -> None:
    error = refused(with_pinning(vm(cpu=NUMA), PINNED), SMALLER)

    assert (error.code, error.facts["pins"]) == ("pins_left", ["vCPU 3", "cell 1"])


def test_pins_of_what_goes_are_dropped_if_asked_for() -> None:
    written = shaped(with_pinning(vm(cpu=NUMA), PINNED), SMALLER, drop_pins=True)

    kept = replace(PINNED, vcpus=(VcpuPin(0, "2"),), cells=(MemNode(0, "strict", "0"),))
    assert parse_domain(written).pinning == kept


def test_the_last_pin_takes_its_place_along() -> None:
    written = shaped(with_pinning(vm(), Pinning(vcpus=(VcpuPin(3, "5"),))), SMALLER, drop_pins=True)

    assert "cputune" not in written


def test_pins_at_home_count_too() -> None:
    xml = with_policy(vm(), Policy(migration="manual", home=AT_HOME))

    assert refused(xml, SMALLER).facts["pins"] == ["pins on its home hv1"]
    assert policy_of_domain(shaped(xml, SMALLER, drop_pins=True)) == Policy(
        migration="manual", home=replace(AT_HOME, pins=Pinning(policy="manual"))
    )


def test_pins_that_only_follow_the_host_are_no_pins_of_the_user() -> None:
    xml = with_pinning(with_policy(vm(), Policy(following=Following("0-3"))), Pinning(vcpus=(VcpuPin(3, "0-3"),)))

    assert parse_domain(shaped(xml, SMALLER)).pinning.vcpus == ()


def test_pins_of_what_stays_are_nobodys_concern() -> None:
    xml = with_pinning(vm(cpu=NUMA), PINNED)

    assert parse_domain(shaped(xml, {"vcpus": {"maximum": 4, "current": 2}, "iothreads": 1})).pinning == PINNED


def each(written: str) -> list[tuple[str | None, ...]]:
    found = etree.fromstring(written).findall("vcpus/vcpu")
    return [(vcpu.get("id"), vcpu.get("enabled"), vcpu.get("hotpluggable"), vcpu.get("order")) for vcpu in found]


def test_a_list_of_vcpus_follows_their_number(live: str) -> None:
    without_sched = live.replace("<vcpusched vcpus='0-3' scheduler='fifo' priority='1'/>", "")
    more = shaped(without_sched, {"vcpus": {"current": 5}})
    less = shaped(
        without_sched, {"vcpus": {"maximum": 4, "current": 3, "topology": {"cores": 4}}, "cells": 1}, drop_pins=True
    )

    assert each(more)[3:6] == [("3", "yes", "no", None), ("4", "yes", "no", None), ("5", "no", "yes", None)]
    assert each(less) == [(str(n), "yes", "no", None) for n in range(3)] + [("3", "no", "yes", None)]
    wide = shaped(less, {"vcpus": {"maximum": 5, "topology": {"cores": 5}}, "cells": 1})
    assert each(wide)[3:] == [("3", "no", "yes", None), ("4", "no", "yes", None)]


def test_a_topology_in_clusters_keeps_them_unless_it_changes(live: str) -> None:
    wide = live.replace("clusters='1' cores='2'", "clusters='2' cores='1'")
    assert with_resources(wide, wish({"vcpus": {"topology": {"sockets": 2, "threads": 2}}})) == wide

    written = shaped(wide, {"vcpus": {"topology": {"sockets": 4, "threads": 2}}})

    assert '<topology sockets="4" dies="1" clusters="1" cores="1" threads="2"/>' in written


@pytest.mark.parametrize(
    ("data", "option"),
    [
        ({"vcpus": {"maximum": 0}}, "maximum"),
        ({"vcpus": {"topology": {"cores": "two"}}}, "cores"),
        ({"cells": True}, "cells"),
        ({"cells": "some"}, "cells"),
        ({"cells": [{"vcpus": "0-1"}]}, "cells"),
        ({"cells": [{"vcpus": "0-", "memory_kib": 1}]}, "cells"),
        ({"cells": ["0-1"]}, "cells"),
        ({"huge_pages_kib": -1}, "huge_pages_kib"),
        ({"iothreads": "many"}, "iothreads"),
    ],
)
def test_what_cannot_be_read_is_refused(data: dict[str, Any], option: str) -> None:
    with pytest.raises(FleetError) as caught:
        wish(data)

    assert (caught.value.code, caught.value.facts["option"]) == ("bad_options", option)


def test_numbers_may_be_text_and_no_cells_an_empty_list() -> None:
    assert wish({"vcpus": {"maximum": "4"}, "cells": "2"}) == ResourceWish(maximum=4, cells=2)
    assert wish({"cells": []}) == ResourceWish(cells=0)


def test_the_text_shows_what_is_changed_and_no_secrets(plain: str) -> None:
    xml = with_policy(plain.replace("</devices>", "<graphics passwd='geheim'/></devices>"), Policy(home=AT_HOME))

    assert resources_text(xml).splitlines() == [
        "<vcpu>2</vcpu>",
        f"at home: {AT_HOME.pins.as_dict() if AT_HOME.pins else None}",
    ]
