# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A supervisor that a slow machine starts after its lab is gone does not bring the lab's folder back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.lab.pod import supervisor


@pytest.mark.parametrize("left", [".", "lab", "lab/hv1"])
def test_nothing_comes_back_after_down(left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / left).mkdir(parents=True, exist_ok=True)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["supervisor", str(tmp_path / "lab"), "hv2"])
    assert supervisor.main() == 0
    assert sorted(tmp_path.rglob("*")) == before
