# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The control groups of a lab, on folders that look like the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.lab.cgroups import Cgroups, delegate
from tests.lab.shell import LabError


@pytest.fixture
def v1(tmp_path: Path) -> Path:
    for name in ("cpu", "cpuset", "freezer", "memory"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").write_text("1\n")
    (tmp_path / "cpuset/cpuset.cpus").write_text("0-1\n")
    (tmp_path / "cpuset/cpuset.mems").write_text("0\n")
    return tmp_path


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    return tmp_path


def test_v1_takes_the_controllers_there_are_and_leaves_memory(v1: Path) -> None:
    groups = Cgroups("lab", v1)
    groups.create("hv1")
    assert list(groups.controllers()) == ["cpu", "cpuset", "freezer"]
    assert sorted(str(path.relative_to(v1)) for path in v1.glob("*/kfl/lab/hv1")) == [
        "cpu/kfl/lab/hv1",
        "cpuset/kfl/lab/hv1",
        "freezer/kfl/lab/hv1",
    ]


def test_v1_cpuset_inherits_on_every_level(v1: Path) -> None:
    Cgroups("lab", v1).create("hv1")
    for level in ("kfl", "kfl/lab", "kfl/lab/hv1"):
        assert (v1 / "cpuset" / level / "cpuset.cpus").read_text() == "0-1\n"


def test_v2_passes_controllers_on_down_to_the_host(v2: Path) -> None:
    Cgroups("lab", v2).create("hv1")
    for level in ("", "kfl", "kfl/lab"):
        assert (v2 / level / "cgroup.subtree_control").read_text() == "+cpu +cpuset"
    assert not (v2 / "kfl/lab/hv1/cgroup.subtree_control").exists()  # the host's own init does that


def test_v2_host_moves_into_a_leaf_before_it_passes_controllers_on(v2: Path) -> None:
    delegate(v2, ["cpu", "cpuset"])
    assert (v2 / "init/cgroup.procs").read_text() == str(os.getpid())
    assert (v2 / "cgroup.subtree_control").read_text() == "+cpu +cpuset"


def test_v2_commands_enter_the_leaf_once_there_is_one(v2: Path) -> None:
    groups = Cgroups("lab", v2)
    groups.create("hv1")
    top = v2 / "kfl/lab/hv1"
    assert str(top / "cgroup.procs") in groups.entering("hv1")
    (top / "init").mkdir()
    assert str(top / "init/cgroup.procs") in groups.entering("hv1")


def test_a_command_enters_every_hierarchy_and_keeps_its_words(v1: Path) -> None:
    groups = Cgroups("lab", v1)
    groups.create("hv1")
    output = os.popen(" ".join(f"'{word}'" for word in [*groups.entering("hv1"), "echo", "a  b", "$HOME"])).read()
    assert output == "a  b $HOME\n"
    pids = {(v1 / name / "kfl/lab/hv1/cgroup.procs").read_text() for name in groups.controllers()}
    assert len(pids) == 1


def test_processes_are_found_in_all_groups_below(v1: Path) -> None:
    groups = Cgroups("lab", v1)
    groups.create("hv1")
    deep = v1 / "cpu/kfl/lab/hv1/machine/qemu-1"
    deep.mkdir(parents=True)
    (deep / "cgroup.procs").write_text("12\n7\n")
    assert groups.pids() == groups.pids("hv1") == [7, 12]
    assert groups.pids("hv2") == []


def test_no_hierarchy_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no usable cgroup hierarchy"):
        Cgroups("lab", tmp_path).create("hv1")
