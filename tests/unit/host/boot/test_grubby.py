# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules of the grubby backend; grubby is one that lists what the files of the test say, in its own layout."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot.cmdline import arguments, format_line, parse
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot.config import conflicts
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot.grubby import Grubby
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.command import Ran

from tests.unit.host.boot.fakes import DATA, Host

MACHINE = "4ce7a933859f4a76a5111fba2d010ca3"
NEW = f"boot/loader/entries/{MACHINE}-5.13.0-0.rc3.25.fc35.x86_64.conf"
OLD = f"boot/loader/entries/{MACHINE}-5.12.0-1.fc35.x86_64.conf"
RESCUE = f"boot/loader/entries/{MACHINE}-0-rescue.conf"
OURS = arguments(
    [
        "isolcpus=domain,2-7", "hugepagesz=2M", "hugepages=4", "hugepagesz=1G", "hugepages=4",
        'dyndbg="file a/* +p"', "rcutree.x=1",
    ]
)  # fmt: skip


class Grubbed(Host):
    """A host with three entries, two of them for kernels."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.default = "0"
        (root / "var/lib").mkdir(parents=True)
        self.add_program("usr/sbin/grubby", self.grubby)
        self.add_program("usr/bin/grub2-editenv", self.editenv)
        self.write("usr/sbin/grub2-mkconfig", ". ${sysconfdir}/default/grub\n")
        self.write("etc/default/grub", 'GRUB_CMDLINE_LINUX="no_timer_check"\nGRUB_ENABLE_BLSCFG=true\n')
        self.write("etc/kernel/cmdline", "root=UUID=1  ro no_timer_check\n")
        for path, options in ((NEW, "root=UUID=1  ro no_timer_check"), (OLD, "root=UUID=1 ro x=1 $tuned_params")):
            self.write(path, f"title Fedora\nversion 5\nlinux /vmlinuz-5\noptions {options}\ngrub_class fedora\n")
        self.write(RESCUE, "title Rescue\nlinux /vmlinuz-0\noptions root=UUID=1 ro\n")

    def grubby(self, argv: Sequence[str]) -> Ran:
        if argv[1] == "--default-index":
            return Ran(0, f"{self.default}\n")
        shown = ""
        for index, path in enumerate((NEW, OLD, RESCUE)):
            options = re.search("^options (.*)$", self.read(path), re.MULTILINE).group(1)
            options = options.replace("$kernelopts", self.kernelopts())
            args = " ".join(word for word in options.split() if not word.startswith("root="))
            shown += f'index={index}\nkernel="/boot/vmlinuz"\nargs="{args}"\nroot="UUID=1"\nid="{Path(path).stem}"\n'
        return Ran(0, shown)

    def editenv(self, argv: Sequence[str]) -> Ran:
        path, verb, setting = argv[1:]
        assert (path, verb) == ("/boot/grub2/grubenv", "set")
        self.write("boot/grub2/grubenv", f"# GRUB Environment Block\n{setting}\n###")
        return Ran(0)

    def kernelopts(self) -> str:
        path = self.root / "boot/grub2/grubenv"
        return path.read_text().splitlines()[1].partition("=")[2] if path.exists() else ""


@pytest.fixture
def host(tmp_path: Path) -> Grubbed:
    return Grubbed(tmp_path)


def test_what_grubby_published_is_read() -> None:
    host = Host(Path("/nowhere"))
    shown = (DATA / "fedora35_grubby_info.txt").read_text()
    host.commands["grubby"] = lambda argv: Ran(0, "1\n" if "--default-index" in argv else shown)
    config = Grubby(host.root, host.run).read()
    line = "root=UUID=ec0ebe42-73a3-441f-9910-dce10ec8253e ro no_timer_check net.ifnames=0 console=tty1"
    assert format_line(config.others) == f"{line} console=ttyS0,115200n8"
    # The default entry is the second one, and the rescue entry tells nothing.
    assert config.sources["net.ifnames"] == f"/{OLD}"


def test_ours_come_behind_what_is_there_and_removing_them_restores_every_byte(host: Grubbed) -> None:
    loader, before = Grubby(host.root, host.run), host.files()
    others = loader.read().others
    loader.write(OURS)
    config = loader.read()
    assert (config.others, config.ours) == (others, OURS)
    ours = format_line(OURS)
    assert f"options root=UUID=1  ro no_timer_check {ours}\ngrub_class" in host.read(NEW)
    assert f"options root=UUID=1 ro x=1 $tuned_params {ours}\n" in host.read(OLD)
    assert host.read("etc/kernel/cmdline") == f"root=UUID=1  ro no_timer_check {ours}\n"
    assert "hugepagesz=1G hugepages=4" in host.read("etc/default/grub")
    assert "isolcpus" not in host.read(RESCUE)
    loader.write(())
    assert host.files() == before


def test_a_second_write_changes_no_file(host: Grubbed) -> None:
    loader = Grubby(host.root, host.run)
    loader.write(OURS)
    times = {path: path.stat().st_ino for path in (host.root / "boot").rglob("*.conf")}
    loader.write(OURS)
    assert {path: path.stat().st_ino for path in (host.root / "boot").rglob("*.conf")} == times


def test_an_entry_that_refers_to_the_environment_is_set_there(host: Grubbed) -> None:
    host.editenv(["grub2-editenv", "/boot/grub2/grubenv", "set", "kernelopts=root=UUID=1 ro a"])
    for path in (NEW, OLD):
        host.write(path, host.read(path).replace("options ", "options $kernelopts #").split("#")[0] + "\n")
    before = host.files()
    loader = Grubby(host.root, host.run)
    loader.write(OURS)
    assert host.kernelopts() == f"root=UUID=1 ro a {format_line(OURS)}"
    assert host.read(NEW).endswith("options $kernelopts \n")
    assert loader.read().ours == OURS
    loader.write(())
    assert host.files() == before


def test_the_same_argument_of_somebody_else_keeps_its_place(host: Grubbed) -> None:
    host.write(NEW, host.read(NEW).replace("options ", "options rcutree.x=1 "))
    before = host.files()
    loader = Grubby(host.root, host.run)
    loader.write(OURS)
    loader.write(())
    assert host.files() == before


def test_a_new_kernel_without_ours_is_healed(host: Grubbed) -> None:
    loader = Grubby(host.root, host.run)
    text = host.read(NEW)
    loader.write(OURS)
    after = host.read(NEW)
    host.write(NEW, text)
    assert loader.read().ours == ()
    loader.write(OURS)
    assert host.read(NEW) == after


def test_a_run_that_was_killed_between_two_entries_is_healed(host: Grubbed, monkeypatch: pytest.MonkeyPatch) -> None:
    loader, before = Grubby(host.root, host.run), host.files()
    loader.write(OURS)
    edited: list[Path] = []

    def killed(_loader: Grubby, path: Path, *_rest: object) -> None:
        edited.append(path)
        if len(edited) == 2:
            raise KeyboardInterrupt
        real(_loader, path, *_rest)

    real = Grubby._edit_entry
    monkeypatch.setattr(Grubby, "_edit_entry", killed)
    with pytest.raises(KeyboardInterrupt):
        loader.write(OURS[:1])
    monkeypatch.undo()
    assert conflicts(loader.read(), OURS) == ()
    loader.write(())
    assert host.files() == before


def test_a_line_that_has_ours_stays_as_it_is_when_others_come_behind(host: Grubbed) -> None:
    loader = Grubby(host.root, host.run)
    loader.write(OURS[:1])
    text = host.read(NEW).replace("isolcpus=domain,2-7", "isolcpus=domain,2-7 audit=1")
    host.write(NEW, text)
    loader.write(OURS[:1])
    assert host.read(NEW) == text


def test_what_others_have_changed_since_stays_changed(host: Grubbed) -> None:
    loader = Grubby(host.root, host.run)
    loader.write(OURS[:1])
    host.write(NEW, host.read(NEW).replace("no_timer_check isolcpus=domain,2-7", "isolcpus=domain,2-7 audit=1"))
    loader.write(())
    assert "options root=UUID=1  ro audit=1\n" in host.read(NEW)


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        (NEW, "no_timer_check", "isolcpus=9"),
        (OLD, "x=1", "isolcpus=9"),
        ("etc/default/grub", "no_timer_check", "isolcpus=9"),
    ],
)
def test_another_value_in_any_entry_is_a_conflict_that_names_the_file(
    host: Grubbed, path: str, old: str, new: str
) -> None:
    host.write(path, host.read(path).replace(old, new))
    found = conflicts(Grubby(host.root, host.run).read(), OURS)
    assert [(item.theirs, item.source) for item in found] == [("isolcpus=9", f"/{path}")]


def test_an_entry_without_a_line_to_edit_is_found_out(host: Grubbed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Grubby, "_edit_entry", lambda *_rest: None)
    with pytest.raises(FleetError, match=f"command line of /{re.escape(NEW)} is not as written: it lacks") as caught:
        Grubby(host.root, host.run).write(OURS)
    assert caught.value.code == "not_applied"


def test_no_entry_at_all_is_an_error() -> None:
    host = Host(Path("/nowhere"))
    host.commands["grubby"] = lambda _argv: Ran(0, "")
    with pytest.raises(FleetError, match="grubby lists no boot entry for a kernel"):
        Grubby(host.root, host.run).read()


@pytest.mark.parametrize("text", ["x='", "x=$y", "x=a;b"])
def test_an_argument_that_grub_cannot_hold_is_refused_before_anything_is_written(host: Grubbed, text: str) -> None:
    before = host.files()
    with pytest.raises(FleetError, match="cannot") as caught:
        Grubby(host.root, host.run).write(parse(text))
    assert caught.value.code == "bad_argument"
    assert host.files() == before
