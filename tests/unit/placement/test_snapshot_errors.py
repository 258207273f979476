# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a snapshot that is wrong is refused with."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _placement
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError

from tests.unit.placement.fleet import fleet, host, vm


def load_error(data: Any) -> FleetError:
    with pytest.raises(FleetError) as caught:
        _placement.load(data)
    return caught.value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "snapshot must be a mapping, not []."),
        ({"hosts": {"name": "hv1"}}, "hosts (snapshot): must be a list of mappings, not {'name': 'hv1'}."),
        ({"hosts": [host("hv1"), "hv2"]}, "hosts[1] (snapshot): must be a mapping, not 'hv2'."),
        ({"hosts": [{}]}, "hosts[0].name (snapshot): is missing."),
        (
            fleet([host("hv1", None, memory_kib="abc")], []),
            "hosts[0].memory_kib (host hv1): must be a whole number of KiB, not 'abc'.",
        ),
        (
            fleet([host("hv1", None, memory_kib=True)], []),
            "hosts[0].memory_kib (host hv1): must be a whole number of KiB, not True.",
        ),
        (
            fleet([host("hv1"), host("hv2", None, memory_kib=-1)], []),
            "hosts[1].memory_kib (host hv2): must be a whole number of KiB that is not negative, not -1.",
        ),
        (
            fleet([host("hv1", reserved={"memory_kib": 1.5})], []),
            "hosts[0].reserved.memory_kib (host hv1): must be a whole number of KiB, not 1.5.",
        ),
        (
            fleet([host("hv1", reserved={"cpus": "0-"})], []),
            "hosts[0].reserved.cpus (host hv1): must be a set such as '0-3,8', not '0-'.",
        ),
        (
            fleet([host("hv1", link_mib_s=float("nan"))], []),
            "hosts[0].link_mib_s (host hv1): must be a number that is not negative, not nan.",
        ),
        (
            fleet([host("hv1", link_mib_s=10**400)], []),
            f"hosts[0].link_mib_s (host hv1): must be a number that is not negative, not 1{'0' * 56}....",
        ),
        (
            fleet([host("hv1", maintenance="no")], []),
            "hosts[0].maintenance (host hv1): must be true or false, not 'no'.",
        ),
        (fleet([host("hv1", networks="br0")], []), "hosts[0].networks (host hv1): must be a list of texts, not 'br0'."),
        (fleet([host("hv1", networks=["br0", 1])], []), "hosts[0].networks[1] (host hv1): must be text, not 1."),
        (
            fleet([host("hv1", cells=[{"id": 0, "cpus": "3-1"}])], []),
            "hosts[0].cells[0].cpus (host hv1): must be a set such as '0-3,8', not '3-1'.",
        ),
        (
            fleet([host("hv1", cells=[{}, {"pages": [{}, {"free": "many"}]}])], []),
            "hosts[0].cells[1].pages[1].free (host hv1): must be a whole number, not 'many'.",
        ),
        (
            fleet([host("hv1", cells=[{"id": 1}, {"id": 1}])], []),
            "hosts[0].cells (host hv1): cells must be a list of cells with different ids, not [1, 1].",
        ),
        (
            fleet([host("hv1", cpu="c9")], []),
            "hosts[0].cpu (host hv1): must be the id of an entry in the snapshot's cpus, not 'c9'.",
        ),
        (
            fleet([host("hv1")], [vm("db1", "hv1"), vm("web", "hv2")]),
            "vms[1].host (vm web): must be the name of a host in the snapshot, not 'hv2'.",
        ),
        (
            fleet([host("hv1")], [vm("db1", "hv1", policy={"migration": "maybe"})]),
            "vms[0].policy.migration (vm db1): must be one of automatic, manual, pinned, not 'maybe'.",
        ),
        (
            fleet([host("hv1")], [vm("db1", "hv1", policy={"priority": "high"})]),
            "vms[0].policy.priority (vm db1): must be a whole number, not 'high'.",
        ),
        (
            fleet([host("hv1")], [vm("db1", "hv1", policy={"keep_apart": "db"})]),
            "vms[0].policy.keep_apart (vm db1): must be a list of texts, not 'db'.",
        ),
        (
            fleet([host("hv1")], [vm("db1", "hv1", policy={"keep_together": [""]})]),
            "vms[0].policy.keep_together (vm db1): must be a list of names that are not empty and without commas,"
            " control characters and spaces at the ends, not [''].",
        ),
        (
            fleet([host("hv1")], [vm("db1", "hv1", policy={"pinning": {"policy": "tight"}})]),
            "vms[0].policy.pinning (vm db1): The pinning option policy is 'tight'."
            " Use one of: none, manual, numa, dedicated.",
        ),
        (
            fleet([host("hv1")], [vm("db1", "hv1", policy={"following": {"cpus": "0", "was": 1}})]),
            "vms[0].policy.following (vm db1): cannot be read: TypeError: 'int' object is not iterable.",
        ),
        (
            fleet([host("hv1")], [vm("db1", "hv1", defined={"vcpus": 2})]),
            "vms[0].defined.vcpus (vm db1): must be a mapping, not 2.",
        ),
        (
            fleet([host("hv1")], [], c1={"features": "aes"}),
            "cpus.c1.features (cpu c1): must be a list of texts, not 'aes'.",
        ),
        (fleet([host("hv1")], [], c1=None), "cpus.c1 (cpu c1): must be a mapping, not None."),
    ],
)
def test_a_wrong_field_is_named_with_its_path_object_and_value(data: Any, message: str) -> None:
    error = load_error(data)
    assert (error.code, error.msg) == ("bad_snapshot", message)


@pytest.mark.parametrize(
    ("data", "path", "named", "field"),
    [
        ({"hosts": [host("hv1"), 2]}, "hosts[1]", "snapshot", "hosts"),
        (fleet([host("hv1", reserved={"cpus": 1})], []), "hosts[0].reserved.cpus", "host hv1", "cpus"),
        (
            fleet([host("hv1")], [vm("db1", "hv1", policy={"home": {"pins": {"emulator": "x"}}})]),
            "vms[0].policy.home.pins",
            "vm db1",
            "pins",
        ),
    ],
)
def test_programs_get_path_object_and_field_of_what_is_wrong(data: Any, path: str, named: str, field: str) -> None:
    assert load_error(data).facts == {"path": path, "object": named, "field": field}


EVERYTHING = fleet(
    [
        host(
            "hv1",
            pool="gold",
            maintenance=False,
            cpu="c1",
            topology={"sockets": 1, "dies": 1, "cores": 4, "threads": 2},
            cells=[
                {
                    "id": 0,
                    "cpus": "0-7",
                    "memory_kib": 90,
                    "free_kib": 80,
                    "distances": [10],
                    "pages": [{"size_kib": 4, "total": 9, "free": 8}],
                    "siblings": ["0,1"],
                }
            ],
            reserved={"memory_kib": 1, "cpus": "0"},
            isolated_cpus="1",
            offline_cpus="",
            machine_cpus="0-7",
            cpu_overcommit=4,
            count_threads_as_cores=True,
            machine_types=["q35"],
            networks=["br0"],
            storage=["/srv"],
            link_mib_s=1,
            migration={"uri": "qemu+tls://hv1/system", "address": "10.0.0.1"},
            collected_s=1,
        )
    ],
    [
        vm(
            "db1",
            "hv1",
            state="running",
            reason="booted",
            job="none",
            overhead_kib=4,
            vcpus={"current": 2, "maximum": 4, "online": "0-1", "topology": {"sockets": 4, "threads": 1}},
            iothreads=[1],
            cpu="c1",
            pinning={
                "policy": "manual",
                "vcpus": [{"vcpu": 0, "cpus": "2"}],
                "emulator": "0-1",
                "iothreads": [{"iothread": 1, "cpus": "1"}],
                "cpuset": "0-3",
                "memory": {"mode": "strict", "nodes": "0"},
                "cells": [{"id": 0, "vcpus": "0-3", "memory_kib": 90, "mode": "strict", "node": "0"}],
            },
            huge_pages_kib=4,
            machine_type="q35",
            networks=["br0"],
            storage=["/srv"],
            policy={
                "migration": "manual",
                "hosts": ["hv1"],
                "keep_apart": ["db"],
                "keep_together": ["app"],
                "priority": 10,
                "home": {"uuid": "uuid-hv1", "name": "hv1", "pins": {"vcpus": [{"vcpu": 0, "cpus": "2"}]}},
                "pinning": {"policy": "dedicated", "thread_policy": "prefer", "host_cells": "0"},
                "following": {"cpus": "0-1", "limit": "0-7", "was": ["0-2"]},
            },
            dirty_mib_s=40,
            blockers=["a disk"],
            defined={
                "memory_kib": 90,
                "vcpus": {"current": 1, "maximum": 4, "online": "0", "topology": {"sockets": 4}},
                "iothreads": [1, 2],
                "huge_pages_kib": 4,
                "pinning": {"cells": [{"id": 0, "vcpus": "0-3", "memory_kib": 90, "mode": "strict", "node": "0"}]},
                "policy": {"pinning": {"policy": "numa"}, "following": {"cpus": "0-1"}},
            },
        )
    ],
    c1={"vendor": "Intel", "model": "Haswell", "features": ["aes"], "address_bits": 46},
)


def values(data: Any, path: str = "", keys: tuple[Any, ...] = ()) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the path of every value that is no mapping and no list, as text and as keys."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from values(value, f"{path}.{key}" if path else key, (*keys, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from values(value, f"{path}[{index}]", (*keys, index))
    else:
        yield path, keys


@pytest.mark.parametrize(("path", "keys"), list(values(EVERYTHING)))
def test_no_field_takes_any_value_and_the_path_leads_to_it(path: str, keys: tuple[Any, ...]) -> None:
    for wrong in ({"a": [1]}, [{}]):
        data = deepcopy(EVERYTHING)
        inner: Any = data
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = wrong
        error = load_error(data)
        assert error.code == "bad_snapshot"
        assert path.startswith(error.facts["path"])
        assert error.facts["path"] not in ("", "hosts", "hosts[0]", "vms", "vms[0]", "vms[0].policy", "vms[0].defined")
        assert error.msg.startswith(f"{error.facts['path']} (")


def test_the_path_of_vcpus_that_are_wrong_together_is_that_of_the_vm() -> None:
    vcpus = {"current": 2, "online": " "}
    error = load_error(fleet([host("hv1")], [vm("db1", "hv1", vcpus=vcpus, huge_pages_kib=2048)]))
    assert (error.facts["path"], error.facts["object"]) == ("vms[0]", "vm db1")
    assert error.msg.startswith("vms[0] (vm db1): ")


def test_a_later_version_is_refused() -> None:
    assert load_error({"version": 2}).code == "unsupported_version"


@pytest.mark.parametrize(
    ("part", "path"), [({"cpus": []}, "cpus"), ({"hosts": "hv1"}, "hosts"), ({"vms": ["db1"]}, "vms[0]")]
)
def test_a_part_of_a_wrong_shape_is_refused_with_the_path(part: dict[str, Any], path: str) -> None:
    with pytest.raises(FleetError) as caught:
        _placement.merge([fleet([], []), part])
    assert caught.value.code == "bad_snapshot"
    assert caught.value.msg.startswith(f"{path} (snapshot): must be ")
