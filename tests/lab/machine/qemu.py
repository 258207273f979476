# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The QEMU of a machine: its command line, and the CPU models that work."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import List, Tuple

from ..shell import LabError
from ..tree import from_tree

QEMU = "usr/bin/qemu-system-x86_64"
FIRMWARE = ("usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu")
DEFAULT_CPUS = ("EPYC", "EPYC", "EPYC-Rome")  # hv1, hv2, hv3, and again: neighbours can migrate in one direction
DEFAULT_MEMORY_MIB = 2048
SMALLEST_MIB = 1024
CPUS = 8
AGENT = "org.qemu.guest_agent.0"
# These hang while they boot: they announce AVX without AVX2 and wait for ever in the check of a mitigation.
HANGING = ("Opteron_G4", "Opteron_G5")
AMD = re.compile(r"(EPYC|Opteron|phenom|Dhyana)|.*\bvendor=AuthenticAMD\b")


@dataclass(frozen=True)
class Machine:
    """What QEMU makes. `folder` gets its sockets, log and pid; `tap` is the network interface it makes on this side."""

    name: str
    cpu: str
    memory_mib: int
    disk: Path
    folder: Path
    uuid: str
    mac: str
    tap: str


def check_cpu(cpu: str) -> None:
    """Raise LabError for a CPU that is no QEMU CPU argument, or one that is known not to boot."""
    if not re.fullmatch(r"[A-Za-z0-9_.-]+(,[A-Za-z0-9_.+=-]+)*", cpu):
        raise LabError(f"cpu: {cpu!r} is not a CPU model such as EPYC or Haswell-noTSX,vendor=AuthenticAMD")
    if cpu.partition(",")[0] in HANGING:
        raise LabError(f"cpu: a host with {cpu} hangs when it boots under TCG; use Opteron_G3 or EPYC")


def has_kvm(cpu: str) -> bool:
    """Whether a machine with this CPU has KVM: TCG emulates AMD's virtualisation, not Intel's."""
    return AMD.match(cpu) is not None


def cpu_argument(cpu: str) -> str:
    """QEMU's -cpu for a model of the lab."""
    return f"{cpu},+svm,+npt" if has_kvm(cpu) else cpu


def hardware(cpu: str, memory_mib: int) -> List[str]:
    """What a snapshot depends on: two sockets of two cores of two threads, and a memory cell for each socket."""
    cell = memory_mib // 2
    return [
        *("-machine", "q35,smm=off,hpet=off,sata=off,smbus=off,vmport=off", "-accel", "tcg,thread=multi,tb-size=512"),
        *("-cpu", cpu_argument(cpu), "-m", str(memory_mib), "-smp", f"{CPUS},sockets=2,cores=2,threads=2"),
        *("-object", f"memory-backend-ram,id=cell0,size={cell}M"),
        *("-object", f"memory-backend-ram,id=cell1,size={memory_mib - cell}M"),
        *("-numa", "node,nodeid=0,cpus=0-3,memdev=cell0", "-numa", "node,nodeid=1,cpus=4-7,memdev=cell1"),
        *("-numa", "dist,src=0,dst=1,val=21"),
        *("-nodefaults", "-display", "none", "-rtc", "base=utc"),
        *("-device", "virtio-blk-pci,drive=disk"),
        *("-device", "virtio-serial-pci", "-device", f"virtserialport,chardev=agent,name={AGENT}"),
    ]


def command(tree: Path, machine: Machine, *more: str) -> List[str]:
    """The machine's QEMU, run out of the Debian tree. The tap device ends with it."""
    folders: List[str] = [word for name in FIRMWARE for word in ("-L", str(tree / name))]
    folder = machine.folder
    return [
        *from_tree(tree, QEMU),
        *folders,
        *("-name", machine.name),
        *hardware(machine.cpu, machine.memory_mib),
        *("-smbios", f"type=1,manufacturer=kvm_fleet,product=lab,uuid={machine.uuid}"),
        # The host of a test may lose its power, this machine may not: nothing waits for a real disk.
        *("-drive", f"if=none,id=disk,file={machine.disk},format=qcow2,cache=unsafe,discard=unmap"),
        *("-netdev", f"tap,id=net,ifname={machine.tap},script=no,downscript=no"),
        *("-device", f"virtio-net-pci,netdev=net,mac={machine.mac},romfile="),
        *("-chardev", f"socket,id=agent,path={folder}/agent,server=on,wait=off"),
        *("-qmp", f"unix:{folder}/qmp,server=on,wait=off"),
        *("-chardev", f"file,id=console,path={folder}/console.log,append=on", "-serial", "chardev:console"),
        *more,
    ]


def overlay(tree: Path, backing: Path, disk: Path) -> List[str]:
    """Command that makes `disk` a qcow2 file over `backing` (raw or qcow2, told by its name)."""
    kind = "qcow2" if backing.suffix == ".qcow2" else "raw"
    make = ["create", "-q", "-f", "qcow2", "-b", str(backing), "-F", kind, str(disk)]
    return [*from_tree(tree, "usr/bin/qemu-img"), *make]


def default_cpu(number: int) -> str:
    return DEFAULT_CPUS[(number - 1) % len(DEFAULT_CPUS)]


def snapshot_text(cpu: str, memory_mib: int) -> Tuple[str, ...]:
    """What two machines must have in common to start from one snapshot."""
    return tuple(hardware(cpu, memory_mib))
