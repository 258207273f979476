# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the disks of VMs go at their destination, and that nothing there is ever overwritten."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._migration import (
    Cargo,
    Copy,
    Held,
    Medium,
    Pool,
    Volume,
    doubles,
    shortages,
    stow,
)

MIB = 1 << 20
BY_PATH = Copy("vda", "/var/images/a.qcow2", "a.qcow2", None, "qcow2", 100 * MIB, 40 * MIB)
BY_POOL = Copy("vdb", "/srv/b", "b", "images", "raw", 50 * MIB, 5 * MIB)
IMAGES = Pool("images", "dir", True, "/var/images", 60 * MIB, {})
MADE = Volume("vda", "images", "a.qcow2", "/var/images/a.qcow2", "qcow2", 100 * MIB, 40 * MIB, "/var/images/a.qcow2")
DISC = Medium("sda", "/var/images/c.iso", "c.iso", None)


def codes(cargo: Cargo, *pools: Pool, ours: tuple[tuple[str, str], ...] = ()) -> list[str]:
    return [obstacle.code for obstacle in stow(cargo, "hv2", pools, ours).obstacles]


def test_a_path_goes_to_the_pool_of_its_directory_and_a_volume_to_the_pool_of_its_name() -> None:
    stowed = stow(Cargo((BY_PATH, BY_POOL)), "hv2", [IMAGES])
    there = replace(MADE, target="vdb", name="b", path="/var/images/b", format="raw", source="/srv/b")
    assert stowed.volumes == (MADE, replace(there, capacity=50 * MIB, allocation=5 * MIB))
    assert stowed.obstacles == ()


@pytest.mark.parametrize("pool", [replace(IMAGES, directory="/var/images/"), replace(IMAGES, kind="fs", name="x")])
def test_a_directory_is_the_same_however_its_pool_is_called(pool: Pool) -> None:
    assert codes(Cargo((BY_PATH,)), pool) == []


@pytest.mark.parametrize(
    ("pools", "words"),
    [
        ([], "no storage pool for the directory /var/images"),
        ([replace(IMAGES, directory="/var")], "no storage pool for the directory /var/images"),
        ([replace(IMAGES, kind="logical")], "no storage pool for the directory /var/images"),
        ([replace(IMAGES, active=False)], "not started its storage pool images"),
    ],
)
def test_without_a_pool_there_is_no_place(pools: list[Pool], words: str) -> None:
    (obstacle,) = stow(Cargo((BY_PATH,)), "hv2", pools).obstacles
    assert obstacle.code == "storage_missing"
    assert words in obstacle.text
    assert "hv2" in obstacle.text


def test_a_pool_that_is_started_is_taken_before_one_that_is_not() -> None:
    assert codes(Cargo((BY_PATH,)), replace(IMAGES, name="old", active=False), IMAGES) == []


def test_what_lies_there_is_named_and_not_taken() -> None:
    pool = replace(IMAGES, held={"a.qcow2": Held(3 * MIB, "3 MiB, used by VM web1")})
    (obstacle,) = stow(Cargo((BY_PATH,)), "hv2", [pool]).obstacles
    assert obstacle.code == "storage_taken"
    assert "/var/images/a.qcow2 already (3 MiB, used by VM web1)" in obstacle.text
    assert "virsh vol-delete a.qcow2 --pool images" in obstacle.text


def test_what_an_earlier_try_made_is_made_anew_in_its_room() -> None:
    pool = replace(IMAGES, held={"a.qcow2": Held(30 * MIB, "")})
    stowed = stow(Cargo((BY_PATH,)), "hv2", [pool], ours=[("images", "a.qcow2")])
    assert stowed.obstacles == ()
    assert stowed.volumes == (replace(MADE, allocation=10 * MIB),)
    assert codes(Cargo((BY_PATH,)), pool, ours=(("other", "a.qcow2"),)) == ["storage_taken"]


def test_what_cannot_be_copied_blocks() -> None:
    assert codes(Cargo(refusals=("its disk vda cannot be copied",)), IMAGES) == ["blocked"]


@pytest.mark.parametrize(
    ("pools", "found"),
    [
        ([replace(IMAGES, held={"c.iso": Held(1, "")})], []),
        ([IMAGES], ["storage_missing"]),
        ([], ["storage_missing"]),
    ],
)
def test_what_is_only_read_must_be_seen_there(pools: list[Pool], found: list[str]) -> None:
    assert codes(Cargo(media=(DISC,)), *pools) == found


def test_all_copies_of_a_call_need_room_together() -> None:
    wanted = {"a": [MADE], "b": [replace(MADE, allocation=20 * MIB)], "c": [replace(MADE, pool="other")]}
    assert shortages(wanted, "hv2", [IMAGES]) == {}
    wanted["b"] = [replace(MADE, allocation=21 * MIB)]
    found = shortages(wanted, "hv2", [IMAGES])
    assert {vm: [entry.code for entry in entries] for vm, entries in found.items()} == {
        "a": ["storage_full"],
        "b": ["storage_full"],
    }
    assert "has 60 MiB left" in found["a"][0].text
    assert "need 61 MiB (a 40 MiB, b 21 MiB)" in found["a"][0].text


def test_two_vms_cannot_get_the_same_file() -> None:
    other = replace(MADE, path="/var/images/other")
    assert doubles({"a": [MADE], "b": [other]}, "hv2") == {}
    found = doubles({"a": [MADE], "b": [MADE, other]}, "hv2")
    assert {vm: [entry.code for entry in entries] for vm, entries in found.items()} == {
        "a": ["storage_taken"],
        "b": ["storage_taken"],
    }
