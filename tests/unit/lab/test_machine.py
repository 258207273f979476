# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a machine is made of: QEMU's arguments, its disk's first sector, and what its sockets say."""

from __future__ import annotations

import json
import socket
import struct
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Callable, Dict, List

import pytest

from tests.lab.machine.channel import Agent, Channel, Monitor
from tests.lab.machine.disk import boot_sector, disk_key
from tests.lab.machine.qemu import Machine, check_cpu, command, cpu_argument, default_cpu, has_kvm
from tests.lab.machine.snapshot import snapshot_of
from tests.lab.shell import LabError

MACHINE = Machine(
    name="it-hv1",
    cpu="EPYC",
    memory_mib=2049,
    disk=Path("/lab/hv1/disk.qcow2"),
    folder=Path("/lab/hv1"),
    uuid="de9bad3c-aac7-544e-9f37-d98b4bc6674b",
    mac="52:54:00:77:00:11",
    tap="kfl-it-1",
)


def options(words: List[str]) -> Dict[str, List[str]]:
    """Arguments of each option."""
    found: Dict[str, List[str]] = {}
    for name, value in pairwise(words):
        if name.startswith("-"):
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize(
    ("cpu", "kvm", "argument"),
    [
        ("EPYC", True, "EPYC,+svm,+npt"),
        ("EPYC-Rome", True, "EPYC-Rome,+svm,+npt"),
        ("Opteron_G3", True, "Opteron_G3,+svm,+npt"),
        ("EPYC,-avx2", True, "EPYC,-avx2,+svm,+npt"),
        ("Haswell-noTSX,vendor=AuthenticAMD", True, "Haswell-noTSX,vendor=AuthenticAMD,+svm,+npt"),
        ("Haswell-noTSX", False, "Haswell-noTSX"),
        ("SandyBridge", False, "SandyBridge"),
    ],
)
def test_amd_models_have_kvm(cpu: str, kvm: bool, argument: str) -> None:
    check_cpu(cpu)
    assert (has_kvm(cpu), cpu_argument(cpu)) == (kvm, argument)


@pytest.mark.parametrize(
    ("cpu", "message"),
    [("", "not a CPU model"), ("a b", "not a CPU model"), ("EPYC,", "not a CPU model"), ("Opteron_G5", "hangs")],
)
def test_cpu_that_cannot_work_is_refused(cpu: str, message: str) -> None:
    with pytest.raises(LabError, match=message):
        check_cpu(cpu)


def test_neighbours_can_migrate_and_a_third_host_differs() -> None:
    assert [default_cpu(number) for number in range(1, 7)] == ["EPYC", "EPYC", "EPYC-Rome"] * 2


def test_machine_has_two_cells_with_all_its_cpus_and_memory() -> None:
    given = options(command(Path("/tree"), MACHINE))
    assert given["-smp"] == ["8,sockets=2,cores=2,threads=2"]
    assert [word for word in given["-object"] if "cell" in word] == [
        "memory-backend-ram,id=cell0,size=1024M",
        "memory-backend-ram,id=cell1,size=1025M",
    ]
    assert given["-numa"] == [
        "node,nodeid=0,cpus=0-3,memdev=cell0",
        "node,nodeid=1,cpus=4-7,memdev=cell1",
        "dist,src=0,dst=1,val=21",
    ]


def test_machine_carries_its_identity_and_never_uses_the_real_kvm() -> None:
    given = options(command(Path("/tree"), MACHINE))
    assert given["-accel"] == ["tcg,thread=multi,tb-size=512"]
    assert f"uuid={MACHINE.uuid}" in given["-smbios"][0]
    assert "ifname=kfl-it-1," in given["-netdev"][0]
    assert any("mac=52:54:00:77:00:11" in device for device in given["-device"])


def test_qemu_runs_with_the_loader_and_the_firmware_of_the_tree() -> None:
    words = command(Path("/tree"), MACHINE, "-S")
    assert words[0] == "/tree/usr/lib64/ld-linux-x86-64.so.2"
    assert "/tree/usr/bin/qemu-system-x86_64" in words
    assert options(words)["-L"] == ["/tree/usr/share/qemu", "/tree/usr/share/seabios", "/tree/usr/lib/ipxe/qemu"]
    assert words[-1] == "-S"


def test_snapshot_depends_on_disk_cpu_and_memory_only() -> None:
    disk = Path("/cache/disk-1.img")
    other = {snapshot_of(Path("/cache/disk-2.img"), ("EPYC", 2048)), snapshot_of(disk, ("EPYC-Rome", 2048))}
    assert snapshot_of(disk, ("EPYC", 2048)) == snapshot_of(disk, ("EPYC", 2048))
    assert len({*other, snapshot_of(disk, ("EPYC", 2048)), snapshot_of(disk, ("EPYC", 3072))}) == 4


def test_disk_depends_on_tree_and_guest_image() -> None:
    keys = {disk_key(Path(tree), Path(image)) for tree in ("tree-1", "tree-2") for image in ("guest-1", "guest-2")}
    assert len(keys) == 4


def test_boot_sector_has_grubs_code_and_one_active_partition() -> None:
    sector = boot_sector(b"\xeb\x63" + b"\x11" * 510, size_mib=3)
    assert len(sector) == 512
    assert (sector[:2], sector[510:]) == (b"\xeb\x63", b"\x55\xaa")
    active, _start, kind, _end, first, count = struct.unpack_from("<B3sB3sII", sector, 446)
    assert (active, kind, first, count) == (0x80, 0x83, 2048, 4096)
    assert sector[462:510] == b"\0" * 48  # no other partition


@pytest.fixture
def served(tmp_path: Path) -> Callable[[List[bytes]], Path]:
    """Makes a socket that says lines, each after a line has come; ID becomes the id that came, ! means unasked."""
    path = tmp_path / "socket"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve(lines: List[bytes]) -> Path:
        def work() -> None:
            client, _address = server.accept()
            with client, client.makefile("rb") as heard:
                for line in lines:
                    unasked = line.startswith(b"!")
                    message = {} if unasked else json.loads(heard.readline().lstrip(b"\xff"))
                    number = str(message.get("arguments", {}).get("id")).encode()
                    client.sendall(line.lstrip(b"!").replace(b"ID", number) + b"\n")

        threading.Thread(target=work, daemon=True).start()
        return path

    return serve


def test_monitor_skips_events_and_tells_errors_in_qemus_words(served: Callable[[List[bytes]], Path]) -> None:
    path = served(
        [
            b'!{"QMP": {}}',
            b'{"return": {}}',
            b'{"event": "STOP"}\n{"return": {"status": "paused"}}',
            b'{"error": {"desc": "no such file"}}',
        ]
    )
    with Monitor(path, timeout=5) as monitor:
        assert monitor.call("query-status") == {"status": "paused"}
        with pytest.raises(LabError, match="migrate: no such file"):
            monitor.call("migrate", uri="file:/nowhere")


def test_agent_ignores_answers_that_an_earlier_client_asked_for(served: Callable[[List[bytes]], Path]) -> None:
    path = served(
        [
            b'{"return": {"pid": 1}}\n\xff{"return": ID}',
            b'{"return": {"pid": 7}}',
            b'{"return": {"exited": true, "exitcode": 3, "err-data": "bm8="}}',
        ]
    )
    with Agent(path, timeout=5) as agent:
        ended = agent.run(["false"])
    assert (ended.code, ended.err) == (3, b"no")
    with pytest.raises(LabError, match="hv1: false failed with 3: no"):
        ended.checked("hv1", ["false"])


def test_a_host_that_is_off_says_so(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="is the host up"):
        Channel(tmp_path / "none", timeout=1)


def test_a_machine_that_keeps_silent_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        with pytest.raises(LabError, match="no answer"):
            Monitor(tmp_path / "socket", timeout=0.2)


def test_names_of_machines_do_not_change_the_hardware() -> None:
    other = replace(MACHINE, name="x", uuid="y", mac="z", folder=Path("/other"), tap="t")
    mine, theirs = (options(command(Path("/tree"), machine)) for machine in (MACHINE, other))
    for option in ("-machine", "-cpu", "-smp", "-m", "-object", "-numa"):
        assert mine[option] == theirs[option]
