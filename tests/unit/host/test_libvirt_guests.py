# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What libvirt-guests would do at shutdown and at boot, read as its script would."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.libvirt_guests import (
    LibvirtGuests,
    read_libvirt_guests,
)

UNIT = "usr/lib/systemd/system/libvirt-guests.service"
WANTED = "etc/systemd/system/multi-user.target.wants/libvirt-guests.service"
LIST = "var/lib/libvirt/libvirt-guests"
A, B = "1452c70e-3f2a-54f1-9de6-1ef85527f4dc", "c1e1e8a4-5f0c-4d1c-9a55-0e2f0b8f7a11"

# Debian 13 patches the defaults in the script.
DEBIAN = """\
initconfdir="/etc/default"
URIS="default"
ON_BOOT="ignore"
ON_SHUTDOWN="shutdown"
SHUTDOWN_TIMEOUT=300
test -f "$initconfdir"/libvirt-guests &&
    . "$initconfdir"/libvirt-guests
if [ "x$ON_BOOT" != xstart ]; then
"""


def write(root: Path, name: str, text: str = "") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def link(root: Path, name: str, target: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).symlink_to(target)


def test_host_without_the_service(tmp_path: Path) -> None:
    assert read_libvirt_guests(tmp_path) == LibvirtGuests(None, "start", "suspend", 300, ())


def test_defaults_are_those_of_the_installed_script(tmp_path: Path) -> None:
    write(tmp_path, "usr/lib/libvirt/libvirt-guests.sh", DEBIAN)
    found = read_libvirt_guests(tmp_path)
    assert (found.on_boot, found.on_shutdown, found.shutdown_timeout_s) == ("ignore", "shutdown", 300)


@pytest.mark.parametrize("folder", ["etc/default", "etc/sysconfig", "etc/conf.d"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("ignore", "shutdown", 300)),
        ("#ON_BOOT=start\n # ON_SHUTDOWN=suspend\n", ("ignore", "shutdown", 300)),
        ("ON_BOOT=start\nON_SHUTDOWN=suspend\nSHUTDOWN_TIMEOUT=0\n", ("start", "suspend", 0)),
        ("ON_BOOT='start'  # as before\nexport ON_SHUTDOWN=\"suspend\"\n", ("start", "suspend", 300)),
        ("ON_BOOT=start\nON_BOOT=ignore\n", ("ignore", "shutdown", 300)),
        ("NOT_ON_BOOT=start\nSHUTDOWN_TIMEOUT=long\n", ("ignore", "shutdown", None)),
        ("ON_BOOT='start\n", ("'start", "shutdown", 300)),
    ],
)
def test_configuration_is_read_as_a_shell_does(
    tmp_path: Path, folder: str, text: str, expected: tuple[str, str, int | None]
) -> None:
    write(tmp_path, "usr/libexec/libvirt-guests.sh", DEBIAN)
    write(tmp_path, f"{folder}/libvirt-guests", text)
    found = read_libvirt_guests(tmp_path)
    assert (found.on_boot, found.on_shutdown, found.shutdown_timeout_s) == expected


def test_service_is_enabled_by_a_link(tmp_path: Path) -> None:
    write(tmp_path, UNIT)
    assert read_libvirt_guests(tmp_path).enabled is False
    link(tmp_path, WANTED, f"/{UNIT}")
    assert read_libvirt_guests(tmp_path).enabled is True


def test_masked_service_is_not_enabled_whatever_links_to_it(tmp_path: Path) -> None:
    write(tmp_path, UNIT)
    link(tmp_path, WANTED, f"/{UNIT}")
    link(tmp_path, "etc/systemd/system/libvirt-guests.service", "/dev/null")
    assert read_libvirt_guests(tmp_path).enabled is False


def test_service_of_an_init_without_systemd_is_enabled_by_its_runlevels(tmp_path: Path) -> None:
    write(tmp_path, "etc/init.d/libvirt-guests")
    link(tmp_path, "etc/rc0.d/K01libvirt-guests", "../init.d/libvirt-guests")
    assert read_libvirt_guests(tmp_path).enabled is False
    link(tmp_path, "etc/rc2.d/S01libvirt-guests", "../init.d/libvirt-guests")
    assert read_libvirt_guests(tmp_path).enabled is True


@pytest.mark.parametrize(
    ("config", "enabled", "listed", "resumes"),
    [
        ("ON_BOOT=start\n", True, (A, B), (A, B)),
        ("ON_BOOT=ignore\n", True, (A, B), ()),
        ("ON_BOOT=start\n", False, (A, B), ()),
        ("ON_BOOT=start\nURIS='lxc:///system default'\n", True, (A, B, "c"), (A, B, "c")),
        ("ON_BOOT=start\nURIS=xen:///system\n", True, (), ()),
    ],
)
def test_vms_that_were_stopped_and_not_started_again_are_resumed(
    tmp_path: Path, config: str, enabled: bool, listed: tuple[str, ...], resumes: tuple[str, ...]
) -> None:
    write(tmp_path, UNIT)
    if enabled:
        link(tmp_path, WANTED, f"/{UNIT}")
    write(tmp_path, "etc/default/libvirt-guests", config)
    write(tmp_path, LIST, f"default {A} {B}\n\nlxc:///system c\n")
    found = read_libvirt_guests(tmp_path)
    assert (found.listed, found.resumes) == (listed, resumes)


def test_result_names_the_vms_that_are_known() -> None:
    guests = LibvirtGuests(True, "start", "shutdown", 300, (A, B))
    assert guests.as_dict({A: "a"}) == {
        "enabled": True,
        "on_boot": "start",
        "on_shutdown": "shutdown",
        "shutdown_timeout_s": 300,
        "resumes": [{"name": "a", "uuid": A}, {"name": None, "uuid": B}],
    }
