# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: several real libvirt hypervisors on one machine.

`with Lab("mytest") as lab: lab.up(hosts=2)` makes one and removes it at the end of the block.
"""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Iterator, List, Mapping, Optional, Tuple, TypeVar

from . import network
from .cgroups import HELPERS, Cgroups
from .faults import Faults
from .guests import Guests
from .host import Base, Host
from .identity import make_keys
from .inventory import inventory_text
from .kinds import Kind, kind_named
from .logs import Logs
from .shell import LabError, Progress, file_lock, say, wait_for
from .spec import DEFAULT_NAME, HostOptions, LabSpec, hardware, merge_hosts, state_root
from .tree import ensure_tools, require_space

T = TypeVar("T")


@dataclass(frozen=True)
class HostStatus:
    """What `status` tells of a host; `versions` is libvirt's own text, `guests` has (name, state) pairs."""

    host: str
    address: str
    up: bool
    libvirtd: bool
    versions: str
    guests: Tuple[Tuple[str, str], ...]


class Lab:
    """A lab by name; making the object changes nothing and reads what is there."""

    def __init__(self, name: str = DEFAULT_NAME, progress: Progress = say) -> None:
        self.folder = state_root() / name
        self.progress = progress
        self.spec = self._load(name)
        self.groups = Cgroups(name)
        self.guests = Guests(self)
        self.faults = Faults(self)

    def _load(self, name: str) -> LabSpec:
        try:
            return LabSpec.from_json((self.folder / "lab.json").read_text())
        except FileNotFoundError:
            return LabSpec(name=name)

    @property
    def kind(self) -> Kind:
        """How the hosts are made."""
        return kind_named(self.spec.kind)

    @property
    def logs(self) -> Logs:
        """The guests' logs."""
        return self.kind.logs(self.shared, lambda: self.hosts)

    @property
    def shared(self) -> Path:
        """The folder that every pod sees as /srv/lab: the hosts' shared storage. Machines share none."""
        return self.folder / "shared"

    @property
    def hosts(self) -> Tuple[Host, ...]:
        return tuple(self[name] for name in self.spec.hosts)

    def __getitem__(self, name: str) -> Host:
        if name not in self.spec.hosts:
            known = ", ".join(self.spec.hosts) or "none; run `up` first"
            raise LabError(f"lab {self.spec.name} has no host {name!r} (it has: {known})")
        return self.kind.host(self.spec, name, self.folder / name)

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.down()

    def up(
        self,
        hosts: Optional[int] = None,
        options: Optional[Mapping[str, HostOptions]] = None,
        subnet: Optional[str] = None,
        mirror: Optional[str] = None,
        *,
        kind: Optional[str] = None,
        cold: bool = False,
    ) -> Lab:
        """Make the lab have hosts hv1 to hv`hosts` (default: those it has, or three), all running; return itself.

        `options` are per host; a host that runs keeps what its options made of it. `kind` is "pod" (default of a new
        lab) or "machine". `cold`: machines boot, instead of going on where a booted one was saved. Raises LabError when
        something is in the way.
        """
        check_machine()
        with self._locked():
            self.spec = self._load(self.spec.name)  # another process may have changed it
            known = self.spec.hosts
            wanted = replace(
                self.spec,
                subnet=subnet or self.spec.subnet,
                kind=kind or self.spec.kind,
                hosts=merge_hosts(hosts, known, options or {}),
            )
            self._refuse_changes(wanted)
            ensure_tools(self.progress)
            base = kind_named(wanted.kind).base(wanted, self.progress, mirror, booted=not cold)
            self.spec = wanted
            self._prepare(base)
            self._start(base, cold)
        return self

    def _refuse_changes(self, wanted: LabSpec) -> None:
        kind_named(wanted.kind).check(wanted)
        if self.spec.hosts and wanted.kind != self.spec.kind:
            raise LabError(f"lab {wanted.name} has hosts of kind {self.spec.kind}; `down` first, or use another --name")
        for name, options in self.spec.hosts.items():
            if hardware(options) != hardware(wanted.hosts[name]) and self[name].pid() is not None:
                raise LabError(f"{name} runs with another CPU or memory; `power-off {name}` first, or `down`")
        if self.spec.hosts and wanted.subnet != self.spec.subnet:
            raise LabError(f"lab {wanted.name} uses {self.spec.subnet}; `down` first to use {wanted.subnet}")

    def _prepare(self, base: Base) -> None:
        self.shared.mkdir(parents=True, exist_ok=True)
        require_space(self.folder, 256, "KVM_FLEET_LAB_STATE")
        # Renamed into place: a crash must not leave half a file that `down` cannot read.
        (self.folder / "lab.json.new").write_text(self.spec.to_json(), encoding="utf-8")
        (self.folder / "lab.json.new").rename(self.folder / "lab.json")
        self.kind.furnish(self.shared, base)
        make_keys(self.spec, self.folder / "keys")
        self.write_inventory(self.folder / "inventory.yml")
        self.groups.create(HELPERS)
        network.create_bridge(self.spec)

    def _start(self, base: Base, cold: bool) -> None:
        def start(host: Host) -> None:
            host.start(base, cold=cold)
            host.wait_ready()
            self.progress(f"{host.name} is up at {host.address}")

        self._each(start)

    def _each(self, work: Callable[[Host], T]) -> List[T]:
        with ThreadPoolExecutor(max_workers=max(1, len(self.spec.hosts))) as pool:
            return list(pool.map(work, self.hosts))

    def power_on(self, name: str) -> None:
        """Start one host that is off, with the files it had, and wait until libvirtd answers."""
        host = self[name]
        host.start(self.kind.base(self.spec, self.progress, booted=False))
        host.wait_ready()

    def down(self) -> None:
        """Remove the lab with everything it made, also what a crashed `up` or `down` left. The cache stays."""
        check_machine()
        with self._locked():
            self.spec = self._load(self.spec.name)
            self._each(lambda host: host.shut_down())
            self.groups.kill()
            self.groups.remove()
            network.remove(self.spec)
            # The kernel frees a dead host's mounts a moment after its last process.
            wait_for(f"{self.folder} to be free", self._remove_folder, 10)
            self._lock_file.unlink(missing_ok=True)
            with suppress(OSError):
                self.folder.parent.rmdir()  # unless other labs are there
        self.spec = LabSpec(name=self.spec.name)
        left = self.leftovers()
        if left:
            raise LabError(f"lab {self.spec.name}: could not remove {', '.join(left)}")

    def _remove_folder(self) -> bool:
        shutil.rmtree(self.folder, ignore_errors=True)
        return not self.folder.exists()

    def leftovers(self) -> List[str]:
        """What of this lab exists in the machine, state files or not, in words."""
        found = [f"netns {name}" for name in network.leftover_netns(self.spec)]
        found += [f"link {name}" for name in network.leftover_links(self.spec)]
        found += [f"process {pid}" for pid in self.groups.pids()]
        return found + ([f"control group {self.spec.name}"] if self.groups.exists() else [])

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One `up` or `down` of a lab at a time; the lock dies with its holder."""
        root = self.folder.parent
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LabError(f"{root}: {error.strerror}; choose another place with KVM_FLEET_LAB_STATE") from error
        with file_lock(self._lock_file):
            yield

    @property
    def _lock_file(self) -> Path:
        return self.folder.parent / f"{self.spec.name}.lock"

    def status(self) -> List[HostStatus]:
        """State of every host, asked in parallel."""
        return self._each(_status)

    def inventory(self) -> str:
        """An Ansible inventory of the lab, as YAML text."""
        return inventory_text(self.spec, self.folder / "keys", self.kind)

    def write_inventory(self, path: Path) -> Path:
        path.write_text(self.inventory(), encoding="utf-8")
        return path


def _status(host: Host) -> HostStatus:
    up = host.pid() is not None
    versions = host.virsh("version", check=False).splitlines() if up else []
    guests: List[Tuple[str, str]] = []
    if versions:
        for name in host.virsh("list", "--all", "--name").split():
            guests.append((name, host.virsh("domstate", name, "--reason", check=False)))
    told = [line.split(": ", 1)[1] for line in versions if line.startswith(("Using library", "Running hypervisor"))]
    return HostStatus(host.name, host.address, up, bool(versions), ", ".join(told), tuple(guests))


def check_machine() -> None:
    """Raise LabError when the machine cannot have a lab at all."""
    if os.geteuid() != 0:
        raise LabError("the lab makes namespaces, mounts and control groups: run it as root")
    if os.uname().machine != "x86_64":
        raise LabError(f"the lab runs x86_64 guests and hosts; this machine is {os.uname().machine}")
