# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How fast the kernel says a link is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.command import Ran
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.links import link_mib_s

ROUTE = '[{"dst":"10.0.0.2","dev":"eth1","prefsrc":"10.0.0.1","flags":[],"uid":0,"cache":[]}]'


def says(text: str, rc: int = 0) -> Callable[[Sequence[str]], Ran]:
    def run(argv: Sequence[str]) -> Ran:
        assert list(argv) == ["ip", "-json", "route", "get", "10.0.0.2"]
        return Ran(rc, text)

    return run


def host(root: Path, speed: str) -> Path:
    device = root / "sys/class/net/eth1"
    device.mkdir(parents=True)
    (device / "speed").write_text(speed)
    return root


def test_the_speed_is_that_of_the_interface_on_the_route(tmp_path: Path) -> None:
    assert link_mib_s("10.0.0.2", says(ROUTE), host(tmp_path, "10000\n")) == pytest.approx(1192.1)


@pytest.mark.parametrize("speed", ["-1\n", "0\n", "", "fast\n"])
def test_an_interface_that_does_not_know_has_none(tmp_path: Path, speed: str) -> None:
    assert link_mib_s("10.0.0.2", says(ROUTE), host(tmp_path, speed)) is None


def test_an_interface_whose_speed_cannot_be_read_has_none(tmp_path: Path) -> None:
    (tmp_path / "sys/class/net/eth1/speed").mkdir(parents=True)
    assert link_mib_s("10.0.0.2", says(ROUTE), tmp_path) is None


@pytest.mark.parametrize(("text", "rc"), [("", 2), ("", 127), ("no JSON", 0), ("[]", 0), ("[{}]", 0), ('["eth1"]', 0)])
def test_without_a_route_there_is_no_speed(tmp_path: Path, text: str, rc: int) -> None:
    assert link_mib_s("10.0.0.2", says(text, rc), host(tmp_path, "10000\n")) is None
