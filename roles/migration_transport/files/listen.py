# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listen on a free port of a range and print it: `listen.py FIRST LAST SECONDS`.

A copy in the background takes connections and drops them, until one comes from the host itself or the time is over.
libvirt takes the first free port of its range, so this takes the last: a migration that begins meanwhile has another.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from typing import Optional

OWN = ("127.0.0.1", "::ffff:127.0.0.1", "::1")


def bound(port: int) -> Optional[socket.socket]:
    """Return a socket that listens there on all addresses, or None if the port is taken."""
    for family, everywhere in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):
        try:
            server = socket.socket(family, socket.SOCK_STREAM)
        except OSError:  # a kernel without IPv6
            continue
        try:
            if family == socket.AF_INET6:
                server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((everywhere, port))
            server.listen(64)
            return server
        except OSError:
            server.close()
    return None


def serve(server: socket.socket, seconds: int) -> None:
    """Take connections until the host itself knocks or the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        server.settimeout(max(0.1, end - time.monotonic()))
        try:
            client, address = server.accept()
        except OSError:
            continue
        client.close()
        if address[0] in OWN:
            return


def main() -> None:
    """Choose a port, print it and go to the background."""
    first, last, seconds = (int(word) for word in sys.argv[1:4])
    for port in range(last, first - 1, -1):
        server = bound(port)
        if server is not None:
            break
    else:
        sys.exit(f"All ports from {first} to {last} are taken, by migrations or by another program.")
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    # The terminal that Ansible may have given goes away with this process, perhaps before the copy has left it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if os.fork():
        return
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    serve(server, seconds)


if __name__ == "__main__":
    main()
