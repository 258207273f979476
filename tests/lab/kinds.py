# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of host a lab can have. A lab has hosts of one kind; everything that differs between kinds is said here."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Callable, ClassVar, Mapping, Optional, Sequence, Tuple

from .host import Base, Host
from .image import ensure_image
from .logs import Logs, SharedLogs
from .machine.disk import ensure_disk
from .machine.host import MachineHost
from .machine.logs import GatheredLogs
from .machine.qemu import SMALLEST_MIB
from .machine.snapshot import ensure_snapshots
from .pod.host import PodHost
from .shell import LabError, Progress
from .spec import HostOptions, LabSpec
from .tree import ensure_tree

POD_MEMORY_MIB = 4096


class Kind(ABC):
    """What the lab does differently for hosts of a kind."""

    name: ClassVar[str]
    summary: ClassVar[str]
    # More variables for all hosts in the inventory.
    ansible_variables: ClassVar[Mapping[str, bool]] = {}
    # How much longer than on a pod anything may take before it counts as hanging.
    patience: ClassVar[float] = 1

    @abstractmethod
    def check(self, spec: LabSpec) -> None:
        """Raise LabError for host options that this kind does not have."""

    @abstractmethod
    def base(self, spec: LabSpec, progress: Progress, mirror: Optional[str] = None, *, booted: bool) -> Base:
        """Build what the cache lacks for these hosts; with `booted` also what makes their first start fast."""

    @abstractmethod
    def furnish(self, shared: Path, base: Base) -> None:
        """Fill the lab's shared folder."""

    @abstractmethod
    def host(self, spec: LabSpec, name: str, folder: Path) -> Host:
        """The host called `name`; making the object changes nothing."""

    @abstractmethod
    def logs(self, folder: Path, hosts: Callable[[], Sequence[Host]]) -> Logs:
        """Where the guests' logs are."""

    @abstractmethod
    def reserved_kib(self, options: HostOptions) -> Optional[int]:
        """Memory that the collection must not count with; None when a host reports only what it has."""


class PodKind(Kind):
    """Namespaces: fast and small, one cell, no KVM."""

    name = "pod"
    summary = "Linux namespaces"

    def check(self, spec: LabSpec) -> None:
        for name, options in spec.hosts.items():
            if options.cpu:
                raise LabError(f"{name}: cpu is an option of machines (--kind machine); pods have without and vendor")

    def base(self, spec: LabSpec, progress: Progress, mirror: Optional[str] = None, *, booted: bool) -> Base:
        tree = ensure_tree(progress, mirror)
        return Base(tree, ensure_image(tree, progress))

    def furnish(self, shared: Path, base: Base) -> None:
        for source, name in (("vmlinux", "kernel"), ("initrd.gz", "initrd.gz")):
            shutil.copyfile(base.image / source, shared / f"{name}.new")
            (shared / f"{name}.new").rename(shared / name)

    def host(self, spec: LabSpec, name: str, folder: Path) -> Host:
        return PodHost(spec, name, folder)

    def logs(self, folder: Path, hosts: Callable[[], Sequence[Host]]) -> Logs:
        return SharedLogs(folder)

    def reserved_kib(self, options: HostOptions) -> int:
        """What exceeds the host's `memory_mib`: every libvirtd of the lab reports the whole machine."""
        return max(0, machine_memory_kib() - (options.memory_mib or POD_MEMORY_MIB) * 1024)


class MachineKind(Kind):
    """Whole machines under QEMU: slower, but systemd, GRUB, two cells and KVM are real."""

    name = "machine"
    summary = "whole machines under QEMU"
    # A task costs seconds there; this saves a file transfer in each.
    ansible_variables: ClassVar[Mapping[str, bool]] = {"ansible_pipelining": True}
    patience: ClassVar[float] = 4

    def check(self, spec: LabSpec) -> None:
        for name, options in spec.hosts.items():
            for option in ("without", "vendor"):
                if getattr(options, option):
                    raise LabError(f"{name}: {option} is an option of pods; machines have cpu=MODEL,-FEATURE")
            if options.memory_mib and options.memory_mib < SMALLEST_MIB:
                raise LabError(f"{name}: memory={options.memory_mib}: a machine needs {SMALLEST_MIB} MiB")

    def base(self, spec: LabSpec, progress: Progress, mirror: Optional[str] = None, *, booted: bool) -> Base:
        tree = ensure_tree(progress, mirror)
        image = ensure_image(tree, progress)
        disk = ensure_disk(tree, image, progress)
        if booted:
            shapes = {MachineHost(spec, name, Path()).shape for name in spec.hosts}
            ensure_snapshots(tree, disk, sorted(shapes), progress)
        return Base(tree, image, disk)

    def furnish(self, shared: Path, base: Base) -> None:
        """Nothing: a machine's disk has what a guest needs."""

    def host(self, spec: LabSpec, name: str, folder: Path) -> Host:
        return MachineHost(spec, name, folder)

    def logs(self, folder: Path, hosts: Callable[[], Sequence[Host]]) -> Logs:
        return GatheredLogs(folder, lambda: [host for host in hosts() if isinstance(host, MachineHost)])

    def reserved_kib(self, options: HostOptions) -> None:
        return None


KINDS: Tuple[Kind, ...] = (PodKind(), MachineKind())


def kind_named(name: str) -> Kind:
    """Raise LabError for a name that is none."""
    for kind in KINDS:
        if kind.name == name:
            return kind
    raise LabError(f"kind {name!r}: hosts are of kind {' or '.join(kind.name for kind in KINDS)}")


def machine_memory_kib() -> int:
    """Memory of this machine as libvirt reports it for every pod of the lab (MemTotal)."""
    with Path("/proc/meminfo").open(encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("MemTotal:"))
