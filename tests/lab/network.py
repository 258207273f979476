# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network of a lab: a bridge with the machine's address, and per host a netns with a veth pair.

Everything can be called again and converges. Interface names come from LabSpec.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import List, Optional, Sequence

from .shell import LabError, file_lock, run
from .spec import LabSpec

NETNS_DIR = Path("/run/netns")
NETNS_LOCK = Path("/run/lock/kvm_fleet_lab.netns")  # of all labs: one may go while another comes
LINKS = Path("/sys/class/net")
IFF_UP = 1


def create_bridge(spec: LabSpec) -> None:
    """Make the bridge unless it exists. Raises LabError when another interface has the subnet."""
    if not link_exists(spec.bridge):
        _refuse_used_subnet(spec)
        run(["ip", "link", "add", spec.bridge, "type", "bridge"])
    # `replace` would be silent about an address that is already there; it also repairs a half-made bridge.
    run(["ip", "address", "replace", f"{spec.gateway}/{spec.prefix_length}", "dev", spec.bridge])
    run(["ip", "link", "set", spec.bridge, "up"])


def _refuse_used_subnet(spec: LabSpec) -> None:
    for route in json.loads(run(["ip", "-json", "route", "show", "to", "root", spec.subnet]).stdout or "[]"):
        raise LabError(f"subnet {spec.subnet} is already used by {route.get('dev')}; choose another one with --subnet")


def create_host(spec: LabSpec, host: str) -> None:
    """Make the host's netns and its link to the bridge, or what is missing of them."""
    netns, veth = spec.netns(host), spec.veth(host)
    if not (NETNS_DIR / netns).exists():
        with file_lock(NETNS_LOCK):
            run(["ip", "netns", "add", netns])
    if not link_exists(veth):
        run(["ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", netns])
    run(["ip", "link", "set", veth, "master", spec.bridge, "up"])
    run(["ip", "-n", netns, "address", "replace", f"{spec.address(host)}/{spec.prefix_length}", "dev", "eth0"])
    for link in ("lo", "eth0"):
        run(["ip", "-n", netns, "link", "set", link, "up"])
    run(["ip", "-n", netns, "route", "replace", "default", "via", spec.gateway])


def plug_in(spec: LabSpec, host: str) -> None:
    """Connect a machine's tap device, which its QEMU has made, to the bridge."""
    run(["ip", "link", "set", spec.veth(host), "master", spec.bridge, "up"])


def set_rate(prefix: Sequence[str], device: str, rate: Optional[str]) -> None:
    """Limit what leaves through a device to `rate` (tc notation), or lift the limit with None.

    `prefix` are words for tc, such as -n NETNS.
    """
    if rate is None:
        run(["tc", *prefix, "qdisc", "del", "dev", device, "root"], check=False)
    else:
        run(["tc", *prefix, *tbf(device, rate)])


def tbf(device: str, rate: str) -> List[str]:
    """Words for tc. The bucket must hold a whole 64 KiB segmentation-offload packet."""
    return ["qdisc", "replace", "dev", device, "root", "tbf", "rate", rate, "burst", "256kb", "latency", "50ms"]


def set_link(spec: LabSpec, host: str, up: bool) -> None:
    """Plug or pull the host's cable: the machine's end goes down, so the host loses its carrier."""
    run(["ip", "link", "set", spec.veth(host), "up" if up else "down"])


def remove(spec: LabSpec) -> None:
    """Remove every netns, veth and bridge of this lab, whether or not a state file knows them."""
    for netns in leftover_netns(spec):
        run(["ip", "netns", "del", netns], check=False)
    for link in sorted(leftover_links(spec), reverse=True):
        run(["ip", "link", "del", link], check=False)
    with file_lock(NETNS_LOCK):
        if NETNS_DIR.is_mount() and not any(NETNS_DIR.iterdir()):
            # `ip netns add` mounted the folder on itself; with nothing in it, it only stands in the mount list.
            run(["umount", str(NETNS_DIR)], check=False)


def leftover_netns(spec: LabSpec) -> List[str]:
    names = [spec.netns(host) for host in spec.possible_hosts()]
    return [name for name in names if (NETNS_DIR / name).exists()]


def leftover_links(spec: LabSpec) -> List[str]:
    names = [spec.bridge, *(spec.veth(host) for host in spec.possible_hosts())]
    return [name for name in names if link_exists(name)]


def is_plugged(spec: LabSpec, host: str) -> bool:
    """Whether the host's cable is plugged in on this machine's side."""
    try:
        return bool(int((LINKS / spec.veth(host) / "flags").read_text(), 16) & IFF_UP)
    except OSError:
        return False


def link_exists(name: str) -> bool:
    return (LINKS / name).exists()
