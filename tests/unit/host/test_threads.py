# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Threads of QEMU processes, from what the kernel writes into /proc."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host import threads
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.threads import (
    Process,
    Thread,
    allowed_cpus,
    find_pid,
    parse_cgroup,
    parse_thread,
    read_process,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import parse_cpuset

UUID = "11111111-2222-3333-4444-555555555555"
SCOPE = r"machine.slice/machine-qemu\x2d1\x2dweb.scope/libvirt"
STATUS = "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t{}\nMems_allowed_list:\t0-1\n"


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def process(root: Path, name: str = "web", uuid: str = UUID, **files: str) -> None:
    """What Linux and libvirt say of a VM whose process has four threads."""
    write(root, **{f"run/libvirt/qemu/{name}.pid": "70", "proc/70/cmdline": f"qemu\0-uuid\0{uuid}\0-S\0"})
    for number, comm, cpus in ((70, "CPU 9/KVM", "0-7"), (71, "IO iothread1", "4"), (102, "CPU 0/KVM", "2")):
        write(
            root, **{f"proc/70/task/{number}/comm": comm + "\n", f"proc/70/task/{number}/status": STATUS.format(cpus)}
        )
    write(root, **{"proc/70/cgroup": f"0::/{SCOPE}/emulator\n", **files})


@pytest.mark.parametrize(
    ("comm", "kind", "number"),
    [
        ("CPU 0/KVM", "vcpu", 0),
        ("CPU 127/TCG", "vcpu", 127),
        ("IO iothread12", "iothread", 12),
        ("IO mon_iothread", "helper", None),
        ("IO iothread1x", "helper", None),
        ("ALL CPUs/TCG", "helper", None),
        ("qemu-system-x86", "helper", None),
        ("vhost-70", "helper", None),
        ("xCPU 0/KVM", "helper", None),
    ],
)
def test_role_of_a_thread_is_in_its_name(comm: str, kind: str, number: Optional[int]) -> None:
    assert parse_thread(comm + "\n", STATUS.format("0,2-3"), False) == Thread(kind, number, parse_cpuset("0,2-3"))


def test_first_thread_is_the_emulator_whatever_the_vm_is_called() -> None:
    for comm in ("CPU 0/KVM", "kvm-nx-lpage-re"):
        assert parse_thread(comm, STATUS.format("1"), True) == Thread("emulator", None, frozenset({1}))


def test_thread_that_has_ended_is_none() -> None:
    assert parse_thread("", "", False) is None


def test_thread_that_kvm_keeps_with_a_vcpu_is_none() -> None:
    assert parse_thread("kvm-nx-lpage-re\n", STATUS.format("3"), False) is None


def test_process_is_found_with_its_threads(tmp_path: Path) -> None:
    process(tmp_path, **{f"sys/fs/cgroup/{SCOPE}/cpuset.cpus.effective": "0-5\n"})
    found = read_process("web", UUID, tmp_path)
    assert found == Process(
        70,
        (
            Thread("emulator", None, parse_cpuset("0-7")),
            Thread("iothread", 1, frozenset({4})),
            Thread("vcpu", 0, frozenset({2})),
        ),
        parse_cpuset("0-5"),
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"run/libvirt/qemu/web.pid": ""},
        {"run/libvirt/qemu/web.pid": "71"},
        {"proc/70/cmdline": "qemu\0-uuid\0" + UUID.replace("1", "2") + "\0"},
    ],
    ids=["no number", "no such process", "process of another"],
)
def test_process_that_is_not_the_vms_for_certain_is_none(tmp_path: Path, changes: dict[str, str]) -> None:
    process(tmp_path, **changes)
    assert find_pid("web", UUID, tmp_path) is None
    assert read_process("web", UUID, tmp_path) is None


def test_process_that_another_one_has_replaced_meanwhile_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(pid: int, root: Path) -> None:
        write(root, **{f"proc/{pid}/cmdline": "bash\0"})

    process(tmp_path)
    monkeypatch.setattr(threads, "allowed_cpus", other)
    assert read_process("web", UUID, tmp_path) is None


def test_vm_without_pid_file_has_no_process(tmp_path: Path) -> None:
    assert read_process("web", UUID, tmp_path) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0::/machine.slice/x\n", ("", "/machine.slice/x")),
        ("3:cpuset:/machine/x/emulator\n1:cpu:/y\n0::/z\n", ("cpuset", "/machine/x/emulator")),
        ("2:cpu,cpuset:/x:y\n0::/\n", ("cpu,cpuset", "/x:y")),
        ("1:cpu:/y\n", None),
        ("", None),
    ],
)
def test_control_group_is_that_of_the_controller_cpuset(text: str, expected: Optional[tuple[str, str]]) -> None:
    assert parse_cgroup(text) == expected


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/m/vm/emulator", {"m/vm/cpuset.cpus.effective": "1-2", "m/vm/emulator/cpuset.cpus.effective": "1"}, "1-2"),
        ("0::/m/vm/emulator", {"m/cpuset.cpus.effective": "0-3"}, "0-3"),
        ("0::/m/other", {"m/other/cpuset.cpus.effective": "5", "m/cpuset.cpus.effective": "0-3"}, "5"),
        ("3:cpuset:/m/vm/emulator", {"cpuset/m/vm/cpuset.effective_cpus": "0"}, "0"),
        ("0::/m/vm/emulator", {"cpuset.cpus.effective": "0-3"}, "0-3"),
        ("0::/m/vm/emulator", {"m/vm/cpuset.cpus.effective": "nonsense"}, None),
        ("0::/m/vm/emulator", {}, None),
        ("", {}, None),
    ],
)
def test_allowed_are_the_cpus_of_the_vm_not_those_of_its_emulator(
    tmp_path: Path, cgroup: str, files: dict[str, str], expected: Optional[str]
) -> None:
    write(tmp_path, **{"proc/70/cgroup": cgroup + "\n"})
    write(tmp_path, **{f"sys/fs/cgroup/{name}": text + "\n" for name, text in files.items()})
    assert allowed_cpus(70, tmp_path) == (None if expected is None else parse_cpuset(expected))
