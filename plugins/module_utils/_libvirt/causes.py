# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What libvirt's words about a broken way between two hosts mean: a code for programs, and the next step."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional, Tuple


@dataclass(frozen=True)
class Cause:
    """A cause by the words that tell it (a regular expression); ``step`` may name what the caller knows in braces."""

    words: str
    code: str
    step: str


# Of libvirt's own connections and of QEMU's, https://gitlab.com/libvirt/libvirt (virnettlscontext.c) and QEMU's
# crypto/tlscredsx509.c and tlssession.c.
TLS = Cause(
    r"[Cc]ertificate|access credentials /|TLS handshake|TLS session",
    "tls_failed",
    "See that the certificates of both hosts are valid now, are of one authority and name the address that is used; "
    "the playbook virtops.kvm_fleet.transport makes them anew",
)

# In a migration. The first that matches counts, for an end of the connection may follow each of the others.
MIGRATION: Tuple[Cause, ...] = (
    TLS,
    Cause(
        # Not the ports of libvirt itself: these are of the memory.
        r"unable to connect to server at '[^']*:(?!16509'|16514')\d+'|Unable to resolve address",
        "port_blocked",
        "See that this name or address leads from {source} to {destination}, and open the migration ports (49152 to "
        "49215 unless qemu.conf has others) between the hypervisors. {destination} tells its own name, or the "
        "migration_host of its qemu.conf; a migrate_uri of the move goes before",
    ),
    Cause(
        r"Cannot allocate memory|unable to map backing store",
        "not_enough_memory",
        "Free memory on {destination}, huge pages if the VM has such, or send the VM elsewhere",
    ),
    Cause(
        r"No space left on device|failed to write master key file",
        "disk_full",
        "Make room on {destination}; libvirt itself writes below /etc/libvirt, /run/libvirt and /var/lib/libvirt",
    ),
    Cause(
        r"closed the monitor|connecting to monitor|unexpected exit status",
        "migration_failed",
        "See /var/log/libvirt/qemu/{vm}.log on {destination}, and whether its memory or a disk is full",
    ),
    Cause(
        r"client socket is closed|End of file while reading|keepalive timeout|Cannot (?:recv|write) data",
        "migration_failed",
        "libvirt's connection to {destination} ended, which can hide another cause: see that {destination} and its "
        "libvirt are up, and what their logs say. Then run this again, which asks both hosts first: such an end in the "
        "moment of the switch can leave a VM on each",
    ),
)

# libvirt quotes the whole command that it could not start.
_COMMAND = re.compile(r"Child process \(.*\) (?=unexpected exit status)", re.DOTALL)


def cause_of(words: str, causes: Tuple[Cause, ...]) -> Optional[Cause]:
    """Return the first of some causes that libvirt's words tell."""
    return next((cause for cause in causes if re.search(cause.words, words)), None)


def brief(words: str) -> str:
    """Return libvirt's words without the text of a command."""
    return _COMMAND.sub("Child process ", words)
