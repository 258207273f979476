# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Python on the hosts compiles what Ansible sends once, and always runs what it was sent."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.lab.identity import COMPILE_ONCE

# Prints what the module in the zip file says, its file's name, and how many sources were compiled
MAIN = """
import builtins, sys, zipimport
compiled, compile_before = [], compile
def counted(source, *rest, **more):
    compiled.append(source)
    return compile_before(source, *rest, **more)
zipimport.compile = counted
import said
print(said.TEXT, said.where.__code__.co_filename, len(compiled))
"""
SOURCE = "TEXT = {text!r}\ndef where(): pass\n"


class Host:
    """A folder with the hook as sitecustomize.py and a place for what it keeps."""

    def __init__(self, folder: Path) -> None:
        self.kept = folder / "kept"
        self.folder = folder
        hook = COMPILE_ONCE.read_text().replace("/var/cache/lab-python", str(self.kept))
        assert str(self.kept) in hook
        (folder / "site").mkdir()
        (folder / "site/sitecustomize.py").write_text(hook)

    def run(self, archive: str, text: str) -> list[str]:
        path = self.folder / archive
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            made.writestr("said.py", SOURCE.format(text=text))
        environment = {"PYTHONPATH": f"{self.folder / 'site'}:{path}"}
        done = subprocess.run(
            [sys.executable, "-c", MAIN], env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        said, where, compiled = done.stdout.split()
        assert where == f"{path}/said.py"
        return [said, compiled]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_the_same_source_is_compiled_once_wherever_it_lies(host: Host) -> None:
    assert host.run("a.zip", "one") == ["one", "1"]
    assert host.run("b.zip", "one") == ["one", "0"]


def test_another_source_in_the_same_place_is_run(host: Host) -> None:
    assert [host.run("a.zip", text)[0] for text in ("one", "two", "one")] == ["one", "two", "one"]


@pytest.mark.parametrize("damage", [b"", b"\0", b"not marshalled"])
def test_what_is_damaged_is_compiled_again(damage: bytes, host: Host) -> None:
    host.run("a.zip", "one")
    for path in host.kept.glob("*/*"):
        path.write_bytes(damage)
    assert host.run("a.zip", "one") == ["one", "1"]
    assert host.run("a.zip", "one") == ["one", "0"]


def test_who_may_not_keep_anything_compiles_each_time(host: Host) -> None:
    host.kept.write_text("a file, no folder")
    for _time in range(2):
        said, compiled = host.run("a.zip", "one")
        assert said == "one"
        assert int(compiled) > 0
