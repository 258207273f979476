# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The build copy: the checkout again, at the path where Ansible looks for a collection.

Ansible finds a collection by its folder names (``ansible_collections/virtops/kvm_fleet``) and ``ansible-test`` refuses
a symbolic link, so the tools work on a copy. It is brought up to date before each step: only what differs is written.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build"
COLLECTION = BUILD / "ansible_collections" / "virtops" / "kvm_fleet"

# Names that never belong to the collection, for a tree without git (an unpacked archive).
_SKIPPED = {".git", ".venv", ".build", ".ansible", ".cache", ".hypothesis", "__pycache__"}
# What tools leave in the build copy: the repository made below, caches and results.
_KEPT = {Path(".git"), Path(".ansible"), Path("tests/output")}


def sync() -> Path:
    """Bring the build copy up to date and return its folder. Safe to call from several processes at once."""
    BUILD.mkdir(exist_ok=True)
    with _locked(BUILD / "sync.lock"):
        COLLECTION.mkdir(parents=True, exist_ok=True)
        if not (COLLECTION / ".git").exists():
            # ansible-test and ansible-lint ask the nearest git repository for the files. That of the checkout ignores
            # the build copy, so it gets an empty one of its own.
            subprocess.run(["git", "init", "--quiet", str(COLLECTION)], check=True)
        wanted = set(_files())
        _remove_others(COLLECTION, wanted)
        for path in sorted(wanted):
            # An editor's temporary file may be gone again
            with suppress(FileNotFoundError):
                _copy(ROOT / path, COLLECTION / path)
    return COLLECTION


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _files() -> Iterator[Path]:
    """Yield the paths of all files of the checkout, relative to it: committed, or new and not ignored."""
    if (ROOT / ".git").exists():
        # A checkout may belong to somebody else than root, who runs the laboratory
        command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listing = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
        paths = (Path(name) for name in listing.split("\0") if name)
    else:
        paths = (path.relative_to(ROOT) for path in _walk(ROOT))
    # git lists a file that was deleted but not yet committed
    return (path for path in paths if os.path.lexists(ROOT / path))


def _walk(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.name in _SKIPPED:
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)
        else:
            yield entry


def _remove_others(copy: Path, wanted: set[Path]) -> None:
    folders = {parent for path in wanted for parent in path.parents}
    for entry in copy.iterdir():
        relative = entry.relative_to(COLLECTION)
        if relative in _KEPT or entry.name == "__pycache__":
            continue
        if entry.is_dir() and not entry.is_symlink():
            if relative in folders:
                _remove_others(entry, wanted)
            else:
                shutil.rmtree(entry)
        elif relative not in wanted:
            entry.unlink()


def _copy(source: Path, target: Path) -> None:
    """Copy a file or a symbolic link with its time and mode, unless the target already has them."""
    if os.path.lexists(target) and _signature(source) == _signature(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # A reader sees the old or the new file, never a half one.
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        fresh = Path(folder, source.name)
        shutil.copy2(source, fresh, follow_symlinks=False)
        fresh.replace(target)


def _signature(path: Path) -> tuple[int, int, int]:
    status = path.lstat()
    return status.st_mode, status.st_size, status.st_mtime_ns


if __name__ == "__main__":
    print(sync())
