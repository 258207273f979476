# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules of tuned's profile; tuned is one that writes its files as the real one does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot import tuned
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot.cmdline import Argument
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.command import Ran

from tests.unit.host.boot.fakes import DATA, Host

VARIABLES = "etc/tuned/cpu-partitioning-variables.conf"
SHIPPED = "# isolated_cores=2,4-7\n#\nisolated_cores=${f:calc_isolated_cores:1}\n\n# no_balance_cores=5-10\n"


class TunedHost(Host):
    """A host with the daemon running."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        (root / "var/lib").mkdir(parents=True)
        self.write("usr/lib/tuned/profiles/cpu-partitioning/tuned.conf", "")
        self.add_program("usr/sbin/tuned-adm", self.tuned_adm)
        self.write(VARIABLES, SHIPPED)
        self.switch("balanced", "auto")

    def tuned_adm(self, argv: Sequence[str]) -> Ran:
        if argv[1] == "profile":
            self.switch(" ".join(argv[2:]), "manual")
        elif argv[1] == "auto_profile":
            self.switch("balanced", "auto")
        else:
            assert list(argv) == ["tuned-adm", "off"]
            self.switch("", "manual")
        return Ran(0)

    def switch(self, profile: str, mode: str) -> None:
        self.write("etc/tuned/active_profile", f"{profile}\n" if profile else "")
        self.write("etc/tuned/profile_mode", f"{mode}\n")
        line = ""
        if profile == "cpu-partitioning":
            isolated = [text for text in self.read(VARIABLES).splitlines() if text.startswith("isolated_cores")][-1]
            line = "nohz=on nohz_full={0} rcu_nocbs={0} nosoftlockup".format(isolated.partition("=")[2])
        self.write("etc/tuned/bootcmdline", f'# Comment\nTUNED_BOOT_CMDLINE="{line}"\nTUNED_BOOT_INITRD_ADD=""\n')


@pytest.fixture
def host(tmp_path: Path) -> TunedHost:
    return TunedHost(tmp_path)


def test_what_tuned_has_written_on_debian_is_read(host: TunedHost) -> None:
    host.write("etc/tuned/bootcmdline", (DATA / "debian13_tuned_bootcmdline").read_text())
    state = tuned.read_tuned(host.root)
    assert (state.installed, state.profile, state.mode, state.ours) == (True, "balanced", "auto", False)
    assert state.isolated == "${f:calc_isolated_cores:1}"
    assert Argument("tuned.non_isolcpus", "00000001") in state.arguments
    assert Argument("nosoftlockup") in state.arguments


@pytest.mark.parametrize(
    ("profile", "mode"), [("balanced", "auto"), ("virtual-host powersave", "manual"), ("", "manual")]
)
def test_the_profile_isolates_and_what_was_before_comes_back(host: TunedHost, profile: str, mode: str) -> None:
    host.switch(profile, mode)
    before = host.files()
    tuned.write_tuned(host.root, host.run, "2-7")
    state = tuned.read_tuned(host.root)
    assert (state.profile, state.isolated, state.ours) == ("cpu-partitioning", "2-7", True)
    assert Argument("nohz_full", "2-7") in state.arguments
    assert host.read(VARIABLES) == SHIPPED.replace("${f:calc_isolated_cores:1}", "2-7")
    tuned.write_tuned(host.root, host.run, "2-3")
    assert Argument("nohz_full", "2-3") in tuned.read_tuned(host.root).arguments
    tuned.write_tuned(host.root, host.run, None)
    assert host.files() == before


def test_a_second_write_runs_nothing(host: TunedHost) -> None:
    tuned.write_tuned(host.root, host.run, "2-7")
    runs = len(host.runs)
    tuned.write_tuned(host.root, host.run, "2-7")
    assert len(host.runs) == runs
    tuned.write_tuned(host.root, host.run, None)
    tuned.write_tuned(host.root, host.run, None)
    assert len(host.runs) == runs + 1


@pytest.mark.parametrize(
    ("variables", "written"),
    [
        ("", "isolated_cores=2\n"),
        ("# c", "# c\nisolated_cores=2\n"),
        ("isolated_cores=1\nisolated_cores = 5 \n", "isolated_cores=1\nisolated_cores=2\n"),
    ],
)
def test_the_line_that_counts_is_the_last_one(host: TunedHost, variables: str, written: str) -> None:
    host.write(VARIABLES, variables)
    tuned.write_tuned(host.root, host.run, "2")
    assert host.read(VARIABLES) == written
    tuned.write_tuned(host.root, host.run, None)
    assert host.read(VARIABLES) == variables


def test_what_somebody_has_added_to_the_variables_since_stays(host: TunedHost) -> None:
    tuned.write_tuned(host.root, host.run, "2-7")
    host.write(VARIABLES, host.read(VARIABLES) + "no_balance_cores=5\n")
    tuned.write_tuned(host.root, host.run, None)
    assert host.read(VARIABLES) == SHIPPED + "no_balance_cores=5\n"


def test_a_run_that_was_killed_before_tuned_was_told_is_healed(host: TunedHost) -> None:
    before = host.files()
    host.commands["tuned-adm"] = lambda _argv: Ran(1, "", "Cannot talk to TuneD daemon via DBus.\nUnable to switch")
    with pytest.raises(FleetError, match="Cannot talk to TuneD daemon"):
        tuned.write_tuned(host.root, host.run, "2-7")
    host.commands["tuned-adm"] = host.tuned_adm
    tuned.write_tuned(host.root, host.run, "2-7")
    assert tuned.read_tuned(host.root).profile == "cpu-partitioning"
    tuned.write_tuned(host.root, host.run, None)
    assert host.files() == before


@pytest.mark.parametrize("isolated", ["2-7", None])
def test_a_command_line_that_tuned_leaves_alone_is_found_out(host: TunedHost, isolated: str | None) -> None:
    if isolated is None:
        tuned.write_tuned(host.root, host.run, "2-7")
    host.commands["tuned-adm"] = lambda _argv: Ran(0)
    with pytest.raises(FleetError, match=r"bootcmdline (lacks|still has) nohz_full=2-7") as caught:
        tuned.write_tuned(host.root, host.run, isolated)
    assert caught.value.code == "not_applied"


@pytest.mark.parametrize("path", ["usr/sbin/tuned-adm", "usr/lib/tuned/profiles/cpu-partitioning/tuned.conf"])
def test_without_tuned_or_its_profile_the_package_is_named(host: TunedHost, path: str) -> None:
    (host.root / path).unlink()
    with pytest.raises(FleetError, match="tuned-profiles-cpu-partitioning") as caught:
        tuned.write_tuned(host.root, host.run, "2-7")
    assert caught.value.code == "tuned_missing"
    assert not host.runs
