# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What options mean on a host, which state they lead to, and when that needs a reboot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host import hugepages
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot import BootConfig, format_line, parse
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot.tuned import read_tuned
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._isolation import state
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._isolation.request import settings_from
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._isolation.settings import Settings
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.command import Ran
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.cpus import HostCpus
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import Cell, HostTopology

SIBLINGS = tuple(frozenset((first, first + 1)) for first in (0, 2, 4, 6))
CELLS = tuple(
    Cell(number, frozenset(range(4 * number, 4 * number + 4)), 1 << 20, siblings=SIBLINGS[2 * number : 2 * number + 2])
    for number in (0, 1)
)
TOPOLOGY = HostTopology(2, 1, 2, 2, CELLS)
CPUS = HostCpus(frozenset(range(8)), frozenset(range(8)), frozenset(range(8)))
DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(("isolated", "housekeeping", "housekeeping_cores_per_cell", "machine_cpus")),
    **dict.fromkeys(("huge_pages", "default_huge_page_size", "clearcpuid")),
    **dict.fromkeys(("nohz_full", "rcu_nocbs", "irqaffinity", "housekeeping_in_each_cell", "force"), False),
    "keep_siblings": True,
    "methods": ["kernel"],
    "isolcpus_flags": [],
    "kernel_arguments": [],
}


def settings(**options: Any) -> Settings:
    return settings_from({**DEFAULTS, **options}, TOPOLOGY, CPUS)


def argument(name: str, value: str | None = None, wanted: str = "present") -> dict[str, Any]:
    return {"name": name, "value": value, "state": wanted}


def before(others: str = "quiet", ours: str = "", **more: Any) -> state.State:
    return state.State(BootConfig("grub", parse(others), parse(ours), {"isolcpus": "/etc/default/grub"}), **more)


SLICES = {"machine.slice": "2-3,6-7", "system.slice": "0-1,4-5", "user.slice": "0-1,4-5", "init.scope": "0-1,4-5"}


@pytest.mark.parametrize(
    ("now", "options", "line", "slices"),
    [
        (before(), {"isolated": "2-3,6-7"}, "quiet isolcpus=2-3,6-7", {}),
        (before(), {"housekeeping_cores_per_cell": 1}, "quiet isolcpus=2-3,6-7", {}),
        (before(), {"housekeeping": "0-1,4-5", "methods": ["slices"]}, "quiet", SLICES),
        (
            before(),
            {"isolated": "2-3,6-7", "methods": ["kernel", "slices"]},
            "quiet isolcpus=2-3,6-7",
            {unit: cpus for unit, cpus in SLICES.items() if unit != "machine.slice"},
        ),
        (
            before(),
            {"isolated": "2-3,6-7", "methods": ["slices"], "machine_cpus": "1-7"},
            "quiet",
            {**SLICES, "machine.slice": "1-7"},
        ),
        (before(ours="isolcpus=2-3", slices=SLICES), {"isolated": ""}, "quiet", {}),
        (before(ours="isolcpus=2-3", slices=SLICES), {}, "quiet isolcpus=2-3", SLICES),
        (before("quiet isolcpus=2-3"), {"isolated": "2-3"}, "quiet isolcpus=2-3", {}),
        (before(), {"kernel_arguments": [argument("nosmt"), argument("a", "b c")]}, 'quiet nosmt a="b c"', {}),
        (before(ours="nosmt x=1"), {"kernel_arguments": [argument("x", wanted="absent")]}, "quiet nosmt", {}),
    ],
)
def test_options_lead_to_a_state(now: state.State, options: dict[str, Any], line: str, slices: dict[str, str]) -> None:
    after = state.plan(now, settings(**options))
    assert after.boot is not None
    assert (format_line(after.boot.arguments), dict(after.slices)) == (line, slices)


def test_pages_of_cells_and_tuned_are_kept_unless_they_are_asked_for() -> None:
    now = before(cell_pages={(0, 2048): 8}, tuned="2-3")
    assert (state.plan(now, settings()).cell_pages, state.plan(now, settings()).tuned) == ({(0, 2048): 8}, "2-3")
    pages = [{"size": "2M", "count": 4, "cell": 1}]
    asked = state.plan(now, settings(huge_pages=pages, isolated="6-7", methods=["tuned"]))
    assert (asked.cell_pages, asked.tuned, asked.ours) == ({(1, 2048): 4}, "6-7", ())
    assert state.plan(now, settings(isolated="6-7")).tuned is None


def test_nothing_of_ours_is_left_when_all_is_to_be_removed() -> None:
    now = before(ours="isolcpus=2-3 nosmt", slices=SLICES, cell_pages={(0, 2048): 8}, tuned="2-3")
    assert state.plan(now, None) == before()


def test_an_argument_that_somebody_else_sets_to_another_value_is_named_with_its_file() -> None:
    with pytest.raises(FleetError, match="isolcpus=4-5 in /etc/default/grub, where isolcpus=2-3 is wanted") as caught:
        state.plan(before("quiet isolcpus=4-5"), settings(isolated="2-3"))
    assert caught.value.code == "conflict"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"isolated": "8"}, "no_such_cpu"),
        ({"isolated": "2-"}, "bad_cpuset"),
        ({"isolated": "3"}, "siblings_split"),
        ({"isolated": "0-1"}, "cpu0_isolated"),
        ({"isolated": "2-3", "methods": []}, "bad_options"),
        ({"isolated": "2-3", "methods": ["kernel", "tuned"]}, "bad_options"),
        ({"isolated": "2-3", "machine_cpus": "9"}, "bad_options"),
        ({"isolated": "2-3", "machine_cpus": ""}, "bad_options"),
        ({"default_huge_page_size": "2M"}, "bad_options"),
        ({"huge_pages": [{"size": "x", "count": 1}]}, "bad_options"),
        ({"kernel_arguments": [argument("a=b", "c")]}, "bad_options"),
        ({"kernel_arguments": [argument("--")]}, "bad_argument"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], code: str) -> None:
    with pytest.raises(FleetError) as caught:
        settings(**options)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("next_boot", "ours", "now", "named", "reasons"),
    [
        ("quiet", "isolcpus=2-3", "quiet", (), ("isolcpus",)),
        ("quiet", "isolcpus=2-3", "quiet isolcpus=2-3", (), ()),
        ("quiet", "isolcpus=2-3", "quiet isolcpus=2", (), ("isolcpus",)),
        ("quiet", "", "quiet isolcpus=2-3", (), ("isolcpus",)),
        ("quiet splash", "", "quiet", (), ()),
        ("quiet", "", "quiet nosmt", (), ()),
        ("quiet", "", "quiet nosmt", ("nosmt",), ("nosmt",)),
        ("quiet", "hugepagesz=2M hugepages=8", "quiet hugepages=8 hugepagesz=2M", (), ()),
    ],
)
def test_a_reboot_is_due_when_the_running_kernel_differs_in_what_is_ours(
    tmp_path: Path, next_boot: str, ours: str, now: str, named: tuple[str, ...], reasons: tuple[str, ...]
) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cmdline").write_text(f"BOOT_IMAGE=/vmlinuz {now}\n")
    after = before(next_boot, ours)
    assert state.reboot_reasons(tmp_path, before(next_boot), after, read_tuned(tmp_path), named) == reasons


def test_a_host_without_boot_loader_is_fine_as_long_as_none_is_needed(tmp_path: Path) -> None:
    def run(_argv: object) -> Ran:
        raise AssertionError("nothing is to be run")

    assert state.find_boot_loader(tmp_path, run, None, None) is None
    assert state.find_boot_loader(tmp_path, run, None, settings(isolated="2-3", methods=["slices"])) is None
    with pytest.raises(FleetError) as caught:
        state.find_boot_loader(tmp_path, run, None, settings(isolated="2-3"))
    assert caught.value.code == "unknown_boot_loader"


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.mark.parametrize("effective", ["0-1,4-5", "0-7"])
def test_a_slice_that_systemd_has_not_restricted_is_not_taken_for_done(tmp_path: Path, effective: str) -> None:
    write(
        tmp_path, "etc/systemd/system/system.slice.d/50-kvm_fleet.conf", "[Slice]\nAllowedCPUs=\nAllowedCPUs=0-1,4-5\n"
    )
    write(tmp_path, "sys/devices/system/cpu/online", "0-7\n")
    write(tmp_path, "sys/fs/cgroup/cgroup.controllers", "cpuset\n")
    write(tmp_path, "sys/fs/cgroup/cpuset.cpus.effective", "0-7\n")
    write(tmp_path, "sys/fs/cgroup/system.slice/cpuset.cpus.effective", f"{effective}\n")
    found = state.observe(tmp_path, None)
    assert found.slices == {"system.slice": effective}


@pytest.mark.parametrize("total", [8, 5])
def test_pages_that_a_cell_lost_are_not_taken_for_there(tmp_path: Path, total: int) -> None:
    write(tmp_path, "sys/devices/system/cpu/online", "0-7\n")
    folder = "sys/devices/system/node/node1/hugepages/hugepages-2048kB"
    for name in ("nr_hugepages", "free_hugepages"):
        write(tmp_path, f"{folder}/{name}", f"{total}\n")
    write(tmp_path, f"{folder}/surplus_hugepages", "0\n")
    entry = f"# before 0\nw! /{folder}/nr_hugepages - - - - 8\n"
    write(tmp_path, "etc/tmpfiles.d/kvm_fleet-hugepages.conf", hugepages._HEADER + entry)
    assert state.observe(tmp_path, None).cell_pages == {(1, 2048): total}
