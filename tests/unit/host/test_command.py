# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands and their failures."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.command import (
    NOT_FOUND,
    Ran,
    program,
    run_checked,
)


def test_the_output_of_a_command_is_returned() -> None:
    assert run_checked(lambda argv: Ran(0, " ".join(argv)), ["a", "b"], "x") == "a b"


@pytest.mark.parametrize(
    ("ran", "cause"),
    [
        (Ran(NOT_FOUND), "update-grub is not installed or not in PATH. Install"),
        # A script that misses a program of its own is there.
        (Ran(NOT_FOUND, "", "sh: x: not found"), "`update-grub -v` ended with 127: sh: x: not found. Run"),
        (Ran(1, "out", "1\n2\n3\n4\n5\n6\n"), "ended with 1: 2 / 3 / 4 / 5 / 6. Run"),
        (Ran(1, "out\n", " \n"), "ended with 1: out. Run"),
        (Ran(1), "ended with 1: it said nothing. Run"),
    ],
)
def test_a_failure_tells_purpose_command_and_last_words(ran: Ran, cause: str) -> None:
    with pytest.raises(FleetError) as caught:
        run_checked(lambda _argv: ran, ["update-grub", "-v"], "write grub.cfg")
    assert caught.value.msg.startswith("Cannot write grub.cfg: ")
    assert cause in caught.value.msg
    assert caught.value.code == "command_failed"
    assert caught.value.facts == {"argv": ["update-grub", "-v"], "rc": ran.rc, "stderr": ran.stderr}


def test_the_first_program_that_the_host_has_is_taken(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/b").touch()
    (tmp_path / "usr/bin/c").mkdir()
    assert (program(tmp_path, "a", "b"), program(tmp_path, "a", "c")) == ("b", None)
