# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest of the lab as a value, and its libvirt definition."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import List, Tuple
from xml.sax.saxutils import escape

from .shell import LabError

# QEMU's HPET goes on ticking for a guest that has long had a better timer: half a CPU of a slow host.
NO_HPET = "<timer name='hpet' present='no'/>"
SHARED = "srv/lab"  # where a host has the guests' kernel and logs
SMALLEST_MIB = 88  # with less the kernel runs out of memory before it has unpacked its initramfs


# A kernel that waited for a CPU of this machine reports a stall with a call trace, as if it were damaged; one that
# waited for it while it counted its first timer interrupts panics. Under KVM Linux leaves that count out by itself.
PATIENT = "rcupdate.rcu_cpu_stall_suppress=1 nosoftlockup no_timer_check"


@dataclass(frozen=True)
class GuestSpec:
    """What a guest is. `pins` maps vCPU to a cpuset; `cpu_xml` is a whole <cpu> element; `machine` a QEMU machine type.

    memcheck_mib of memory are rewritten and verified with a pause of memcheck_pause_ms after each MiB: a smaller pause
    dirties memory faster. `vcpus` are online at start, up to `max_vcpus` can be plugged. `extra_devices` is XML.
    """

    name: str
    memory_mib: int = 96
    vcpus: int = 1
    max_vcpus: int = 0
    pins: Tuple[Tuple[int, str], ...] = ()
    emulator_pin: str = ""
    cpu_xml: str = ""
    machine: str = "pc"
    uuid: str = ""
    memcheck_mib: int = 8
    memcheck_pause_ms: int = 20
    tick_s: float = 0.2
    autoonline: bool = False
    extra_devices: str = ""
    metadata: str = ""

    def __post_init__(self) -> None:
        if self.memory_mib < SMALLEST_MIB + self.memcheck_mib:
            raise LabError(
                f"guest {self.name}: {self.memory_mib} MiB is too small; it needs {SMALLEST_MIB} MiB and what"
                f" lab.memcheck verifies ({self.memcheck_mib} MiB)"
            )

    @property
    def identity(self) -> str:
        """The UUID given, or one made from the name: the same each time."""
        return self.uuid or str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{self.name}.guest.kvm-fleet-lab.invalid"))


@dataclass(frozen=True)
class Surroundings:
    """What a host does to all its guests. `pace` stretches their pauses: a slow host is not kept busy by waiting."""

    kvm: bool = False
    arguments: str = "tsc=unstable"
    pace: float = 1


ON_POD = Surroundings()


def domain_xml(spec: GuestSpec, around: Surroundings = ON_POD) -> str:
    """Libvirt's definition of the guest: no disk, kernel and initramfs from the shared folder, KVM or TCG."""
    maximum = max(spec.vcpus, spec.max_vcpus)
    kernel_line = (
        f"console=ttyS0 quiet panic=-1 {PATIENT} {around.arguments} lab.tick={round(spec.tick_s * around.pace, 3):g}"
        f" lab.memcheck={spec.memcheck_mib},{round(spec.memcheck_pause_ms * around.pace)}"
        f"{' lab.autoonline' if spec.autoonline else ''}"
    )
    pins = "".join(f"<vcpupin vcpu='{vcpu}' cpuset='{cpus}'/>" for vcpu, cpus in spec.pins)
    pins += f"<emulatorpin cpuset='{spec.emulator_pin}'/>" if spec.emulator_pin else ""
    cpu = spec.cpu_xml
    if cpu and "check=" not in cpu.split(">", 1)[0]:
        # TCG cannot do `full`; without a check a host would start the guest with features silently missing.
        cpu = re.sub(r"<cpu\b", "<cpu check='partial'", cpu, count=1)
    log = f"<source path='/{SHARED}/{escape(spec.name)}.log' append='on'/>"
    return f"""<domain type='{"kvm" if around.kvm else "qemu"}'>
  <name>{escape(spec.name)}</name>
  <uuid>{spec.identity}</uuid>
  {f"<metadata>{spec.metadata}</metadata>" if spec.metadata else ""}
  <memory unit='MiB'>{spec.memory_mib}</memory>
  <vcpu placement='static' current='{spec.vcpus}'>{maximum}</vcpu>
  {f"<cputune>{pins}</cputune>" if pins else ""}
  <os>
    <type arch='x86_64' machine='{spec.machine}'>hvm</type>
    <kernel>/{SHARED}/kernel</kernel>
    <initrd>/{SHARED}/initrd.gz</initrd>
    <cmdline>{escape(kernel_line)}</cmdline>
  </os>
  <features><acpi/><apic/></features>
  {cpu}
  <clock offset='utc'>{NO_HPET}</clock>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <serial type='file'>{log}</serial>
    <channel type='file'>{log}<target type='virtio' name='lab.log'/></channel>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <memballoon model='none'/>
    {spec.extra_devices}
  </devices>
</domain>
"""


def read_pins(words: List[str]) -> Tuple[Tuple[int, str], ...]:
    """Read VCPU:CPUSET words of the command line. Raises LabError naming the wrong one."""
    pins = []
    for word in words:
        vcpu, separator, cpus = word.partition(":")
        if not (separator and vcpu.isdigit() and re.fullmatch(r"[0-9,^-]+", cpus)):
            raise LabError(f"--pin {word}: expected VCPU:CPUSET such as 0:1 or 1:0-1")
        pins.append((int(vcpu), cpus))
    return tuple(pins)
