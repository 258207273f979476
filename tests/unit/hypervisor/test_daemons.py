# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which daemons of libvirt the role chooses, and what it would do to their units, by what systemd says of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.tools.sync import ROOT

State = tuple[str, str]
Units = dict[str, State]

ON, READY, OFF, MASKED = (
    ("enabled", "active"),
    ("enabled", "inactive"),
    ("disabled", "inactive"),
    ("masked", "inactive"),
)
INVENTORY = {"all": {"hosts": {"hv1": {"ansible_python_interpreter": sys.executable}}}}
LISTS = ("chosen", "to_stop", "to_enable", "to_start")


def daemon(name: str, sockets: State, service: State) -> Units:
    return {f"{name}.socket": sockets, f"{name}-ro.socket": sockets, f"{name}.service": service}


def shown(units: Units) -> str:
    """What `systemctl show` says: of units that it does not know, too."""
    known = [_block(name, "masked" if state == MASKED else "loaded", *state) for name, state in units.items()]
    return "\n".join([*known, _block("virtlockd.socket", "not-found", "", "inactive")])


def _block(name: str, loaded: str, enabled: str, active: str) -> str:
    return f"Id={name}\nLoadState={loaded}\nActiveState={active}\nUnitFileState={enabled}\n"


LIBVIRTD = daemon("libvirtd", ON, ON)
UNUSED = daemon("libvirtd", OFF, OFF)
CASES: Mapping[str, tuple[Units, str]] = {
    "bare": ({}, "auto"),
    "debian": ({**LIBVIRTD, "virtlogd.socket": ON}, "auto"),
    "stopped": ({**UNUSED, "virtlogd.socket": OFF}, "auto"),
    "fresh": ({**UNUSED, **daemon("virtqemud", READY, READY), **daemon("virtnetworkd", OFF, OFF)}, "auto"),
    "neither": ({**UNUSED, **daemon("virtqemud", OFF, OFF)}, "auto"),
    "by_hand": ({**LIBVIRTD, **daemon("virtqemud", READY, OFF)}, "auto"),
    "kept": ({**daemon("libvirtd", READY, READY), **daemon("virtqemud", OFF, OFF)}, "auto"),
    "both": ({**LIBVIRTD, **daemon("virtqemud", ON, OFF)}, "auto"),
    "switch": ({**LIBVIRTD, "libvirtd-tls.socket": ON, **daemon("virtqemud", OFF, OFF)}, "modular"),
    "back": ({**UNUSED, **daemon("virtqemud", ON, ON)}, "monolithic"),
    "listening": (daemon("libvirtd", MASKED, READY), "auto"),
    "own_sockets": (daemon("libvirtd", READY, ON), "auto"),
}


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, dict[str, Any]]:
    """What the role would do on the host of each case."""
    hosts = {
        name: {"__hypervisor_shown": {"stdout": shown(units)}, "hypervisor_daemons": daemons}
        for name, (units, daemons) in CASES.items()
    }
    answer = ", ".join(f"'{name}': __hypervisor_{name}" for name in LISTS)
    show = {"ansible.builtin.debug": {"msg": f"{{{{ {{{answer}}} | to_json }}}}"}}
    variables = str(ROOT / "roles/hypervisor/vars/main.yml")
    play = {"hosts": "all", "gather_facts": False, "vars_files": [variables], "tasks": [show]}
    done = ansible(tmp_path_factory.mktemp("decided"), {"all": {"hosts": hosts}}, play)
    return {
        host: json.loads(json.loads(text)["msg"])
        for host, text in re.findall(r"(?s)ok: \[(\w+)\] => (\{.*?\n\})", done)
    }


def ansible(folder: Path, inventory: Any, play: Any, *options: str, code: int = 0, path: str = "") -> str:
    """Run a play and return what it prints."""
    (folder / "hosts.json").write_text(json.dumps(inventory))
    (folder / "play.json").write_text(json.dumps([play]))
    collection = folder / "ansible_collections" / "virtops" / "kvm_fleet"
    collection.mkdir(parents=True)
    (collection / "roles").symlink_to(ROOT / "roles")
    environment = {
        "ANSIBLE_COLLECTIONS_PATH": str(folder),
        "ANSIBLE_HOME": str(folder),
        "ANSIBLE_NOCOLOR": "1",
        "PATH": f"{path}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["ansible-playbook", "-c", "local", "-i", str(folder / "hosts.json"), *options, str(folder / "play.json")],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def role(part: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A play with one of the role's lists of tasks."""
    include = {"include_role": {"name": "virtops.kvm_fleet.hypervisor", "tasks_from": part}, "vars": given}
    return {"hosts": "all", "gather_facts": False, "tasks": [include]}


def test_what_runs_as_it_should_is_left_alone(decided: Mapping[str, Any]) -> None:
    assert decided["debian"] == {"chosen": "monolithic", "to_stop": [], "to_enable": [], "to_start": []}


def test_nothing_is_to_be_done_to_units_of_a_bare_host(decided: Mapping[str, Any]) -> None:
    assert [decided["bare"][name] for name in LISTS[1:]] == [[], [], []]


def test_libvirtd_is_enabled_and_its_sockets_started(decided: Mapping[str, Any]) -> None:
    assert decided["stopped"] == {
        "chosen": "monolithic",
        "to_stop": [],
        "to_enable": ["libvirtd.service", "libvirtd.socket", "libvirtd-ro.socket", "virtlogd.socket"],
        "to_start": ["libvirtd.socket", "libvirtd-ro.socket", "virtlogd.socket"],
    }


def test_modular_daemons_that_the_distribution_enables_are_taken_with_their_neighbours(
    decided: Mapping[str, Any],
) -> None:
    assert decided["fresh"] == {
        "chosen": "modular",
        "to_stop": [],
        "to_enable": ["virtnetworkd.service", "virtnetworkd.socket", "virtnetworkd-ro.socket"],
        "to_start": ["virtqemud.socket", "virtqemud-ro.socket", "virtnetworkd.socket", "virtnetworkd-ro.socket"],
    }


@pytest.mark.parametrize(
    ("host", "chosen"),
    [("neither", "modular"), ("by_hand", "monolithic"), ("kept", "monolithic"), ("both", "modular")],
)
def test_what_runs_counts_more_than_what_is_enabled_and_that_more_than_what_is_there(
    host: str, chosen: str, decided: Mapping[str, Any]
) -> None:
    assert decided[host]["chosen"] == chosen


def test_daemons_beside_the_libvirtd_that_runs_do_not_come_with_the_next_boot(decided: Mapping[str, Any]) -> None:
    assert decided["by_hand"]["to_stop"] == ["virtqemud.socket", "virtqemud-ro.socket"]


def test_sockets_go_before_the_service_that_they_would_start_again(decided: Mapping[str, Any]) -> None:
    sockets = ["libvirtd.socket", "libvirtd-ro.socket", "libvirtd-tls.socket"]
    assert decided["switch"]["to_stop"] == [*sockets, "libvirtd.service"]
    assert decided["switch"]["to_start"] == ["virtqemud.socket", "virtqemud-ro.socket"]


def test_the_way_back_is_the_same(decided: Mapping[str, Any]) -> None:
    assert decided["back"]["to_stop"] == ["virtqemud.socket", "virtqemud-ro.socket", "virtqemud.service"]
    assert decided["back"]["to_start"] == ["libvirtd.socket", "libvirtd-ro.socket"]


def test_a_daemon_whose_sockets_are_masked_is_started_itself(decided: Mapping[str, Any]) -> None:
    assert [decided["listening"][name] for name in LISTS[1:]] == [[], [], ["libvirtd.service"]]


def test_sockets_are_not_started_beside_a_service_that_runs(decided: Mapping[str, Any]) -> None:
    assert decided["own_sockets"]["to_start"] == []


@pytest.mark.parametrize(
    ("daemons", "units", "vms", "reason"),
    [
        ("modular", {**LIBVIRTD, **daemon("virtqemud", OFF, OFF)}, ["web", "db"], "with these VMs: db, web."),
        ("modular", LIBVIRTD, [], "hv1 has no virtqemud.socket, or it is masked"),
    ],
)
def test_daemons_that_cannot_be_had_are_refused(
    daemons: str, units: Units, vms: list[str], reason: str, tmp_path: Path
) -> None:
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\n[ $1 = show ] || exit 1\ncat <<END\n{shown(units)}\nEND\n")
    program.chmod(0o755)
    for vm in vms:
        (tmp_path / f"{vm}.xml").touch()
    given = {"hypervisor_daemons": daemons, "__hypervisor_running": str(tmp_path), "__hypervisor_uninstalled": False}
    play = role("daemons", {})
    assert reason in ansible(tmp_path, INVENTORY, play, "-e", json.dumps(given), code=2, path=str(tmp_path))


def test_a_python_that_is_too_old_is_told_without_one(tmp_path: Path) -> None:
    program = tmp_path / "python3"
    program.write_text("#!/bin/sh\necho 3.6\n")
    program.chmod(0o755)
    play = role("host", {"ansible_python_interpreter": str(program)})
    assert f"hv1 has Python 3.6 as {program}; 3.9 or newer is needed" in ansible(tmp_path, INVENTORY, play, code=2)
