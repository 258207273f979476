# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Booted machines, kept: later hosts start from one in seconds.

A snapshot is a folder `disk.qcow2` (over the machines' disk) and `state` (memory and devices, as QEMU migrates them).
It has no identity yet; lab-identity gives a host its own. One is kept per CPU model and memory size.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Collection, Dict, Tuple

from ..shell import DIE_WITH_PARENT, LabError, Progress, run
from ..tree import cache_lock, remove_partial, require_space
from .channel import Agent, Monitor, wait_agent
from .disk import machines_cache
from .qemu import Machine, command, has_kvm, overlay, snapshot_text

RECIPE = 1  # raise it when the steps below change the content
BOOT_TIMEOUT = 300.0
Shape = Tuple[str, int]  # CPU model, MiB

# What a host's first user would wait for: QEMU's capabilities in libvirt's cache, compiled Python, GRUB's real file.
WARM_UP = """\
systemctl is-system-running --wait >/dev/null || true
touch /etc/lab-identity
systemctl start libvirtd.service
virsh -q -c qemu:///system version >/dev/null
for type in qemu{kvm}; do virsh -q -c qemu:///system domcapabilities --virttype $type >/dev/null; done
python3 -c 'import libvirt, lxml.etree, json, tempfile, subprocess, zipfile, urllib.parse, logging'
update-grub
rm -rf /var/log/libvirt/*.log
sync
"""


def snapshot_of(disk: Path, shape: Shape) -> Path:
    """Folder of the snapshot for machines with this disk, CPU and memory; it may not exist yet."""
    text = "\n".join([disk.name, *snapshot_text(*shape), WARM_UP, str(RECIPE)])
    return machines_cache() / f"snapshot-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def ensure_snapshots(tree: Path, disk: Path, shapes: Collection[Shape], progress: Progress) -> Dict[Shape, Path]:
    """Return the snapshots of these machines, booting those that the cache lacks (half a minute or more each)."""
    cache = machines_cache()
    with cache_lock(cache):
        remove_partial(cache)
        found = {shape: snapshot_of(disk, shape) for shape in shapes}
        missing = [shape for shape, path in found.items() if not path.is_dir()]
        if missing:
            require_space(cache, 2000 * len(missing), "KVM_FLEET_LAB_CACHE")
            with ThreadPoolExecutor(max_workers=len(missing)) as pool:
                list(pool.map(lambda shape: _make(tree, disk, shape, found[shape], progress), missing))
    return found


def _make(tree: Path, disk: Path, shape: Shape, folder: Path, progress: Progress) -> None:
    cpu, memory = shape
    progress(f"booting a machine with {cpu} and {memory} MiB (once)")
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    partial.mkdir()
    run(overlay(tree, disk, partial / "disk.qcow2"))
    # Unix sockets have short names.
    with tempfile.TemporaryDirectory(prefix="kfl-") as sockets:
        machine = Machine(
            name=folder.name,
            cpu=cpu,
            memory_mib=memory,
            disk=partial / "disk.qcow2",
            folder=Path(sockets),
            uuid="4b564d46-6c65-4574-8c61-620000000000",
            mac="52:54:00:77:00:10",
            tap="kfl%d",
        )
        try:
            _boot_and_save(tree, machine, partial)
        except LabError as error:
            console = (Path(sockets) / "console.log").read_text(errors="replace").splitlines()[-15:]
            raise LabError("\n".join([f"machine with {cpu}: {error}", *console])) from error
    partial.rename(folder)


def _boot_and_save(tree: Path, machine: Machine, partial: Path) -> None:
    argv, output = [*DIE_WITH_PARENT, *command(tree, machine)], partial / "qemu.log"
    with output.open("w", encoding="utf-8") as log, subprocess.Popen(argv, stdout=log, stderr=log) as qemu:
        try:
            wait_agent(machine.folder / "agent", BOOT_TIMEOUT)
            with Agent(machine.folder / "agent") as agent:
                kvm = " kvm" if has_kvm(machine.cpu) else ""
                script = ["/bin/sh", "-e"]
                done = agent.run(script, stdin=WARM_UP.format(kvm=kvm).encode(), timeout=BOOT_TIMEOUT)
                done.checked(machine.cpu, script)
            time.sleep(1)  # the agent is done with its last answer
            save(machine.folder / "qmp", partial / "state")
            qemu.wait(60)
        finally:
            qemu.kill()
    output.unlink()


def save(qmp: Path, state: Path) -> None:
    """Stop a machine, write its memory and devices to a file, and end its QEMU, whose disk is then complete, too."""
    with Monitor(qmp) as monitor:
        monitor.call("stop")
        _map_memory(monitor)
        monitor.call("migrate", uri=f"file:{state}")
        monitor.wait_migration()
        monitor.call("quit")


def load(qmp: Path, state: Path) -> None:
    """Let a QEMU that was started with `-incoming defer` go on where the saved machine was."""
    with Monitor(qmp) as monitor:
        _map_memory(monitor)
        monitor.call("migrate-incoming", uri=f"file:{state}")
        monitor.wait_migration()
        if monitor.call("query-status")["status"] != "running":
            monitor.call("cont")


def _map_memory(monitor: Monitor) -> None:
    """Give every page its fixed place in the file: it is sparse, and written and read at the disk's speed."""
    capability = {"capability": "mapped-ram", "state": True}
    monitor.call("migrate-set-capabilities", capabilities=[capability])
