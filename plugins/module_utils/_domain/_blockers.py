# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What keeps a running VM from migrating, in libvirt's own words, before anything is touched.

The rules are those of ``qemuMigrationSrcIsAllowed``, ``qemuMigrationSrcIsAllowedHostdev`` and
``qemuMigrationSrcIsSafe`` in libvirt's ``src/qemu/qemu_migration.c`` (9.0 to 11.3), as far as XML and the caller's
facts decide them. Where a device is to be blamed its name follows libvirt's sentence in brackets.
Left to libvirt itself: QEMU's own reasons (``query-migrate``), auto-destroy, an I/O error with abort-on-error, the
abilities of a running slirp-helper or swtpm, and disk caches (safe since QEMU 4.0 drops them).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Iterator, Optional, Tuple

from .. import _xml
from .._cpu import cpu_from_element, required
from ._devices import disks_of

# How libvirt refuses a disk that the destination does not see.
UNSHARED = "Migration without shared storage is unsafe"


@dataclass(frozen=True)
class _Facts:
    snapshots: int
    block_job: bool
    virtiofs_migratable: bool
    shared_path: Optional[Callable[[str], bool]]


def migration_blockers(
    xml: str,
    *,
    snapshots: int = 0,
    block_job: bool = False,
    virtiofs_migratable: bool = False,
    shared_path: Optional[Callable[[str], bool]] = None,
) -> Tuple[str, ...]:
    """Return why libvirt would refuse to migrate a running VM (live XML), or nothing.

    ``snapshots`` is the number libvirt keeps for the VM. ``virtiofs_migratable`` says that the host's libvirt and
    virtiofsd can migrate. ``shared_path`` says of a path whether it is the same file on the destination; without it
    storage is not judged, as for a migration that copies the disks. Raises ``FleetError`` with code ``bad_xml``.
    """
    root = _xml.parse_as(xml, "domain")
    facts = _Facts(snapshots, block_job, virtiofs_migratable, shared_path)
    found = (reason for rule in _RULES for reason in rule(root, facts))
    return tuple(dict.fromkeys(found))


def _snapshots(_root: _xml.Element, facts: _Facts) -> Iterator[str]:
    if facts.snapshots > 0:
        yield f"cannot migrate domain with {facts.snapshots} snapshots"


def _hostdevs(root: _xml.Element, _facts: _Facts) -> Iterator[str]:
    """USB devices pass, and PCI devices that libvirt unplugs for the migration (``<teaming type='transient'>``).

    Since 8.6 libvirt leaves this to QEMU's blockers, which let some mdev and PCI devices pass; these are found
    blocked here nevertheless, because a plan must not rest on them.
    """
    for device in root.iterfind("devices/hostdev"):
        if device.get("mode") == "capabilities":
            yield "cannot migrate a domain with <hostdev mode='capabilities'>"
        elif device.get("type") != "usb" and not (device.get("type") == "pci" and _is_transient(device)):
            yield f"cannot migrate a domain with <hostdev mode='subsystem' type='{device.get('type')}'>"
    for interface in root.iterfind("devices/interface[@type='hostdev']"):
        if not _is_transient(interface):
            yield "cannot migrate a domain with <interface type='hostdev'>"


def _is_transient(device: _xml.Element) -> bool:
    return _xml.find_attribute(device, "teaming", "type") == "transient"


def _block_job(_root: _xml.Element, facts: _Facts) -> Iterator[str]:
    if facts.block_job:
        yield "domain has active block job"


def _invtsc(root: _xml.Element, _facts: _Facts) -> Iterator[str]:
    """QEMU itself blocks an invariant TSC unless its frequency is fixed."""
    cpu = root.find("cpu")
    if cpu is None or "invtsc" not in required(cpu_from_element(cpu)):
        return
    frequencies = [_xml.to_int(timer.get("frequency")) for timer in root.iterfind("clock/timer[@name='tsc']")]
    if not any(frequencies):
        yield "domain has 'invtsc' CPU feature but TSC frequency is not specified"


def _dimms(root: _xml.Element, _facts: _Facts) -> Iterator[str]:
    for memory in root.iterfind("devices/memory[@model='dimm']"):
        if _xml.find_attribute(memory, "address", "type") != "dimm":
            yield "domain's dimm info lacks slot ID or base address"


def _shmem(root: _xml.Element, _facts: _Facts) -> Iterator[str]:
    for shmem in root.iterfind("devices/shmem"):
        if shmem.get("role") != "master":
            name = shmem.get("name")
            yield f"shmem device '{name}' cannot be migrated, only shmem with role='master' can be migrated"


def _vdpa(root: _xml.Element, _facts: _Facts) -> Iterator[str]:
    if root.find("devices/interface[@type='vdpa']") is not None:
        yield "vDPA devices cannot be migrated"


def _virtiofs(root: _xml.Element, facts: _Facts) -> Iterator[str]:
    """Libvirt 9.0 refuses every virtiofs device; newer ones ask virtiofsd and say "this virtiofs device"."""
    for filesystem in root.iterfind("devices/filesystem"):
        if _xml.find_attribute(filesystem, "driver", "type") == "virtiofs" and not facts.virtiofs_migratable:
            target = _xml.find_attribute(filesystem, "target", "dir")
            yield f"migration with virtiofs device is not supported ({target})"


def _transient_disks(root: _xml.Element, _facts: _Facts) -> Iterator[str]:
    for disk in disks_of(root):
        if disk.transient:
            yield f"migration with transient disk is not supported ({disk.target})"


def _unshared_disks(root: _xml.Element, facts: _Facts) -> Iterator[str]:
    if facts.shared_path is not None:
        yield from unshared_disks(root, facts.shared_path)


def unshared_disks(root: _xml.Element, shared_path: Callable[[str], bool]) -> Iterator[str]:
    """Empty, read-only and network disks are safe; libvirt takes block devices for shared, and NVMe for local."""
    for disk in disks_of(root):
        if disk.source is None and disk.type != "nvme":
            continue
        local = disk.type == "nvme" or (disk.type == "file" and not shared_path(disk.source or ""))
        if local and not disk.read_only:
            place = disk.source if disk.type == "file" else "NVMe"
            yield f"{UNSHARED} ({disk.target}: {place})"


_RULES: Tuple[Callable[[_xml.Element, _Facts], Iterator[str]], ...] = (
    _snapshots,
    _hostdevs,
    _block_job,
    _invtsc,
    _dimms,
    _shmem,
    _vdpa,
    _virtiofs,
    _transient_disks,
    _unshared_disks,
)
