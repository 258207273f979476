# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a machine's guests have written is read once, kept while it is off, and given back after a power cut."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import List, Sequence, Union

import pytest

from tests.lab.machine.channel import Ended, UnreachableError
from tests.lab.machine.copies import LogCopies
from tests.lab.shell import LabError


class FakeHost:
    """A host whose /srv/lab is a folder here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: List[str] = []
        self.up = True

    def __call__(self, argv: Union[str, Sequence[str]], stdin: bytes = b"", timeout: float = 60) -> Ended:
        assert isinstance(argv, str)
        if not self.up:
            raise UnreachableError("hv1 does not answer")
        self.asked.append(argv)
        line = argv.replace("/srv/lab", str(self.folder))
        done = subprocess.run(["sh", "-c", line], input=stdin, capture_output=True, timeout=timeout, check=False)
        return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    (tmp_path / "srv").mkdir()
    return tmp_path / "srv/web.log"


@pytest.fixture
def host(there: Path) -> FakeHost:
    return FakeHost(there.parent)


@pytest.fixture
def copies(tmp_path: Path, host: FakeHost) -> LogCopies:
    (tmp_path / "hv1").mkdir()
    return LogCopies(tmp_path / "hv1", host)


def test_only_what_is_new_is_read(copies: LogCopies, there: Path, host: FakeHost) -> None:
    for text in (b"tick 1\n", b"tick 1\nti", b"tick 1\ntick 2\n\xff"):
        there.write_bytes(text)
        copies.fetch("web")
        assert copies.text("web") == text
    assert [line.split()[2] for line in host.asked] == ["+1", "+8", "+10"]


def test_a_log_that_is_not_there_is_empty(copies: LogCopies) -> None:
    copies.fetch("web")
    assert copies.text("web") == copies.text("other") == b""


def test_what_was_told_is_known_while_the_host_is_away(copies: LogCopies, there: Path, host: FakeHost) -> None:
    there.write_bytes(b"tick 1\n")
    copies.fetch_all()
    host.up = False
    copies.fetch("web")
    assert copies.text("web") == b"tick 1\n"
    with pytest.raises(LabError):
        copies.fetch_all()


@pytest.mark.parametrize("left", [b"", b"tick 1\nti", b"tick 1\ntick 2\n"])
def test_a_power_cut_takes_nothing_from_a_log(copies: LogCopies, there: Path, left: bytes) -> None:
    there.write_bytes(b"tick 1\ntick 2\n")
    copies.fetch("web")
    there.write_bytes(left)
    copies.give_back()
    assert there.read_bytes() == b"tick 1\ntick 2\n"


def test_what_the_host_has_more_is_left_alone(copies: LogCopies, there: Path) -> None:
    there.write_bytes(b"tick 1\n")
    copies.fetch("web")
    there.write_bytes(b"tick 1\ntick 2\n")
    copies.give_back()
    assert there.read_bytes() == b"tick 1\ntick 2\n"


def test_a_forgotten_log_is_read_from_its_beginning(copies: LogCopies, there: Path) -> None:
    there.write_bytes(b"tick 1\n")
    copies.fetch("web")
    copies.forget("web")
    there.write_bytes(b"boot\n")
    copies.fetch("web")
    assert copies.text("web") == b"boot\n"
