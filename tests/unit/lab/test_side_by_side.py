# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Labs that come and go at the same time, as in `make test`, are not in each other's way."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab import tree
from tests.lab.cgroups import Cgroups
from tests.lab.shell import file_lock
from tests.lab.spec import LabSpec
from tests.tools.sync import ROOT

SCENARIOS = sorted(path.parent for path in (ROOT / "extensions/molecule").glob("*/molecule.yml"))
# Those of the tests, with the labs that single tests make beside them
OTHERS = ("it", "itx", "itf", "itl", "itk", "itv", "mit", "mitp", "mitcold", "mitkill")


def _lab(scenario: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((scenario / "vars/lab.yml").read_text())
    return found


def _name(scenario: Path) -> str:
    words: list[str] = _lab(scenario)["lab_command"]
    return words[words.index("--name") + 1]


def test_all_have_their_own_network() -> None:
    names = [*OTHERS, *map(_name, SCENARIOS)]
    subnets = [LabSpec(name).subnet for name in names]
    assert len(set(names)) == len(set(subnets)) == len(names), sorted(zip(subnets, names, strict=True))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.name)
def test_a_scenario_uses_the_inventory_of_its_lab(scenario: Path) -> None:
    assert f"/{_name(scenario)}/inventory.yml" in (scenario / "molecule.yml").read_text()


def test_each_scenario_is_in_the_lane_of_its_kind() -> None:
    text = (ROOT / "Makefile").read_text()
    lanes = {kind: re.findall(rf"^{kind}_SCENARIOS := (.*)$", text, re.M)[0].split() for kind in ("POD", "MACHINE")}
    machines = [path.name for path in SCENARIOS if re.search(r"machine", str(_lab(path)["lab_options"]))]
    assert sorted(lanes["MACHINE"]) == machines
    assert sorted(lanes["POD"]) == sorted(path.name for path in SCENARIOS if path.name not in machines)


def test_the_last_other_lab_may_go_while_groups_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "freezer").mkdir()
    (tmp_path / "freezer/cgroup.procs").touch()
    _remove_parent_once(monkeypatch, tmp_path / "freezer/kfl/lab")
    Cgroups("lab", tmp_path).create("hv1")
    assert (tmp_path / "freezer/kfl/lab/hv1").is_dir()


def test_the_last_other_lab_may_go_while_a_lock_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open
    left = [tmp_path / "labs"]

    def open_late(path: Path, *arguments: Any, **options: Any) -> Any:
        if left:
            left.pop().rmdir()
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_late)
    with file_lock(tmp_path / "labs/a.lock"):
        assert not left
        assert (tmp_path / "labs/a.lock").exists()


def test_tools_are_installed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVM_FLEET_LAB_CACHE", str(tmp_path))
    answers = iter([["debootstrap"], []])  # another lab installs it while this one waits for the lock
    monkeypatch.setattr(tree, "_missing_packages", lambda: next(answers))
    monkeypatch.setattr(tree.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(tree, "stream", lambda *_arguments: pytest.fail("installed again"))
    tree.ensure_tools(lambda _text: None)
    assert (tmp_path / "lock").exists()


def _remove_parent_once(monkeypatch: pytest.MonkeyPatch, child: Path) -> None:
    made = Path.mkdir
    left = [child.parent]

    def mkdir(path: Path, *arguments: Any, **options: Any) -> None:
        if path == child and left:
            left.pop().rmdir()
        made(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
