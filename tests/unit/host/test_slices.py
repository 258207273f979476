# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CPUs of slices: what is written, run and waited for, on a systemd and a kernel as they were measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host import slices
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.command import Ran
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.slices import (
    NUDGE,
    RELOAD,
    UNITS,
    UnitCpus,
    read_slices,
    require_possible,
    write_slices,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.unit_files import (
    add_up,
    section_of,
    settings,
    unit_files,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import format_cpuset
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

WAIT_S = 0.3
ALL = "0-7"
WANTED = {"machine.slice": "2-3,6-7", "system.slice": "0-1,4-5", "user.slice": "0-1,4-5", "init.scope": "0-1,4-5"}
NONE = dict.fromkeys(UNITS)


class Host:
    """A root directory with the part of systemd 257 and Linux 6.12 that matters.

    ``daemon-reload`` reads the files and gives a scope its CPUs, slices get theirs when something is started. The CPUs
    of a control group in ``populated`` cannot be cleared.
    """

    def __init__(self, root: Path, units: Sequence[str] = UNITS, populated: Sequence[str] = UNITS) -> None:
        self.root, self.populated = root, populated
        self.ran: list[tuple[str, ...]] = []
        self.deaf = False
        self.write("sys/devices/system/cpu/possible", ALL)
        self.write("sys/devices/system/cpu/present", ALL)
        self.write("sys/devices/system/cpu/online", ALL)
        self.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids")
        self.write("sys/fs/cgroup/cpuset.cpus.effective", ALL)
        (root / "etc/systemd/system").mkdir(parents=True)
        for unit in units:
            self.write(f"sys/fs/cgroup/{unit}/cgroup.procs", "")

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text + "\n")

    def drop_in(self, path: str, unit: str, *values: str) -> None:
        lines = [f"[{section_of(unit)}]", *(f"AllowedCPUs={value}" for value in values)]
        self.write(path, "\n".join(lines))

    def run(self, argv: Sequence[str]) -> Ran:
        self.ran.append(tuple(argv))
        if not self.deaf:
            for unit in UNITS:
                if tuple(argv) == NUDGE or unit.endswith(".scope"):
                    self.apply(unit)
        return Ran(0)

    def apply(self, unit: str) -> None:
        group = self.root / "sys/fs/cgroup" / unit
        values = [v for path in unit_files(self.root, unit) for v in settings(path, section_of(unit), "AllowedCPUs")]
        cpus = add_up(values)
        if not group.is_dir() or (cpus is None and unit in self.populated and (group / "cpuset.cpus").exists()):
            return
        (group / "cpuset.cpus").write_text(format_cpuset(cpus or ()) + "\n")
        (group / "cpuset.cpus.effective").write_text((format_cpuset(cpus or ()) or ALL) + "\n")

    def boot(self) -> None:
        for unit in UNITS:
            for path in (self.root / "sys/fs/cgroup" / unit).glob("cpuset.*"):
                path.unlink()
            self.apply(unit)

    def effective(self) -> dict[str, str | None]:
        return {unit.unit: unit.effective for unit in read_slices(self.root)}

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in (self.root / "etc").rglob("*"))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_host_nobody_set_anything_on(host: Host) -> None:
    assert read_slices(host.root) == tuple(UnitCpus(unit, None, (), ALL) for unit in UNITS)


def test_units_get_their_cpus_now_and_at_boot(host: Host) -> None:
    write_slices(host.root, host.run, WANTED, WAIT_S)
    assert host.ran == [RELOAD, NUDGE]
    assert read_slices(host.root) == tuple(UnitCpus(unit, WANTED[unit], (), WANTED[unit]) for unit in UNITS)
    host.boot()
    assert host.effective() == WANTED


def test_a_second_time_nothing_is_run(host: Host) -> None:
    write_slices(host.root, host.run, WANTED, WAIT_S)
    host.ran.clear()
    write_slices(host.root, host.run, WANTED, WAIT_S)
    assert host.ran == []


@pytest.mark.parametrize("populated", [UNITS, (), ("system.slice", "init.scope")])
def test_removal_leaves_no_trace_although_the_kernel_clears_no_group_with_processes(
    tmp_path: Path, populated: Sequence[str]
) -> None:
    host = Host(tmp_path, populated=populated)
    before = host.files()
    write_slices(host.root, host.run, WANTED, WAIT_S)
    write_slices(host.root, host.run, NONE, WAIT_S)
    assert host.effective() == dict.fromkeys(UNITS, ALL)
    assert host.files() == before


def test_removal_of_nothing_runs_nothing(host: Host) -> None:
    write_slices(host.root, host.run, NONE, WAIT_S)
    assert host.ran == []


def test_removal_brings_back_what_others_set_in_the_meantime(host: Host) -> None:
    write_slices(host.root, host.run, {"user.slice": "0-1"}, WAIT_S)
    host.drop_in("etc/systemd/system/user.slice.d/10-theirs.conf", "user.slice", "4-5")
    write_slices(host.root, host.run, {"user.slice": None}, WAIT_S)
    assert read_slices(host.root)[2] == UnitCpus(
        "user.slice", None, (("/etc/systemd/system/user.slice.d/10-theirs.conf", "4-5"),), "4-5"
    )


def test_removal_goes_on_where_it_was_cut_off(host: Host) -> None:
    write_slices(host.root, host.run, WANTED, WAIT_S)
    host.deaf = True
    with pytest.raises(FleetError):
        write_slices(host.root, host.run, NONE, WAIT_S)
    host.deaf = False
    write_slices(host.root, host.run, NONE, WAIT_S)
    assert host.effective() == dict.fromkeys(UNITS, ALL)
    assert all(unit.ours is None for unit in read_slices(host.root))


def test_units_that_are_not_named_stay(host: Host) -> None:
    write_slices(host.root, host.run, WANTED, WAIT_S)
    write_slices(host.root, host.run, {"machine.slice": "2-3", "user.slice": None}, WAIT_S)
    assert host.effective() == {**WANTED, "machine.slice": "2-3", "user.slice": ALL}


def test_a_slice_without_a_control_group_is_not_waited_for(tmp_path: Path) -> None:
    host = Host(tmp_path, units=("system.slice", "user.slice", "init.scope"))
    write_slices(host.root, host.run, WANTED, WAIT_S)
    assert host.effective() == {**WANTED, "machine.slice": None}
    write_slices(host.root, host.run, NONE, WAIT_S)
    assert read_slices(host.root)[0] == UnitCpus("machine.slice", None, (), None)


def test_cpus_that_the_whole_host_lacks_are_not_waited_for(host: Host) -> None:
    host.write("sys/fs/cgroup/cpuset.cpus.effective", "0-5")
    host.write("sys/fs/cgroup/machine.slice/cpuset.cpus.effective", "2-3")
    host.drop_in("etc/systemd/system/machine.slice.d/50-kvm_fleet.conf", "machine.slice", "", "2-3,6-7")
    host.deaf = True
    write_slices(host.root, host.run, {"machine.slice": "2-3,6-7"}, WAIT_S)


def test_systemd_that_does_not_follow_is_an_error_and_the_next_run_heals_it(host: Host) -> None:
    host.deaf = True
    with pytest.raises(FleetError, match=r"machine\.slice has 0-7 instead of 2-3,6-7;") as caught:
        write_slices(host.root, host.run, WANTED, WAIT_S)
    assert caught.value.code == "not_applied"
    assert caught.value.facts["units"]["init.scope"] == {"wanted": "0-1,4-5", "found": "0-7"}
    host.deaf = False
    write_slices(host.root, host.run, WANTED, WAIT_S)
    assert host.effective() == WANTED


def test_a_failed_reload_is_an_error(host: Host) -> None:
    with pytest.raises(FleetError, match="Cannot have systemd read AllowedCPUs of machine") as caught:
        write_slices(host.root, lambda argv: Ran(1, "", "no bus"), {"machine.slice": "2"}, WAIT_S)
    assert caught.value.code == "command_failed"


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("etc/systemd/system/machine.slice.d/10-theirs.conf", ("0-3",)),
        ("etc/systemd/system/machine.slice.d/99-theirs.conf", ("0-3",)),
        ("etc/systemd/system/machine.slice.d/99-theirs.conf", ("",)),
        ("usr/lib/systemd/system/machine.slice", ("0-3",)),
        ("usr/lib/systemd/system/slice.d/10-theirs.conf", ("0", "1-3")),
        ("run/systemd/system.control/machine.slice.d/50-AllowedCPUs.conf", ("", "0-3")),
    ],
)
def test_other_cpus_set_by_somebody_else_are_a_conflict(host: Host, path: str, values: tuple[str, ...]) -> None:
    host.drop_in(path, "machine.slice", *values)
    before = host.files()
    with pytest.raises(FleetError, match=f"/{path} sets AllowedCPUs=.* for machine.slice, but 2-3 is wanted") as caught:
        write_slices(host.root, host.run, {"machine.slice": "2-3"}, WAIT_S)
    assert (caught.value.code, caught.value.facts["file"]) == ("conflict", f"/{path}")
    assert (host.files(), host.ran) == (before, [])


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("etc/systemd/system/machine.slice.d/10-theirs.conf", ("3,2",)),
        ("run/systemd/system.control/machine.slice.d/50-AllowedCPUs.conf", ("", "2 3")),
        ("etc/systemd/system/machine.slice.d/10-theirs.conf", ("0", "")),
        ("etc/systemd/system/system.slice.d/10-theirs.conf", ("0",)),
    ],
)
def test_the_same_cpus_or_those_of_other_units_are_none(host: Host, path: str, values: tuple[str, ...]) -> None:
    host.drop_in(path, path.split("/")[-2].removesuffix(".d"), *values)
    write_slices(host.root, host.run, {"machine.slice": "2-3"}, WAIT_S)
    assert host.effective()["machine.slice"] == "2-3"


def test_drop_ins_of_others_in_the_same_directory_survive(host: Host) -> None:
    host.write("etc/systemd/system/system.slice.d/10-weight.conf", "[Slice]\nCPUWeight=10")
    before = host.files()
    write_slices(host.root, host.run, WANTED, WAIT_S)
    write_slices(host.root, host.run, NONE, WAIT_S)
    assert host.files() == before


@pytest.mark.parametrize("controllers", [None, "memory pids"])
def test_without_cpuset_in_the_unified_hierarchy_nothing_is_set(host: Host, controllers: str | None) -> None:
    path = host.root / "sys/fs/cgroup/cgroup.controllers"
    path.unlink()
    if controllers is not None:
        path.write_text(controllers)
    with pytest.raises(FleetError) as caught:
        require_possible(host.root, {"machine.slice": "2-3"})
    assert caught.value.code == "no_cgroup2"
    require_possible(host.root, NONE)


def test_a_host_that_went_back_to_version_1_can_be_cleared(host: Host) -> None:
    write_slices(host.root, host.run, WANTED, WAIT_S)
    (host.root / "sys/fs/cgroup/cgroup.controllers").unlink()
    write_slices(host.root, host.run, NONE, WAIT_S)
    assert read_slices(host.root) == tuple(UnitCpus(unit, None, (), None) for unit in UNITS)


def test_our_drop_in_is_read_after_those_of_set_property() -> None:
    assert slices.DROP_IN > "50-AllowedCPUs.conf"


CPUS = st.frozensets(st.integers(0, 7), min_size=1).map(format_cpuset)
STEPS = st.lists(st.dictionaries(st.sampled_from(UNITS), st.none() | CPUS, min_size=1), max_size=4)


@given(steps=STEPS, populated=st.sets(st.sampled_from(UNITS)))
@hypothesis_settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_any_steps_the_last_word_on_each_unit_holds(
    tmp_path_factory: pytest.TempPathFactory, steps: list[dict[str, str | None]], populated: set[str]
) -> None:
    host = Host(tmp_path_factory.mktemp("root"), populated=sorted(populated))
    last: dict[str, str | None] = dict.fromkeys(UNITS)
    for step in steps:
        write_slices(host.root, host.run, step, WAIT_S)
        last.update(step)
        assert host.effective() == {unit: cpus or ALL for unit, cpus in last.items()}
    host.boot()
    assert host.effective() == {unit: cpus or ALL for unit, cpus in last.items()}
