# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The cordon hook: the script with which libvirt itself refuses new domains on a host in maintenance.

What libvirt calls and when: https://libvirt.org/hooks.html. Refused are the operations that come before a domain
exists on the host: ``prepare`` and ``start`` (local start, saved image, incoming migration) and ``migrate`` (incoming
migration). ``start`` closes the gap between ``prepare`` and a mark written a moment later.
All others must pass. After a failed ``started`` or ``reconnect`` libvirt kills a domain that is already running.
After a failed ``restore`` libvirt (seen with 11.3.0) reports the start as done and deletes the managed save image;
when the ``prepare`` that follows refuses, the image is kept.
"""

from __future__ import annotations

import os
import shlex
import stat
from typing import Iterable, Optional

from . import files
from .paths import HostPaths

REFUSED_OPERATIONS = ("prepare", "start", "migrate")

# A domain with this prefix passes even in maintenance: the health checks of the collection start such domains.
PROBE_PREFIX = "kvm_fleet-probe-"

# This name is refused like any other; being refused shows that the running daemon knows the hook.
CORDON_PROBE = "kvm_fleet-cordon-probe"

# The words by which a refusal of this hook is known in an error of libvirt.
REFUSAL = "kvm_fleet: host "

ABSENT, OUTDATED, CURRENT = "absent", "outdated", "current"

# The script uses builtins of sh only, so neither PATH nor a missing tool changes its answer. It reads the mark by its
# layout (files.write_record): anything unexpected counts as maintenance. Standard input, the domain's XML, is left
# unread, which libvirt tolerates. Standard output stays empty: on `migrate` and `restore` it would be the new XML.
_SCRIPT = r"""#!/bin/sh
# Installed by host_maintenance of the Ansible collection virtops.kvm_fleet, which overwrites changes.
# While the maintenance mark exists, no domain starts, is restored or arrives by migration on this host.
# Arguments: NAME OPERATION SUB-OPERATION EXTRA (https://libvirt.org/hooks.html).
# Never fail for another operation: after `reconnect` libvirt would kill the running domain, after `restore` it would
# delete the saved state.
mark=@MARK@

case ${2-} in
    @OPERATIONS@) ;;
    *) exit 0 ;;
esac
case ${1-} in
    @PROBES@*) exit 0 ;;
esac
[ -e "$mark" ] || [ -L "$mark" ] || exit 0

shape=
reason=
while IFS= read -r line || [ -n "$line" ]; do
    case $line in
        '{') shape="${shape}{" ;;
        '  "version": 1,') shape="${shape}v" ;;
        '  "id": "'*'",') shape="${shape}i" ;;
        '  "reason": "'*'",')
            shape="${shape}r"
            reason=${line#'  "reason": "'}
            reason=${reason%'",'}
            ;;
        '  "since": "'*'",') shape="${shape}s" ;;
        '  "cordon": true,') shape="${shape}c" ;;
        '  "cordon": false,') shape="${shape}o" ;;
        '  "phase": "'*'"') shape="${shape}p" ;;
        '}') shape="${shape}}" ;;
        *) shape="${shape}?" ;;
    esac
done 2>/dev/null <"$mark"

host=
read -r host 2>/dev/null </proc/sys/kernel/hostname
case $shape in
    '{virsop}') exit 0 ;;
    '{virscp}') why=$reason next='leave it with host_maintenance state=left' ;;
    *) why="its mark $mark is damaged" next='restore that file, or remove it if the maintenance is over' ;;
esac
printf '@REFUSAL@%s is in maintenance (%s); %s\n' "$host" "$why" "$next" >&2
exit 1
"""


def script(mark: str) -> str:
    """Return the text of the hook for the mark at this absolute path."""
    return (
        _SCRIPT.replace("@MARK@", shlex.quote(mark))
        .replace("@OPERATIONS@", "|".join(REFUSED_OPERATIONS))
        .replace("@PROBES@", PROBE_PREFIX)
        .replace("@REFUSAL@", REFUSAL)
    )


def status(paths: HostPaths) -> str:
    """Return ``absent``, ``outdated`` (other content, not a file, or not executable for all) or ``current``."""
    try:
        info = os.lstat(paths.hook)
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    if not stat.S_ISREG(info.st_mode) or stat.S_IMODE(info.st_mode) != 0o755:
        return OUTDATED
    return CURRENT if files.read_text(paths.hook) == script(str(paths.mark)) else OUTDATED


def is_installed(paths: Optional[HostPaths] = None) -> bool:
    """Return whether the hook of this release is in place; whether the daemon runs it must be observed."""
    return status(paths or HostPaths()) == CURRENT


def install(paths: HostPaths) -> None:
    """Write the hook. A daemon that found no hook when it started sees this one after a restart only."""
    directory = paths.hook.parent
    files.make_directory(directory.parent)
    files.make_directory(directory)
    files.write_text(paths.hook, script(str(paths.mark)), mode=0o755, scratch=directory.parent)


def daemon_service(names: Iterable[str]) -> Optional[str]:
    """Return the service that runs QEMU domains, given the names of the running processes; None when neither runs."""
    running = set(names)
    return next((service for service in ("virtqemud", "libvirtd") if service in running), None)


def process_names(paths: Optional[HostPaths] = None) -> Iterable[str]:
    """Yield the command name (at most 15 characters) of every process of this host."""
    for entry in (paths or HostPaths()).proc.glob("[0-9]*/comm"):
        try:
            yield entry.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            # The process ended between listing and reading.
            continue
