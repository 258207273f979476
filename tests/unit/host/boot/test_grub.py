# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules of the GRUB backend, with settings that a real shell reads."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot.cmdline import (
    arguments,
    format_line,
    parse,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot.config import conflicts
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot.grub import Grub, config_file
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.command import Ran

from tests.unit.host.boot.fakes import DATA, Host, debian, suse

OURS = arguments(["isolcpus=managed_irq,domain,2-7", "nohz_full=2-7"])
# Everything that the shell, GRUB's language or the kernel could take for something else.
HARD = arguments(
    [
        "hugepagesz=2M", "hugepages=4", "hugepagesz=1G", "hugepages=4", "nosmt", "empty=", "rcutree.kthread_prio=2",
        'dyndbg="file a/* +p; $HOME {x} `id` #y"', "x=$(id)", "y=a;b&c|d", "z=*?[a]!",
    ]
)  # fmt: skip
DROP_IN = "etc/default/grub.d/zz-kvm_fleet.cfg"
CONFIG = "boot/grub/grub.cfg"


@pytest.fixture(params=[debian, suse])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    make: Callable[[Path], Host] = request.param
    return make(tmp_path)


@pytest.fixture
def on_debian(tmp_path: Path) -> Host:
    return debian(tmp_path)


def line(host: Host) -> str:
    return format_line(Grub(host.root, host.run).read().arguments)


@pytest.mark.parametrize("ours", [OURS, HARD])
def test_ours_come_behind_what_is_there_and_removing_them_restores_every_byte(host: Host, ours: tuple) -> None:
    loader, before = Grub(host.root, host.run), host.files()
    others = loader.read().others
    loader.write(ours)
    config = loader.read()
    assert (config.others, config.ours) == (others, ours)
    loader.write(())
    assert host.files() == before


def test_ours_are_no_conflict_with_another_value_of_ours(host: Host) -> None:
    loader = Grub(host.root, host.run)
    loader.write(OURS)
    assert conflicts(loader.read(), arguments(["isolcpus=4", "nohz_full=4"])) == ()


def test_files_that_grub_mkconfig_does_not_read_count_for_nothing(tmp_path: Path) -> None:
    host = suse(tmp_path)
    host.write("etc/default/grub.d/x.cfg", 'GRUB_CMDLINE_LINUX_DEFAULT="isolcpus=9"\n')
    assert conflicts(Grub(host.root, host.run).read(), OURS) == ()


@pytest.mark.parametrize("ending", ["", "\n", "\n\n", "\n# BEGIN something\n"])
def test_a_block_in_a_file_is_taken_out_to_the_letter(tmp_path: Path, ending: str) -> None:
    host = suse(tmp_path)
    text = f'# Keep me\n\n  GRUB_CMDLINE_LINUX_DEFAULT="a  b"{ending}'
    host.write("etc/default/grub", text).chmod(0o640)
    loader = Grub(host.root, host.run)
    loader.write(OURS)
    loader.write(HARD)
    assert host.read("etc/default/grub").startswith(text)
    assert host.read("etc/default/grub").count("# BEGIN virtops.kvm_fleet") == 1
    loader.write(())
    assert host.read("etc/default/grub") == text
    assert (tmp_path / "etc/default/grub").stat().st_mode & 0o777 == 0o640


def test_a_link_to_the_settings_stays_a_link(tmp_path: Path) -> None:
    host = suse(tmp_path)
    (tmp_path / "etc/default/grub").rename(tmp_path / "etc/grub.real")
    (tmp_path / "etc/default/grub").symlink_to(tmp_path / "etc/grub.real")
    Grub(host.root, host.run).write(OURS)
    assert (tmp_path / "etc/default/grub").is_symlink()
    assert "isolcpus" in host.read("etc/grub.real")


def test_recovery_entries_stay_clean(on_debian: Host) -> None:
    Grub(on_debian.root, on_debian.run).write(OURS)
    lines = [text for text in on_debian.read(CONFIG).splitlines() if "\tlinux" in text]
    assert [("isolcpus" in text, " single " in text) for text in lines] == [(True, False), (False, True)] * 2


def test_a_second_write_runs_nothing(host: Host) -> None:
    loader = Grub(host.root, host.run)
    loader.write(OURS)
    runs = len(host.runs)
    loader.write(OURS)
    assert len(host.runs) == runs


@pytest.mark.parametrize("wanted", [OURS, (), OURS[:1], arguments(["nohz_full=2"])])
def test_a_run_that_was_killed_before_grub_cfg_was_written_is_healed(on_debian: Host, wanted: tuple) -> None:
    loader = Grub(on_debian.root, on_debian.run)
    loader.write(OURS)
    real = on_debian.commands["update-grub"]

    def killed(_argv: object) -> Ran:
        raise KeyboardInterrupt

    on_debian.commands["update-grub"] = killed
    for ours in (arguments(["nohz_full=4"]), wanted):
        with pytest.raises(KeyboardInterrupt):
            loader.write(ours)
    # What is in grub.cfg is still known for ours, so it is no conflict.
    assert loader.read().ours == OURS
    on_debian.commands["update-grub"] = real
    loader.write(wanted)
    assert loader.read().ours == wanted
    assert (on_debian.root / DROP_IN).exists() is bool(wanted)


def test_a_run_that_fails_leaves_the_settings_as_they_were_and_tells_the_tools_words(on_debian: Host) -> None:
    before = on_debian.files("etc", "boot")
    on_debian.commands["update-grub"] = lambda _argv: Ran(1, "", "Generating\ncannot create grub.cfg.new: Read-only")
    with pytest.raises(FleetError, match=r"Cannot write /boot/grub/grub\.cfg: .*Read-only") as caught:
        Grub(on_debian.root, on_debian.run).write(OURS)
    assert caught.value.code == "command_failed"
    assert on_debian.files("etc", "boot") == before


def test_a_file_that_is_read_later_and_overrides_ours_is_found_out(on_debian: Host) -> None:
    on_debian.write("etc/default/grub.d/zzz.cfg", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\n')
    with pytest.raises(FleetError, match="it lacks isolcpus=managed_irq,domain,2-7 nohz_full=2-7") as caught:
        Grub(on_debian.root, on_debian.run).write(OURS)
    assert caught.value.code == "not_applied"
    assert not (on_debian.root / DROP_IN).exists()
    assert not (on_debian.root / "var/lib/kvm_fleet/kernel_arguments.json").exists()


def test_what_the_kernel_would_leave_to_init_is_not_applied(on_debian: Host) -> None:
    on_debian.write("etc/default/grub.d/60.cfg", 'GRUB_CMDLINE_LINUX="-- x"\n')
    with pytest.raises(FleetError, match="it lacks isolcpus"):
        Grub(on_debian.root, on_debian.run).write(OURS)
    assert "isolcpus" not in on_debian.read(CONFIG)


def test_an_argument_that_grub_cannot_hold_is_refused_before_anything_is_written(on_debian: Host) -> None:
    before = on_debian.files()
    with pytest.raises(FleetError, match="GRUB cannot give the kernel"):
        Grub(on_debian.root, on_debian.run).write(arguments(["x=it's"]))
    assert (on_debian.files(), on_debian.runs) == (before, [])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('GRUB_CMDLINE_LINUX="isolcpus=1"', "1"),
        ("export GRUB_CMDLINE_LINUX_DEFAULT='quiet isolcpus=1' # why", "1"),
        ('GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT isolcpus=1"', "1"),
        ('GRUB_CMDLINE_LINUX_DEFAULT="isolcpus=1"\nGRUB_CMDLINE_LINUX_DEFAULT+=" a"', "1"),
        ('GRUB_CMDLINE_LINUX="a \\\n isolcpus=1"', "1"),
        ('GRUB_CMDLINE_LINUX="isolcpus=1"\nGRUB_CMDLINE_LINUX=""', None),
        ('#GRUB_CMDLINE_LINUX="isolcpus=1"', None),
        ('GRUB_CMDLINE_XEN="isolcpus=1"', None),
        # The shell alone knows; grub.cfg will show it.
        ('GRUB_CMDLINE_LINUX="isolcpus=$(nproc)"', None),
        ('GRUB_CMDLINE_LINUX="isolcpus=1', None),
    ],
)
def test_a_setting_that_grub_cfg_has_not_taken_over_yet_is_a_conflict_too(
    on_debian: Host, text: str, value: str | None
) -> None:
    on_debian.write("etc/default/grub.d/70-other.cfg", text + "\n")
    found = conflicts(Grub(on_debian.root, on_debian.run).read(), OURS)
    assert [item.theirs for item in found] == ([f"isolcpus={value}"] if value else [])
    assert all(item.source == "/etc/default/grub.d/70-other.cfg" for item in found)


def test_what_the_shell_expands_is_read_from_grub_cfg(on_debian: Host) -> None:
    on_debian.write("etc/default/grub.d/70-other.cfg", 'GRUB_CMDLINE_LINUX="isolcpus=$(echo 1)"\n')
    on_debian.run(["update-grub"])
    found = conflicts(Grub(on_debian.root, on_debian.run).read(), OURS)
    assert [(item.theirs, item.source) for item in found] == [("isolcpus=1", "/etc/grub.d/10_linux")]


def test_ours_without_a_record_are_known_by_our_file(on_debian: Host) -> None:
    loader = Grub(on_debian.root, on_debian.run)
    loader.write(HARD)
    shutil.rmtree(on_debian.root / "var/lib/kvm_fleet")
    assert loader.read().ours == HARD
    loader.write(())
    assert line(on_debian) == "root=/dev/vda ro console=tty0 console=ttyS0,115200"


def test_arguments_of_tuned_are_somebody_elses(on_debian: Host) -> None:
    on_debian.write(CONFIG, (DATA / "debian13_tuned_grub.cfg").read_text())
    on_debian.write("etc/tuned/bootcmdline", (DATA / "debian13_tuned_bootcmdline").read_text())
    config = Grub(on_debian.root, on_debian.run).read()
    assert config.sources["nohz_full"] == "/etc/tuned/bootcmdline"
    assert config.sources["ro"] == "/etc/grub.d/10_linux"
    assert config.sources["console"] == "/etc/default/grub.d/50-cloudimg.cfg"


def test_a_kernel_without_ours_means_that_they_are_not_there(on_debian: Host) -> None:
    loader = Grub(on_debian.root, on_debian.run)
    loader.write(OURS)
    text = on_debian.read(CONFIG)
    head, tail = text.rsplit(" isolcpus=managed_irq,domain,2-7", 1)
    on_debian.write(CONFIG, head + tail)
    assert loader.read().ours == OURS[1:]
    loader.write(OURS)
    assert on_debian.read(CONFIG) == text


def test_entries_of_other_systems_do_not_count(on_debian: Host) -> None:
    other = "### BEGIN /etc/grub.d/30_os-prober ###\nmenuentry 'x' {\n linux /boot/vmlinuz isolcpus=9\n}\n"
    on_debian.write(CONFIG, on_debian.read(CONFIG) + other)
    loader = Grub(on_debian.root, on_debian.run)
    assert conflicts(loader.read(), OURS) == ()


def test_a_grub_cfg_without_sections_is_taken_whole(on_debian: Host) -> None:
    on_debian.write(CONFIG, "menuentry 'Linux' {\n  linux /vmlinuz root=/dev/vda1 ro\n}\n")
    assert line(on_debian) == "root=/dev/vda1 ro"


def test_variables_of_the_environment_are_replaced(on_debian: Host) -> None:
    on_debian.write(CONFIG, "load_env\nmenuentry 'Linux' {\n  linux /vmlinuz ro $more\n}\n")
    on_debian.write("boot/grub/grubenv", "# GRUB Environment Block\nmore=isolcpus=9\n####")
    assert line(on_debian) == "ro isolcpus=9"


def test_a_grub_cfg_without_linux_is_an_error(on_debian: Host) -> None:
    on_debian.write(CONFIG, "menuentry 'Firmware' {\n  fwsetup\n}\n")
    with pytest.raises(FleetError, match=r"/boot/grub/grub\.cfg has no entry that boots Linux") as caught:
        Grub(on_debian.root, on_debian.run).read()
    assert caught.value.code == "bad_boot_config"


@pytest.mark.parametrize(
    ("program", "booted_by_efi", "real", "stub", "chosen"),
    [
        ("update-grub", False, ["boot/grub"], [], "boot/grub"),
        ("update-grub", True, ["boot/grub"], ["boot/efi/EFI/debian"], "boot/grub"),
        ("update-grub", True, [], ["boot/efi/EFI/debian"], None),
        ("grub2-mkconfig", False, ["boot/grub", "boot/grub2"], [], "boot/grub2"),
        ("grub-mkconfig", False, ["boot/grub", "boot/grub2"], [], "boot/grub"),
        ("grub2-mkconfig", True, ["boot/grub2"], ["boot/efi/EFI/suse"], "boot/grub2"),
        ("grub2-mkconfig", True, ["boot/efi/EFI/redhat"], ["boot/grub2"], "boot/efi/EFI/redhat"),
        # Left over on the EFI partition of a host that was booted by its BIOS.
        ("grub2-mkconfig", False, ["boot/grub2", "boot/efi/EFI/redhat"], [], "boot/grub2"),
    ],
)
def test_the_grub_cfg_that_boots_is_found(
    tmp_path: Path, program: str, booted_by_efi: bool, real: list[str], stub: list[str], chosen: str | None
) -> None:
    host = Host(tmp_path)
    host.write(f"usr/sbin/{program}", "")
    if booted_by_efi:
        (tmp_path / "sys/firmware/efi").mkdir(parents=True)
    for directory in real:
        host.write(f"{directory}/grub.cfg", "menuentry 'x' {\n}\n")
    for directory in stub:
        host.write(
            f"{directory}/grub.cfg", "search.fs_uuid 1 root\nset prefix=($root)'/x'\nconfigfile $prefix/grub.cfg\n"
        )
    found = config_file(tmp_path)
    assert (found and str(found.parent.relative_to(tmp_path))) == chosen


def test_without_update_grub_the_file_is_named_to_grub_mkconfig(tmp_path: Path) -> None:
    host = suse(tmp_path)
    Grub(host.root, host.run).write(parse("a"))
    assert host.runs == [["grub2-mkconfig", "-o", "/boot/grub2/grub.cfg"]]
