# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No guest starts from an image that was made of other sources."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.lab.image import CHECKS, SOURCE, image_key


@pytest.mark.parametrize("name", sorted(path.name for path in SOURCE.iterdir()))
def test_the_image_is_another_one_when_a_source_changes(name: str, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(SOURCE, tmp_path / "guest"))
    tree = Path("tree-1")
    assert image_key(tree, copy) == image_key(tree)
    with (copy / name).open("a", encoding="utf-8") as source:
        source.write("\n")
    assert image_key(tree, copy) != image_key(tree)


def test_the_image_is_another_one_for_another_tree() -> None:
    assert image_key(Path("tree-1")) != image_key(Path("tree-2"))


def test_every_program_of_the_guest_is_built() -> None:
    assert {f"{name}.c" for name in CHECKS} == {path.name for path in SOURCE.glob("*.c")}
