# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Reading and writing the host's files so that a reader sees the old content or the new one, never a part.

Every error is a ``FleetError`` that names the file: code ``host_file`` for what the system refuses, ``bad_record`` for
content nobody can read.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional

from .._errors import FleetError

LOCK_POLL_S = 0.05


def require_root() -> None:
    """Raise ``not_root`` unless this process may write the host's files."""
    if os.geteuid() != 0:
        raise FleetError(
            "This module reads and writes the host's own files and must run as root; set become: true.", code="not_root"
        )


def read_text(path: Path) -> Optional[str]:
    """Return the text of a file, or None when there is none."""
    try:
        with _naming(path, "read"):
            return path.read_bytes().decode("utf-8")
    except FleetError as error:
        if error.facts.get("errno") in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise
    except UnicodeDecodeError:
        raise bad_record(path, "it is not UTF-8 text") from None


def read_record(path: Path) -> Optional[Dict[str, Any]]:
    """Return the JSON object in a file, or None when there is no file."""
    text = read_text(path)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise bad_record(path, f"it is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise bad_record(path, "it is not a JSON object")
    return value


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON object, one key on a line in the given order, readable by everybody: records hold no secrets.

    The cordon hook reads the mark line by line, so the layout is part of the format.
    """
    write_text(path, json.dumps(record, indent=2) + "\n", mode=0o644)


def write_text(path: Path, text: str, mode: int, scratch: Optional[Path] = None) -> None:
    """Replace a file at once and durably; it belongs to root.

    ``scratch`` is the directory of the temporary file, by default the file's own. It must be on the same file system;
    another one is needed where something runs every executable it finds.
    """
    with _naming(path, "write"):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=str(scratch or path.parent))
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fchmod(stream.fileno(), mode)
                if os.geteuid() == 0:
                    os.fchown(stream.fileno(), 0, 0)
                os.fsync(stream.fileno())
            Path(name).rename(path)
        except BaseException:
            Path(name).unlink()
            raise
        _sync_directory(path.parent)


def put_text(path: Path, text: str) -> None:
    """Write into a file of the kernel, such as those below /sys, which cannot be replaced."""
    with _naming(path, "write"), path.open("w", encoding="utf-8") as stream:
        stream.write(text)


def remove(path: Path) -> None:
    """Remove a file durably; a missing one is fine."""
    with _naming(path, "remove"):
        try:
            path.unlink()
        except FileNotFoundError:
            return
        _sync_directory(path.parent)


def make_directory(path: Path, mode: int = 0o755) -> None:
    """Create a directory with exactly this mode; an existing one is left as it is, and its parent must exist."""
    with _naming(path, "create"):
        try:
            path.mkdir(mode)
        except FileExistsError:
            return
        # The mode given to mkdir is cut by the umask of whoever runs the module.
        path.chmod(mode)


@contextmanager
def locked(directory: Path, timeout_s: float = 10.0) -> Iterator[None]:
    """Hold the exclusive lock on a directory; raise ``busy`` when another keeps it beyond ``timeout_s`` seconds."""
    with _naming(directory, "lock"):
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        deadline = time.monotonic() + timeout_s
        while not _take(handle):
            if time.monotonic() >= deadline:
                raise FleetError(
                    f"{directory} is locked by another process for more than {timeout_s:g} s; "
                    "let the other task on this host finish, then try again.",
                    code="busy",
                )
            time.sleep(LOCK_POLL_S)
        yield
    finally:
        os.close(handle)


def bad_record(path: Path, cause: str) -> FleetError:
    """Return the error for a record that cannot be trusted."""
    return FleetError(
        f"{path} cannot be used: {cause}. Restore the file, or remove it if what it records is over, then try again.",
        code="bad_record",
        path=str(path),
    )


def _take(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _naming(path: Path, verb: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FleetError(
            f"Cannot {verb} {path}: {error.strerror}. Check its directory, owner and file system, then try again.",
            code="host_file",
            path=str(path),
            errno=error.errno,
        ) from error
