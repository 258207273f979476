# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules of the kernel-install backend; kernel-install is one that makes entries as 90-loaderentry.install does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot.cmdline import arguments, format_line, parse
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot.config import conflicts
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot.kernel_install import KernelInstall
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.command import Ran

from tests.unit.host.boot.fakes import DATA, KERNELS, Host

NEW, OLD = KERNELS
FILE = "etc/kernel/cmdline"
OURS = arguments(["isolcpus=domain,2-7", "hugepagesz=2M", "hugepages=4", "hugepagesz=1G", "hugepages=4", 'x="a b"'])


class Booted(Host):
    """A host with two kernels, one in /boot as Debian has it and one beside its modules."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        (root / "var/lib").mkdir(parents=True)
        self.entries: dict[str, str] = {}
        self.knows_the_layout = True
        self.add_program("usr/bin/kernel-install", self.kernel_install)
        self.add_program("usr/bin/bootctl", self.bootctl)
        self.write(f"usr/lib/modules/{NEW}/vmlinuz", "")
        self.write(f"boot/vmlinuz-{OLD}", "")
        (root / "usr/lib/modules" / OLD).mkdir()
        (root / "usr/lib/modules/1.0-left-over").mkdir()
        self.write("proc/cmdline", "initrd=\\x.img root=UUID=9 ro systemd.machine_id=1\n")
        self.write(FILE, "# Comment isolcpus=9\nroot=UUID=1  ro\nquiet\n")

    def kernel_install(self, argv: Sequence[str]) -> Ran:
        verb, version, image = argv[1:]
        assert (verb, (self.root / image[1:]).is_file()) == ("add", True)
        if self.knows_the_layout:
            self.entries[version] = self.options()
        return Ran(0)

    def options(self) -> str:
        for path in (FILE, "usr/lib/kernel/cmdline"):
            if (self.root / path).exists():
                lines = [line for line in self.read(path).splitlines() if not line.lstrip().startswith("#")]
                return " ".join(" ".join(lines).split())
        return " ".join(word for word in self.read("proc/cmdline").split() if not word.startswith("initrd="))

    def bootctl(self, argv: Sequence[str]) -> Ran:
        assert list(argv) == ["bootctl", "list", "--json=short"]
        own = [
            {"id": f"1-{version}.conf", "path": f"/efi/{version}.conf", "options": text, "isDefault": version == OLD}
            for version, text in self.entries.items()
        ]
        others = [{"id": "auto-reboot-to-firmware-setup", "type": "auto"}, {"id": f"mine{NEW}.conf", "options": "a"}]
        return Ran(0, json.dumps(others + own))


@pytest.fixture
def host(tmp_path: Path) -> Booted:
    host = Booted(tmp_path)
    for version in KERNELS:
        host.entries[version] = host.options()
    return host


def test_what_bootctl_lists_on_debian_is_read(host: Booted) -> None:
    listed = (DATA / "debian13_bootctl_list.json").read_text()
    host.commands["bootctl"] = lambda _argv: Ran(0, listed)
    host.write(f"boot/vmlinuz-{NEW}", "")
    config = KernelInstall(host.root, host.run).read()
    identity = "systemd.machine_id=8483febbcbc348b795dce7cb52eeb308"
    assert format_line(config.others) == f"root=UUID=aaaa ro quiet console=ttyS0 {identity}"
    assert config.elsewhere == parse("root=UUID=1")


def test_ours_come_behind_what_is_there_and_removing_them_restores_every_byte(host: Booted) -> None:
    loader, before, entries = KernelInstall(host.root, host.run), host.files(), dict(host.entries)
    loader.write(OURS)
    config = loader.read()
    assert (config.others, config.ours) == (parse("root=UUID=1 ro quiet"), OURS)
    assert host.read(FILE) == f"# Comment isolcpus=9\nroot=UUID=1  ro\nquiet {format_line(OURS)}\n"
    assert set(host.entries.values()) == {f"root=UUID=1 ro quiet {format_line(OURS)}"}
    loader.write(())
    assert (host.files(), host.entries) == (before, entries)


@pytest.mark.parametrize("text", ["", "a", "a\n", "a \n\n", "# c\n", "a\nb\n# c\n", "a\n\nb"])
def test_the_file_is_restored_to_the_letter(host: Booted, text: str) -> None:
    host.write(FILE, text).chmod(0o640)
    loader = KernelInstall(host.root, host.run)
    loader.write(OURS)
    loader.write(OURS[:1])
    loader.write(())
    assert host.read(FILE) == text
    assert (host.root / FILE).stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("vendor", [None, "root=UUID=5 vendor\n"])
def test_a_file_that_we_make_has_what_kernel_install_took_before_and_goes_again(
    host: Booted, vendor: str | None
) -> None:
    (host.root / FILE).unlink()
    (host.root / "etc/kernel").rmdir()
    if vendor:
        host.write("usr/lib/kernel/cmdline", vendor)
    before = host.options()
    loader = KernelInstall(host.root, host.run)
    loader.write(OURS)
    assert host.read(FILE) == f"{before} {format_line(OURS)}\n"
    # After the reboot the running kernel has ours too.
    host.write("proc/cmdline", f"root=UUID=9 ro systemd.machine_id=1 {format_line(OURS)}\n")
    loader.write(OURS[:2])
    loader.write(())
    assert not (host.root / FILE).exists()


def test_the_same_argument_of_somebody_else_keeps_its_place(host: Booted) -> None:
    host.write(FILE, "isolcpus=domain,2-7 root=UUID=1 ro\n")
    loader = KernelInstall(host.root, host.run)
    loader.write(OURS)
    loader.write(())
    assert host.read(FILE) == "isolcpus=domain,2-7 root=UUID=1 ro\n"


def test_a_file_that_we_made_stays_when_somebody_has_changed_it(host: Booted) -> None:
    (host.root / FILE).unlink()
    loader = KernelInstall(host.root, host.run)
    loader.write(OURS)
    host.write(FILE, host.read(FILE).replace(" ro ", " ro audit=1 "))
    loader.write(())
    assert host.read(FILE) == "root=UUID=9 ro audit=1 systemd.machine_id=1\n"


def test_ours_that_run_are_not_taken_for_the_others(host: Booted) -> None:
    loader = KernelInstall(host.root, host.run)
    loader.write(OURS)
    (host.root / FILE).unlink()
    host.write("proc/cmdline", f"root=UUID=9 {format_line(OURS)}\n")
    loader.write(OURS)
    assert host.read(FILE) == f"root=UUID=9 {format_line(OURS)}\n"
    loader.write(())
    assert not (host.root / FILE).exists()


def test_kernels_are_added_one_by_one_with_their_images(host: Booted) -> None:
    KernelInstall(host.root, host.run).write(OURS)
    assert [argv for argv in host.runs if argv[0] == "kernel-install"] == [
        ["kernel-install", "add", OLD, f"/boot/vmlinuz-{OLD}"],
        ["kernel-install", "add", NEW, f"/usr/lib/modules/{NEW}/vmlinuz"],
    ]


def test_a_second_write_adds_no_kernel(host: Booted) -> None:
    loader = KernelInstall(host.root, host.run)
    loader.write(OURS)
    host.runs.clear()
    loader.write(OURS)
    assert {argv[0] for argv in host.runs} == {"bootctl"}


def test_a_run_that_was_killed_before_the_entries_were_made_is_healed(host: Booted) -> None:
    loader = KernelInstall(host.root, host.run)
    loader.write(OURS)

    def killed(_argv: object) -> Ran:
        raise KeyboardInterrupt

    host.commands["kernel-install"] = killed
    with pytest.raises(KeyboardInterrupt):
        loader.write(OURS[:1])
    assert conflicts(loader.read(), arguments(["hugepages=1"])) == ()
    host.commands["kernel-install"] = host.kernel_install
    loader.write(OURS[:1])
    assert loader.read().ours == OURS[:1]
    assert set(host.entries.values()) == {f"root=UUID=1 ro quiet {format_line(OURS[:1])}"}


def test_a_layout_that_kernel_install_does_not_know_is_found_out(host: Booted) -> None:
    host.knows_the_layout, host.entries = False, {}
    before = host.files("etc")
    loader = KernelInstall(host.root, host.run)
    with pytest.raises(FleetError, match="kernel-install wrote no boot entry for any installed kernel") as caught:
        loader.write(OURS)
    assert caught.value.code == "not_applied"
    assert host.files("etc") == before
    assert loader.read().ours == ()


def test_the_entry_of_the_next_boot_is_the_one_that_is_told(host: Booted) -> None:
    host.entries = {NEW: "new", OLD: "default"}
    assert KernelInstall(host.root, host.run).read().others == parse("default")


def test_ours_in_the_file_count_for_nothing_without_an_entry(host: Booted) -> None:
    loader = KernelInstall(host.root, host.run)
    loader.write(OURS)
    host.entries = {}
    assert loader.read().ours == ()


def test_entries_that_stay_as_they_were_are_found_out(host: Booted) -> None:
    host.knows_the_layout = False
    with pytest.raises(FleetError, match=r"boot entry 1-6\.12\..*\.conf is not as written: it lacks isolcpus"):
        KernelInstall(host.root, host.run).write(OURS)


@pytest.mark.parametrize("name", [f"1-{OLD}+3-1.conf", f"1-{OLD}.efi", f"os-{OLD}+2.efi"])
def test_entries_with_boot_counting_and_unified_images_are_known(host: Booted, name: str) -> None:
    entry = {"id": name, "options": "a isolcpus=9", "path": "/x"}
    host.commands["bootctl"] = lambda _argv: Ran(0, json.dumps([entry]))
    found = conflicts(KernelInstall(host.root, host.run).read(), OURS)
    assert [(item.theirs, item.source) for item in found] == [("isolcpus=9", "/x")]


def test_another_value_in_the_file_is_a_conflict_even_if_no_entry_has_it(host: Booted) -> None:
    host.write(FILE, "root=UUID=1 isolcpus=9\n")
    found = conflicts(KernelInstall(host.root, host.run).read(), OURS)
    assert [(item.theirs, item.source) for item in found] == [("isolcpus=9", f"/{FILE}")]
