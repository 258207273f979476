# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run is known by its process, and is dead exactly when that process is known to exist no more."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.action.pool_lease import waiting, with_run
from ansible_collections.virtops.kvm_fleet.plugins.plugin_utils import _run_identity as identity

VARIABLES = {"inventory_hostname": "hv1"}


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Another process, such as another ansible-playbook."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as made:
        yield made
        made.kill()


def test_all_workers_of_a_run_are_the_same_run_and_no_other_process_is(process: subprocess.Popen[bytes]) -> None:
    forks = multiprocessing.get_context("fork")
    with forks.Pool(2) as pool:
        found = pool.map(_ask, range(4), chunksize=1)
    assert set(found) == {_ask()}
    assert _ask()[0] != identity.run_name(process.pid)
    assert identity.run_name(process.pid) == identity.run_name(process.pid)


def _ask(_number: int = 0) -> tuple[str, str]:
    arguments = with_run({}, VARIABLES)
    return arguments["run"], arguments["controller"]


def test_a_worker_whose_run_was_killed_does_nothing_more_for_it() -> None:
    """The worker must not take the lease in the name of whoever adopts it."""
    ask = (
        "from ansible_collections.virtops.kvm_fleet.plugins.action.pool_lease import with_run\n"
        "import multiprocessing, os, signal, time\n"
        "def work(parent):\n"
        "    os.kill(parent, signal.SIGKILL)\n"
        "    while os.getppid() == parent: time.sleep(0.01)\n"
        "    try: print(with_run({}, {})['run'], flush=True)\n"
        "    except Exception as error: print(error, flush=True)\n"
        "multiprocessing.get_context('fork').Process(target=work, args=(os.getpid(),)).start()\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert "ansible-playbook has ended" in done.stdout


def test_a_process_has_ended_once_it_is_killed_even_if_nobody_has_noticed(process: subprocess.Popen[bytes]) -> None:
    controller = identity.controller_of(process.pid)
    assert not identity.has_ended(controller)
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert identity.has_ended(controller), "a zombie"
    process.wait()
    assert identity.has_ended(controller)


def test_a_number_that_was_given_out_again_is_another_process(process: subprocess.Popen[bytes]) -> None:
    system, pid, start = str(identity.controller_of(process.pid)).split()
    assert identity.has_ended(f"{system} {pid} {int(start) - 1}")


@pytest.mark.parametrize(
    "unknown", [None, "", "x", "elsewhere/boot/pid:[1]/time:[2] 1 2", "{system} none 2", "{system} 0 1"]
)
def test_nobody_else_is_taken_for_dead(unknown: str | None) -> None:
    system = str(identity.controller_of(os.getpid())).split()[0]
    assert not identity.has_ended(unknown and unknown.replace("{system}", system))


@pytest.mark.parametrize("at", range(4))
def test_a_process_of_another_system_is_not_looked_for_here(process: subprocess.Popen[bytes], at: int) -> None:
    """Neither of another machine, boot or namespace, where the number means another process."""
    system, pid, start = str(identity.controller_of(process.pid)).split()
    parts = system.split("/")
    assert parts[0] == socket.gethostname()
    assert parts[2:] == [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("pid", "time")]
    parts[at] += "x"
    assert not identity.has_ended(f"{'/'.join(parts)} {pid} {int(start) - 1}")


def test_a_process_that_is_hidden_from_this_user_is_not_taken_for_dead(
    process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = identity.controller_of(process.pid)

    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    monkeypatch.setattr(identity, "_stat", lambda _pid: ("", ""))
    assert not identity.has_ended(controller)


def test_a_controller_without_proc_has_runs_too_but_cannot_tell_which_have_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def ps(command: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, f"Sat Jan 31 12:00:00 2026, {command[-1]}\n")

    monkeypatch.setattr(identity, "PROC", tmp_path / "none")
    monkeypatch.setattr(subprocess, "run", ps)
    assert identity.controller_of(os.getpid()) is None
    assert identity.run_name(os.getpid()) == identity.run_name(os.getpid()) != identity.run_name(os.getppid())


def test_a_proc_of_other_processes_is_not_believed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to("1")
    monkeypatch.setattr(identity, "PROC", tmp_path)
    assert identity.controller_of(os.getpid()) is None


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "alice@ctl1"),
        ({"awx_job_id": 7, "awx_user_name": "bob"}, "bob, AWX job 7"),
        ({"tower_job_id": 7, "tower_user_name": "bob"}, "bob, AWX job 7"),
        ({"awx_job_id": 7}, "AWX job 7"),
    ],
)
def test_the_owner_is_who_started_the_run(
    variables: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "alice")
    monkeypatch.setattr("socket.gethostname", lambda: "ctl1.example.com")
    assert identity.owner(variables) == expected
    monkeypatch.delenv("SUDO_USER")
    monkeypatch.setattr("getpass.getuser", lambda: "alice")
    assert identity.owner(variables) == expected


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError

    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setattr("getpass.getuser", nameless)
    assert identity.owner({}).startswith(f"uid {os.getuid()}@")


def test_a_run_and_an_owner_that_are_given_stay() -> None:
    given = with_run({"run": "nightly", "owner": "cron", "state": "held"}, VARIABLES)
    assert given == {"run": "nightly", "owner": "cron", "state": "held"}, "no process can speak for a run of that name"


def test_whoever_waits_is_told_for_whom() -> None:
    holder = {"owner": "bob@ctl2", "purpose": "New kernel", "expires": "2026-01-31T13:00:00Z"}
    assert waiting("hv1", holder, 30) == (
        "hv1: waiting up to 30 s for bob@ctl2 (New kernel), whose lease ends at 2026-01-31T13:00:00Z"
    )
    assert "bob@ctl2, whose" in waiting("hv1", {**holder, "purpose": None}, 30)
