# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How steps run one after the other and side by side, with small shell commands in place of `make`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.tools.lanes import Settings
from tests.tools.steps import count, main, stages
from tests.tools.sync import ROOT

SUITE = '<testsuite tests="{}" failures="{}" errors="{}" skipped="{}"/>'

# What a step does in these tests, by its name; the folder is the one of the test
SCRIPTS = {
    "ok": "echo ok says something",
    "bad": "echo bad complains >&2; exit 3",
    "after": "touch after.ran",
    "slow": "echo slow begins; sleep 0.8; echo slow ends",
    "tests": f"echo '{SUITE.format(7, 0, 0, 2)}' >tests/x.xml",
    # Each waits for the other: it ends well only if both run at once
    "left": "touch left.ran; until [ -e right.ran ]; do sleep 0.05; done",
    "right": "touch right.ran; until [ -e left.ran ]; do sleep 0.05; done",
}


def settings(folder: Path, heartbeat_s: float = 60) -> Settings:
    def command(name: str) -> list[str]:
        return ["timeout", "20", "sh", "-c", f"mkdir -p {name}; {SCRIPTS[name]}"]

    return Settings(command, folder=folder, logs=folder / "logs", heartbeat_s=heartbeat_s)


def run(folder: Path, words: str, heartbeat_s: float = 60) -> int:
    return main(words.split(), settings(folder, heartbeat_s), folder)


def table(text: str) -> dict[str, str]:
    """The summary: what it says of each step, without the time."""
    lines = text.split("=== summary ")[1].splitlines()[1:]
    found = (line.split() for line in lines if not line.startswith("total"))
    return {name: " ".join(word for word in words if "." not in word and word != "s") for name, *words in found}


def test_words_are_stages_of_lanes_of_steps() -> None:
    assert stages(["a", "b", "--then", "c", "d", "--lane", "e"]) == [[["a", "b"]], [["c", "d"], ["e"]]]
    assert stages(["a", "--lane", "b"]) == [[["a"], ["b"]]]


def test_all_steps_are_in_the_summary_in_their_order(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "ok tests --lane slow --then left after --lane right") == 0
    text = capfd.readouterr().out
    assert list(table(text))[:6] == ["ok", "tests", "slow", "left", "after", "right"]
    assert table(text)["tests"] == "ok 5 passed, 2 skipped"
    assert table(text)["slow"] == "ok 1 passed"
    assert text.rstrip().endswith("10 passed, 0 failed, 2 skipped")


def test_a_first_step_that_fails_ends_all(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "bad after --then ok") == 1
    text = capfd.readouterr().out
    assert table(text)["bad"] == "FAILED 0 passed, 1 failed"
    assert table(text)["after"] == table(text)["ok"] == "not run"
    assert not (tmp_path / "after.ran").exists()


@pytest.mark.parametrize("words", ["bad after --lane slow ok --then left", "slow ok --lane bad after --then left"])
def test_a_step_that_fails_ends_its_lane_only(words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, words) == 1
    text = capfd.readouterr().out
    assert {name: said.split()[0] for name, said in table(text).items() if name in SCRIPTS} == {
        "bad": "FAILED",
        "after": "not",
        "slow": "ok",
        "ok": "ok",
        "left": "not",
    }
    assert text.rstrip().endswith("2 passed, 1 failed, 0 skipped")


def test_output_of_a_lane_stays_together(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "slow --lane ok bad") == 1
    shown = capfd.readouterr().out.split("=== ")
    of_slow = next(part for part in shown if part.startswith("slow "))
    assert of_slow.splitlines()[1:3] == ["slow begins", "slow ends"]
    assert "bad complains" in next(part for part in shown if part.startswith("bad "))


def test_a_line_now_and_then_shows_what_is_under_way(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "slow --lane ok", heartbeat_s=0.4) == 0
    lines = [line for line in capfd.readouterr().out.splitlines() if "slow (0 min): slow begins" in line]
    assert 1 <= len(lines) <= 3


def test_a_single_lane_shows_itself(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "slow", heartbeat_s=0.2) == 0
    assert "(0 min)" not in capfd.readouterr().out


def test_reports_of_an_earlier_run_do_not_count(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ok").mkdir()
    (tmp_path / "ok" / "x.xml").write_text(SUITE.format(9, 0, 0, 0))
    assert run(tmp_path, "ok") == 0
    assert "1 passed, 0 failed" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("reports", "ok", "expected"),
    [
        ([], True, "1 passed"),
        ([], False, "0 passed, 1 failed"),
        ([SUITE.format(4, 1, 1, 1)], False, "1 passed, 2 failed, 1 skipped"),
        # Something beside the tests went wrong
        ([SUITE.format(4, 0, 0, 0)], False, "4 passed, 1 failed"),
        ([SUITE.format(4, 0, 0, 0)] * 2, True, "8 passed"),
        # pytest was killed while it wrote
        (['<testsuite tests="4" fai'], False, "0 passed, 1 failed"),
    ],
)
def test_tests_are_counted(reports: list[str], ok: bool, expected: str, tmp_path: Path) -> None:
    for number, text in enumerate(reports):
        (tmp_path / f"{number}.xml").write_text(text)
    assert str(count(tmp_path, ok)) == expected


# Each step has a child in the background, and takes half a second to clear up. That of "deaf" never ends.
STOPPED = """
import sys
from pathlib import Path
from tests.tools.lanes import Settings, Stop
from tests.tools.steps import main
def command(name):
    trap = ":" if name == "deaf" else f"sleep 0.5; echo cleared; touch {name}.cleared; exit 1"
    return ["sh", "-c", f"trap '{trap}' INT; sleep 60 & echo $! >{name}.child; touch {name}.ran; "
                        "while :; do sleep 0.05; done"]
folder = Path(sys.argv[1])
Stop.TOGETHER_S = 0.3
sys.exit(main(sys.argv[3:], Settings(command, folder=folder, logs=folder, grace_s=float(sys.argv[2])), folder))
"""


@pytest.mark.parametrize(
    ("words", "names", "number"),
    [
        ("a b", ["a"], signal.SIGTERM),
        ("a c --lane b", ["a", "b"], signal.SIGINT),
        ("a c --lane b", ["a", "b"], signal.SIGHUP),
    ],
)
def test_a_signal_ends_all_lanes_with_their_children(
    words: str, names: list[str], number: signal.Signals, tmp_path: Path
) -> None:
    code, text = _stop(tmp_path, words, names, [number])
    assert code == 128 + number
    assert [(tmp_path / f"{name}.cleared").exists() for name in names] == [True] * len(names)
    assert all(said.startswith("stopped") for name, said in table(text).items() if name in names)
    assert text.count("cleared") == len(names)


def test_signals_that_come_together_hurry_nobody(tmp_path: Path) -> None:
    _stop(tmp_path, "a --lane b", ["a", "b"], [signal.SIGTERM, signal.SIGINT], pause_s=0.05)
    assert (tmp_path / "a.cleared").exists()


def test_what_is_ignored_stays_so_for_the_steps_only(tmp_path: Path) -> None:
    ignore = ["sh", "-c", "trap '' INT HUP; exec \"$@\"", "ignore"]
    numbers = [signal.SIGINT, signal.SIGHUP, signal.SIGTERM]
    assert _stop(tmp_path, "a", ["a"], numbers, pause_s=0.4, prefix=ignore)[0] == 128 + signal.SIGTERM
    assert (tmp_path / "a.cleared").exists()


def test_who_does_not_end_is_killed(tmp_path: Path) -> None:
    assert _stop(tmp_path, "deaf --lane b", ["deaf", "b"], [signal.SIGINT], grace_s=1)[0] == 130


def test_another_signal_kills_at_once(tmp_path: Path) -> None:
    # Several, for a slow machine takes the first one late
    assert _stop(tmp_path, "deaf", ["deaf"], [signal.SIGINT] * 5, pause_s=0.5)[0] == 130


def _stop(
    folder: Path,
    words: str,
    names: list[str],
    numbers: Sequence[int],
    *,
    pause_s: float = 0,
    grace_s: float = 60,
    prefix: Sequence[str] = (),
) -> tuple[int, str]:
    """Run the steps, send signals when all the named ones are under way, and see that none has a process then."""
    command = [*prefix, sys.executable, "-c", STOPPED, str(folder), str(grace_s), *words.split()]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 30
        while not all((folder / f"{name}.ran").exists() for name in names):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for number in numbers:
            process.send_signal(number)
            time.sleep(pause_s)
        text = process.communicate(timeout=30)[0]
    for name in names:
        assert not _lives(int((folder / f"{name}.child").read_text()))
    return process.returncode, text


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"
