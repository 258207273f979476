# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Where the collection keeps its files on a host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class HostPaths:
    """Paths of the collection's files below ``root``; tests point ``root`` at a directory of their own."""

    root: Path = Path("/")

    @property
    def state(self) -> Path:
        """Directory of the records (0755, root)."""
        return self.root / "var/lib/kvm_fleet"

    @property
    def kernel_arguments(self) -> Path:
        """Which arguments of the kernel command line are the collection's."""
        return self.state / "kernel_arguments.json"

    @property
    def mark(self) -> Path:
        """The maintenance mark; it exists only while the host is in maintenance."""
        return self.state / "maintenance.json"

    @property
    def history(self) -> Path:
        """The identifiers of the maintenances that this host completed."""
        return self.state / "history.json"

    @property
    def lease(self) -> Path:
        """Which run works with the host's pool at present."""
        return self.state / "lease.json"

    @property
    def migrations(self) -> Path:
        """Directory of the records of migrations under way (0700, root)."""
        return self.state / "migrations"

    def migration(self, uuid: str) -> Path:
        """The record of one VM's migration."""
        return self.migrations / f"{uuid}.json"

    @property
    def pool_record(self) -> Path:
        """Which CPU pool the host is in; ``setup`` shows it as ``ansible_local.kvm_fleet_pool``."""
        return self.root / "etc/ansible/facts.d/kvm_fleet_pool.fact"

    @property
    def hook(self) -> Path:
        """The cordon hook. libvirt runs the files of a ``qemu.d`` directory since 6.5.0."""
        return self.root / "etc/libvirt/hooks/qemu.d/kvm_fleet"

    def vcpu_hooks(self, when: str) -> Path:
        """Directory of the administrator's hooks ``before`` or ``after`` the number of a VM's vCPUs changes."""
        return self.root / f"etc/kvm_fleet/hooks/{when}_set_vcpus.d"

    @property
    def proc(self) -> Path:
        """The kernel's process directory."""
        return self.root / "proc"

    @property
    def tuned(self) -> Path:
        """What tuned had before the collection chose its profile."""
        return self.state / "tuned.json"
