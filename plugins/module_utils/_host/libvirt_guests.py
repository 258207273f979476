# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What the service libvirt-guests would do to VMs when the host goes down and comes up again. Nothing is changed.

The rules are those of ``tools/libvirt-guests.sh.in`` in libvirt's sources; distributions ship it with defaults of their
own, so the installed script is read before the file that configures it.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence, Tuple

from . import files

SERVICE = "libvirt-guests"
_UNIT_FOLDERS = ("etc/systemd/system", "run/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
_SCRIPTS = ("usr/lib/libvirt/libvirt-guests.sh", "usr/libexec/libvirt-guests.sh")
# Debian and Ubuntu, Fedora and Enterprise Linux and SUSE, Arch.
_CONFIG_FOLDERS = ("etc/default", "etc/sysconfig", "etc/conf.d")
_LIST_FILE = "var/lib/libvirt/libvirt-guests"

_UPSTREAM_DEFAULTS = {"URIS": "default", "ON_BOOT": "start", "ON_SHUTDOWN": "suspend", "SHUTDOWN_TIMEOUT": "300"}
_ASSIGNMENT = re.compile(r"^[ \t]*(?:export[ \t]+)?(URIS|ON_BOOT|ON_SHUTDOWN|SHUTDOWN_TIMEOUT)=(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class LibvirtGuests:
    """How the service is set up.

    ``enabled`` is ``None`` if it is not installed. ``on_boot`` is ``start`` or ``ignore``, ``on_shutdown`` is
    ``suspend`` or ``shutdown``; ``shutdown_timeout_s`` bounds the latter, 0 means for ever. ``listed`` are the UUIDs of
    the VMs that it stopped and has not started again.
    """

    enabled: Optional[bool]
    on_boot: str
    on_shutdown: str
    shutdown_timeout_s: Optional[int]
    listed: Tuple[str, ...]

    @property
    def resumes(self) -> Tuple[str, ...]:
        """The UUIDs of the VMs that it would start at the next boot."""
        return self.listed if self.enabled and self.on_boot == "start" else ()

    def as_dict(self, names: Mapping[str, str]) -> Dict[str, Any]:
        """Return the value for a module's result; ``names`` are those of the VMs by UUID, as far as known."""
        return {
            "enabled": self.enabled,
            "on_boot": self.on_boot,
            "on_shutdown": self.on_shutdown,
            "shutdown_timeout_s": self.shutdown_timeout_s,
            "resumes": [{"name": names.get(uuid), "uuid": uuid} for uuid in self.resumes],
        }


def read_libvirt_guests(root: Path = Path("/")) -> LibvirtGuests:
    """Read how the service is set up on the host below ``root``."""
    settings = {**_UPSTREAM_DEFAULTS, **_settings(_first(root, _SCRIPTS)), **_settings(_config(root))}
    timeout = settings["SHUTDOWN_TIMEOUT"]
    return LibvirtGuests(
        enabled=_enabled(root),
        on_boot=settings["ON_BOOT"],
        on_shutdown=settings["ON_SHUTDOWN"],
        shutdown_timeout_s=int(timeout) if timeout.isdigit() else None,
        listed=_listed(root, settings["URIS"].split()),
    )


def _config(root: Path) -> str:
    return _first(root, [f"{folder}/{SERVICE}" for folder in _CONFIG_FOLDERS])


def _first(root: Path, names: Sequence[str]) -> str:
    texts = (files.read_text(root / name) for name in names)
    return next((text for text in texts if text is not None), "")


def _settings(text: str) -> Dict[str, str]:
    """Return what a shell would have in the variables after it read ``text``, if their values are plain words."""
    return {name: _word(value) for name, value in _ASSIGNMENT.findall(text)}


def _word(value: str) -> str:
    try:
        return next(iter(shlex.split(value, comments=True)), "")
    except ValueError:
        return value.strip()


def _enabled(root: Path) -> Optional[bool]:
    """Tell whether the service starts with the host: by systemd, or by the links of System V init without it."""
    unit = f"{SERVICE}.service"
    installed = [root / folder / unit for folder in _UNIT_FOLDERS if os.path.lexists(root / folder / unit)]
    if installed:
        masked = installed[0].is_symlink() and str(installed[0].readlink()) == os.devnull
        return not masked and any(os.path.lexists(folder / unit) for folder in _targets(root))
    if (root / "etc/init.d" / SERVICE).exists():
        return any((root / "etc").glob(f"rc[2-5].d/S[0-9][0-9]{SERVICE}"))
    return None


def _targets(root: Path) -> Iterator[Path]:
    for folder in _UNIT_FOLDERS:
        yield from (root / folder).glob("*.wants")
        yield from (root / folder).glob("*.requires")


def _listed(root: Path, uris: Sequence[str]) -> Tuple[str, ...]:
    # A line is a URI and the UUIDs of its guests; the service ignores a URI that it is no longer configured for.
    lines = [line.split() for line in (files.read_text(root / _LIST_FILE) or "").splitlines()]
    return tuple(uuid for words in lines if words and words[0] in uris for uuid in words[1:])
