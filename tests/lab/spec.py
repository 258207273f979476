# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab consists of, as values: hosts, their options, names and addresses of everything the lab creates.

Every name in the machine (bridge, veth, netns, cgroup) is derived from the lab's name, so `down` finds leftovers of a
crashed lab without any state file.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import uuid
import zlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Dict, Mapping, Optional, Tuple

from .machine.qemu import check_cpu
from .pod.cpu_patch import FEATURES, VENDORS
from .shell import LabError

DEFAULT_STATE = "/run/kvm_fleet_lab"
DEFAULT_NAME = "default"
DEFAULT_KIND = "pod"
MAX_HOSTS = 6
PREFIX = "kfl"


@dataclass(frozen=True)
class HostOptions:
    """How one host differs from an ordinary one.

    without: CPU features its QEMU does not have (libvirt names). link: rate of its network link as tc writes it, or
    None for no limit. memory_mib: a machine's memory; for a pod, what the collection's capacity arithmetic is made to
    see; 0 = what the kind has by default. cpu: a machine's QEMU CPU model; "" = what hosts of its number have.
    vendor: of a pod's CPU, Intel or AMD; "" = AMD, which is what TCG says.
    """

    without: Tuple[str, ...] = ()
    link: Optional[str] = None
    memory_mib: int = 0
    cpu: str = ""
    vendor: str = ""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.without) - set(FEATURES))
        if unknown:
            raise LabError(f"without: unknown CPU features {', '.join(unknown)}; known: {', '.join(sorted(FEATURES))}")
        if self.link is not None and not re.fullmatch(r"\d+(kbit|mbit|gbit)", self.link):
            raise LabError(f"link: {self.link!r} is not a rate such as 200mbit")
        if self.cpu:
            check_cpu(self.cpu)
        if self.vendor and self.vendor not in VENDORS:
            raise LabError(f"vendor: {self.vendor!r} is none of {', '.join(VENDORS)}")


@dataclass(frozen=True)
class LabSpec:
    """One lab: `hosts` maps hv1, hv2, … to their options; `subnet` is an IPv4 /24 such as 10.77.0.0/24.

    `kind` is how all its hosts are made: see kinds.py.
    """

    name: str = DEFAULT_NAME
    subnet: str = ""
    kind: str = DEFAULT_KIND
    hosts: Mapping[str, HostOptions] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Interface names have 15 characters: "kfl-", the lab's name, "-", one digit.
        if not re.fullmatch(r"[a-z][a-z0-9]{0,8}", self.name):
            raise LabError(f"lab name {self.name!r}: use up to 9 lower-case letters and digits, a letter first")
        object.__setattr__(self, "subnet", self.subnet or default_subnet(self.name))
        try:
            network = ipaddress.IPv4Network(self.subnet)
        except ValueError as error:
            raise LabError(f"subnet {self.subnet!r}: {error}") from error
        if network.prefixlen > 24:
            raise LabError(f"subnet {self.subnet}: too small, a /24 is needed")

    @property
    def bridge(self) -> str:
        return f"{PREFIX}-{self.name}"

    @property
    def gateway(self) -> str:
        return self._address(1)

    @property
    def prefix_length(self) -> int:
        return ipaddress.IPv4Network(self.subnet).prefixlen

    def address(self, host: str) -> str:
        """IPv4 address of a host."""
        return self._address(10 + host_number(host))

    def _address(self, offset: int) -> str:
        return str(ipaddress.IPv4Network(self.subnet).network_address + offset)

    def veth(self, host: str) -> str:
        """The machine's end of the host's link: of a veth pair for a pod, a tap device for a machine."""
        return f"{self.bridge}-{host_number(host)}"

    def netns(self, host: str) -> str:
        return f"{self.bridge}-{host}"

    def host_uuid(self, host: str) -> str:
        """Identity of a host for libvirt; the same each time a lab of this name is made."""
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{host}.{self.name}.kvm-fleet-lab.invalid"))

    def possible_hosts(self) -> Tuple[str, ...]:
        """All names a lab can have: /etc/hosts and ssh keys cover them, so a host can be added later."""
        return tuple(f"hv{number}" for number in range(1, MAX_HOSTS + 1))

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    @staticmethod
    def from_json(text: str) -> LabSpec:
        data = json.loads(text)
        hosts = {
            name: HostOptions(**{**options, "without": tuple(options["without"])})
            for name, options in data.pop("hosts").items()
        }
        return LabSpec(hosts=hosts, **data)


def host_number(host: str) -> int:
    found = re.fullmatch(r"hv([1-9])", host)
    if not found or int(found.group(1)) > MAX_HOSTS:
        raise LabError(f"host {host!r}: hosts are named hv1 to hv{MAX_HOSTS}")
    return int(found.group(1))


def default_subnet(name: str) -> str:
    """10.77.0.0/24 for the lab called default, another third byte for other names."""
    return "10.77.0.0/24" if name == DEFAULT_NAME else f"10.77.{1 + zlib.crc32(name.encode()) % 254}.0/24"


def parse_host_option(text: str) -> Tuple[str, HostOptions]:
    """Read `hv2:without=avx2,fma:link=200mbit:memory=4096`. Raises LabError naming the part that is wrong."""
    host, *parts = text.split(":")
    host_number(host)
    options = HostOptions()
    for part in parts:
        key, separator, value = part.partition("=")
        if not separator or not value:
            raise LabError(f"--host {text}: {part!r} is not KEY=VALUE")
        if key == "without":
            options = replace(options, without=tuple(sorted(set(value.split(",")))))
        elif key == "link":
            options = replace(options, link=None if value == "none" else value)
        elif key == "memory" and value.isdigit():
            options = replace(options, memory_mib=int(value))
        elif key == "cpu":
            options = replace(options, cpu=value)
        elif key == "vendor":
            options = replace(options, vendor=value)
        else:
            known = "without=FEATURES, vendor=VENDOR, link=RATE, memory=MIB, cpu=MODEL"
            raise LabError(f"--host {text}: {part!r} is none of {known}")
    return host, options


def merge_hosts(
    count: Optional[int], known: Mapping[str, HostOptions], given: Mapping[str, HostOptions]
) -> Dict[str, HostOptions]:
    """The hosts a lab has after `up`: what it had, hv1 to hv`count`, and the hosts options are given for."""
    if count is not None and not 1 <= count <= MAX_HOSTS:
        raise LabError(f"--hosts {count}: a lab has 1 to {MAX_HOSTS} hosts")
    highest = max([count or 0, *map(host_number, known), *map(host_number, given)]) or 3
    names = [f"hv{number}" for number in range(1, highest + 1)]
    return {name: given.get(name) or known.get(name) or HostOptions() for name in names}


def hardware(options: HostOptions) -> Tuple[object, ...]:
    """What cannot change while a host runs."""
    return options.without, options.cpu, options.vendor


def state_root() -> Path:
    """Where the running labs keep their files; set by KVM_FLEET_LAB_STATE."""
    return Path(os.environ.get("KVM_FLEET_LAB_STATE") or DEFAULT_STATE)
