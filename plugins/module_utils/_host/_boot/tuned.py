# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""tuned's profile ``cpu-partitioning``, the alternative to arguments of our own.

It puts ``nohz=on nohz_full= rcu_nocbs= tuned.non_isolcpus= intel_pstate=disable nosoftlockup`` on the command line
and what its parents add, moves processes and interrupts at run time and sets CPUAffinity in systemd's system.conf.
It gives ``isolcpus`` only to ``no_balance_cores``. tuned puts its arguments into grub.cfg (every entry, rescue entries
apart), grubenv or rpm-ostree's arguments by itself; the boot loader reports them as somebody else's.
Read from tuned 2.25 of Debian 13.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from ..._errors import FleetError
from .. import files
from ..command import Run, program, run_checked
from ..paths import HostPaths
from .cmdline import Argument, parse

PROFILE = "cpu-partitioning"
VERSION = 1
BOOTCMDLINE = "etc/tuned/bootcmdline"
_VARIABLES = "etc/tuned/cpu-partitioning-variables.conf"
# The first since tuned 2.23.
_PROFILES = ("usr/lib/tuned/profiles", "usr/lib/tuned", "etc/tuned/profiles", "etc/tuned")
_ISOLATED = re.compile(r"^isolated_cores[ \t]*=[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_ARGUMENTS = re.compile(r'^TUNED_BOOT_CMDLINE="?(.*?)"?$', re.MULTILINE)


@dataclass(frozen=True)
class Tuned:
    """The state of tuned.

    ``profile`` is the active one, or empty; ``mode`` is manual, auto or empty. ``isolated`` is what the variables file
    says: a CPU list or one of tuned's functions. ``arguments`` are tuned's on the command line of the next boot, and
    ``ours`` tells that the collection chose the profile.
    """

    installed: bool
    profile: str
    mode: str
    isolated: Optional[str]
    arguments: Tuple[Argument, ...]
    ours: bool


def read_tuned(root: Path) -> Tuned:
    """Return the state of tuned from its files."""
    profile = any((root / directory / PROFILE / "tuned.conf").is_file() for directory in _PROFILES)
    isolated = _ISOLATED.findall(files.read_text(root / _VARIABLES) or "")
    arguments = _ARGUMENTS.findall(files.read_text(root / BOOTCMDLINE) or "")
    return Tuned(
        profile and program(root, "tuned-adm") is not None,
        _line(root, "active_profile"),
        _line(root, "profile_mode"),
        isolated[-1] if isolated else None,
        parse(arguments[-1]) if arguments else (),
        files.read_text(HostPaths(root).tuned) is not None,
    )


def write_tuned(root: Path, run: Run, isolated: Optional[str]) -> None:
    """Isolate these CPUs (a list such as ``2-7``) with the profile; None restores profile and variables.

    Raises ``tuned_missing``, ``command_failed`` (the daemon must run), and ``not_applied`` when tuned has not put the
    list on the kernel command line.
    """
    if isolated is None:
        _restore(root, run)
        return
    state = read_tuned(root)
    if not state.installed:
        raise FleetError(
            f"tuned with its profile {PROFILE} is not installed. Install it (Fedora and RHEL: "
            "tuned-profiles-cpu-partitioning), or let the boot loader hold the arguments.",
            code="tuned_missing",
        )
    if state.profile == PROFILE and state.isolated == isolated and _has(state, isolated):
        return
    before = files.read_text(root / _VARIABLES) or ""
    after = _with_isolated(before, f"isolated_cores={isolated}")
    _keep(root, state, before, after)
    files.write_text(root / _VARIABLES, after, 0o644)
    run_checked(run, ["tuned-adm", "profile", PROFILE], f"activate the profile {PROFILE}")
    if not _has(read_tuned(root), isolated):
        raise _not_applied(f"nohz_full={isolated}", "")


def _restore(root: Path, run: Run) -> None:
    paths = HostPaths(root)
    record = files.read_record(paths.tuned)
    if record is None:
        return
    if record.get("version") != VERSION:
        raise files.bad_record(paths.tuned, f"it is not of version {VERSION}")
    run_checked(run, _command(record), "activate the profile of before")
    text = files.read_text(root / _VARIABLES) or ""
    line = _ISOLATED.search(record["variables"])
    # What somebody else has changed in the file since stays.
    changed = text != record["written"]
    restored = _with_isolated(text, line.group() if line else None) if changed else record["variables"]
    files.write_text(root / _VARIABLES, restored, 0o644)
    left = [argument.text for argument in read_tuned(root).arguments if argument.name == "nohz_full"]
    if left and record["profile"] != PROFILE:
        raise _not_applied("", left[0])
    files.remove(paths.tuned)


def _command(record: Dict[str, Any]) -> List[str]:
    if record["mode"] == "auto":
        return ["tuned-adm", "auto_profile"]
    return ["tuned-adm", "profile", *record["profile"].split()] if record["profile"] else ["tuned-adm", "off"]


def _keep(root: Path, state: Tuned, before: str, after: str) -> None:
    """Record what was before us; a later change of ours keeps that and knows the new text."""
    paths = HostPaths(root)
    record = files.read_record(paths.tuned) or {
        "version": VERSION,
        "profile": state.profile,
        "mode": state.mode,
        "variables": before,
    }
    files.make_directory(paths.state)
    files.write_record(paths.tuned, {**record, "written": after})


def _with_isolated(text: str, line: Optional[str]) -> str:
    """Replace the line that counts, the last one; without one the line comes last, and None takes it out."""
    found = list(_ISOLATED.finditer(text))
    if found:
        start, end = found[-1].span()
        return text[:start] + line + text[end:] if line is not None else text[:start] + text[end + 1 :]
    if line is None:
        return text
    return f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{line}\n"


def _has(state: Tuned, isolated: str) -> bool:
    return Argument("nohz_full", isolated) in state.arguments


def _line(root: Path, name: str) -> str:
    return (files.read_text(root / "etc/tuned" / name) or "").strip()


def _not_applied(missing: str, left: str) -> FleetError:
    problem = f"lacks {missing}" if missing else f"still has {left}"
    return FleetError(
        f"tuned has not changed the kernel command line as told: /{BOOTCMDLINE} {problem}. See "
        "/var/log/tuned/tuned.log for the cause (its plugin bootloader needs /etc/grub.d/00_tuned), then try again.",
        code="not_applied",
        place=f"/{BOOTCMDLINE}",
        missing=[missing] if missing else [],
        left=[left] if left else [],
    )
