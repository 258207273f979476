# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules of the cordon hook, tried on the real script with sh."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import List, Optional

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host import hook, maintenance
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.maintenance import Mark
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.paths import HostPaths

MARK = Mark("m1", "New kernel", "2026-01-31T12:00:00Z")
BEFORE_THE_DOMAIN = ["prepare", "start", "migrate"]
# A failure would kill a running domain, or with restore delete its saved state; prepare follows restore and refuses.
NEVER_REFUSED = ["restore", "started", "reconnect", "attach", "stopped", "release", "", "something-new"]
NORMAL = MARK.to_data()


def call(paths: HostPaths, operation: str, name: str = "db1", shell: str = "sh") -> subprocess.CompletedProcess[str]:
    """Run the hook as libvirt does, with more XML on standard input than a pipe holds."""
    hook.install(paths)
    xml = f"<domain>{'x' * 300_000}</domain>"
    command = [shell, str(paths.hook), name, operation, "begin", "-"]
    return subprocess.run(command, input=xml, capture_output=True, text=True, timeout=20, check=False)


def mark_text(mark: Mark, paths: HostPaths) -> str:
    maintenance.write(paths, mark)
    return paths.mark.read_text()


@pytest.mark.parametrize("operation", BEFORE_THE_DOMAIN + NEVER_REFUSED)
@pytest.mark.parametrize("mark", [None, MARK, replace(MARK, phase="reconfigured"), replace(MARK, cordon=False)])
def test_domains_are_refused_before_they_exist_and_only_under_a_mark_with_cordon(
    paths: HostPaths, operation: str, mark: Optional[Mark]
) -> None:
    maintenance.write(paths, mark)
    refused = operation in BEFORE_THE_DOMAIN and mark is not None and mark.cordon
    done = call(paths, operation)
    assert done.returncode == (1 if refused else 0)
    assert bool(done.stderr) is refused
    # What a hook prints on migrate and restore replaces the domain's XML.
    assert done.stdout == ""


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_refusal_names_the_host_the_reason_and_the_next_step(paths: HostPaths, shell: str) -> None:
    maintenance.write(paths, MARK)
    host = Path("/proc/sys/kernel/hostname").read_text().strip()
    done = call(paths, "prepare", shell=shell)
    assert done.stderr == (
        f"kvm_fleet: host {host} is in maintenance (New kernel); leave it with host_maintenance state=left\n"
    )
    assert hook.REFUSAL in done.stderr


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("kvm_fleet-probe-gold", False),
        ("kvm_fleet-probe-", False),
        ("kvm_fleet-cordon-probe", True),
        ("kvm_fleet-probe", True),
        ("my-kvm_fleet-probe-1", True),
        ("-", True),
        ("", True),
        ("a name; exit 0", True),
        ("*", True),
    ],
)
def test_only_the_reserved_probe_names_pass(paths: HostPaths, name: str, refused: bool) -> None:
    maintenance.write(paths, MARK)
    assert call(paths, "prepare", name).returncode == int(refused)


DAMAGED: List[str] = [
    "",
    "\n",
    "{",
    "not json",
    '{"version": 1, "cordon": false}',
    "{}\n",
]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_mark_nobody_can_read_counts_as_maintenance(paths: HostPaths, text: str) -> None:
    paths.mark.write_text(text)
    done = call(paths, "migrate")
    assert done.returncode == 1
    assert f"its mark {paths.mark} is damaged" in done.stderr
    assert "remove it if the maintenance is over" in done.stderr


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('  "cordon": false,\n', ""),
        ('  "cordon": false,\n', '  "cordon": false,\n  "cordon": true,\n'),
        ('  "cordon": false,\n', '  "cordon": false,\n  "cordon": false,\n'),
        ('"version": 1', '"version": 2'),
        ("}\n", ""),
        ("{\n", "{\n\n"),
        ("}\n", "}\nx"),
        ("false", "False"),
    ],
)
def test_only_a_whole_mark_can_opt_out(paths: HostPaths, old: str, new: str) -> None:
    text = mark_text(replace(MARK, cordon=False), paths)
    assert old in text
    paths.mark.write_text(text.replace(old, new))
    assert call(paths, "prepare").returncode == 1


def test_every_cut_of_an_opted_out_mark_is_refused_until_it_is_whole(paths: HostPaths) -> None:
    text = mark_text(replace(MARK, cordon=False), paths).rstrip("\n")
    for length in range(0, len(text), 7):
        paths.mark.write_text(text[:length])
        assert call(paths, "prepare").returncode == 1, text[:length]
    paths.mark.write_text(text)
    assert call(paths, "prepare").returncode == 0


@pytest.mark.parametrize(
    "reason",
    [
        '"cordon": false,',
        'x",\n  "cordon": false,\n  "since": "',
        "$(touch /tmp/never) `id` %s%n \\ ' \"",
        "ümlaut\x00\x1b[2J",
    ],
)
def test_a_reason_can_neither_open_the_cordon_nor_run_anything(paths: HostPaths, reason: str) -> None:
    maintenance.write(paths, replace(MARK, reason=reason))
    done = call(paths, "start")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("leave it with host_maintenance state=left\n")
    assert done.stderr[:-1].isprintable()
    assert not Path("/tmp/never").exists()


def test_a_mark_that_is_no_file_counts_as_maintenance(paths: HostPaths) -> None:
    paths.mark.mkdir()
    assert call(paths, "prepare").returncode == 1
    paths.mark.rmdir()
    paths.mark.symlink_to("nowhere")
    assert call(paths, "prepare").returncode == 1


def test_the_script_works_where_the_path_needs_quoting(tmp_path: Path) -> None:
    odd = HostPaths(tmp_path / "it's $HOME")
    (odd.root / "var/lib/kvm_fleet").mkdir(parents=True)
    (odd.root / "etc/libvirt").mkdir(parents=True)
    assert call(odd, "prepare").returncode == 0
    maintenance.write(odd, MARK)
    assert call(odd, "prepare").returncode == 1


def test_the_script_needs_no_tool_and_no_environment(paths: HostPaths) -> None:
    maintenance.write(paths, MARK)
    hook.install(paths)
    done = subprocess.run(
        [str(paths.hook), "db1", "prepare", "begin", "-"], env={}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "not found" not in done.stderr


def test_the_hook_is_installed_executable_and_known_by_its_content(paths: HostPaths) -> None:
    assert hook.status(paths) == hook.ABSENT
    hook.install(paths)
    assert hook.status(paths) == hook.CURRENT
    assert paths.hook.stat().st_mode & 0o7777 == 0o755
    assert [path.name for path in paths.hook.parent.iterdir()] == ["kvm_fleet"]
    assert [path.name for path in paths.hook.parent.parent.iterdir()] == ["qemu.d"]


def test_nothing_unfinished_is_ever_in_the_directory_whose_files_libvirt_runs(
    paths: HostPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: List[str] = []
    rename = Path.rename

    def watch(self: Path, target: Path) -> Path:
        seen.extend(path.name for path in paths.hook.parent.iterdir())
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watch)
    hook.install(paths)
    assert paths.hook.exists()
    assert seen == []


def test_another_release_or_a_lost_permission_is_outdated_and_rewritten(paths: HostPaths) -> None:
    hook.install(paths)
    paths.hook.chmod(0o644)
    assert hook.status(paths) == hook.OUTDATED
    hook.install(paths)
    paths.hook.write_text("#!/bin/sh\nexit 0\n")
    assert (hook.status(paths), hook.is_installed(paths)) == (hook.OUTDATED, False)
    hook.install(paths)
    assert hook.is_installed(paths)
    target = paths.root / "elsewhere"
    paths.hook.rename(target)
    paths.hook.symlink_to(target)
    assert hook.status(paths) == hook.OUTDATED


def test_a_host_without_libvirt_is_told_by_the_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match=r"Cannot create .*/etc/libvirt/hooks: No such file or directory"):
        hook.install(HostPaths(tmp_path))


@pytest.mark.parametrize(
    ("names", "service"),
    [
        ([], None),
        (["systemd", "sshd"], None),
        (["libvirtd"], "libvirtd"),
        (["virtqemud", "virtlogd"], "virtqemud"),
        # With both, QEMU's own daemon serves qemu:///system.
        (["libvirtd", "virtqemud"], "virtqemud"),
        (["virtnetworkd", "virtlogd"], None),
    ],
)
def test_the_service_is_the_daemon_that_runs(names: List[str], service: Optional[str]) -> None:
    assert hook.daemon_service(names) == service


def test_process_names_come_from_the_kernel(paths: HostPaths) -> None:
    for number, name in (("1", "systemd"), ("77", "libvirtd")):
        (paths.proc / number).mkdir()
        (paths.proc / number / "comm").write_text(f"{name}\n")
    (paths.proc / "self").mkdir()
    (paths.proc / "78").mkdir()
    assert sorted(hook.process_names(paths)) == ["libvirtd", "systemd"]
