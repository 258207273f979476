# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._vcpus import (
    GuestOs,
    Support,
    from_agent,
    from_metadata,
    support_of,
)

BOTH, PLUG, NONE = Support(True, True, True), Support(True, False, True), Support(False, False, True)


@pytest.mark.parametrize(
    ("os_id", "system"),
    [
        ("http://redhat.com/rhel/9.2", GuestOs("rhel", "9.2")),
        ("http://microsoft.com/win/2k19", GuestOs("win", "2k19")),
        ("https://archlinux.org/archlinux/rolling", GuestOs("archlinux", "rolling")),
        ("nonsense", None),
        ("", None),
        (None, None),
    ],
)
def test_libosinfo_ids_are_read(os_id: str | None, system: GuestOs | None) -> None:
    assert from_metadata(os_id) == system


@pytest.mark.parametrize(
    ("info", "system"),
    [
        ({"os.id": "debian", "os.version-id": "12"}, GuestOs("debian", "12")),
        ({"os.id": "mswindows", "os.version-id": "2019"}, GuestOs("win", "2k19")),
        ({"os.id": "mswindows", "os.version-id": "2008r2"}, GuestOs("win", "2k8r2")),
        ({"os.id": "mswindows", "os.version-id": "10"}, GuestOs("win", "10")),
        ({}, None),
    ],
)
def test_what_an_agent_tells_is_read(info: dict[str, str], system: GuestOs | None) -> None:
    assert from_agent(info) == system


@pytest.mark.parametrize(
    ("distribution", "version", "arch", "support"),
    [
        ("rhel", "9.2", "x86_64", BOTH),
        ("rhel", "6.2", "x86_64", NONE),
        ("centos", "7.0", "ppc64le", NONE),
        ("centos", "7.3", "ppc64le", BOTH),
        ("debian", "12", "x86_64", BOTH),
        ("archlinux", "rolling", "x86_64", BOTH),
        ("ubuntu", "22.04", "s390x", PLUG),
        ("rhel", "8.4", "s390x", PLUG),
        ("debian", "12", "aarch64", NONE),
        ("win", "2k19", "x86_64", PLUG),
        ("win", "2k25", "x86_64", PLUG),
        ("win", "2k8", "x86_64", NONE),
        ("win", "7", "i686", NONE),
        ("win", "8.1", "i686", PLUG),
        ("freebsd", "14.0", "x86_64", NONE),
        ("haiku", "r1", "x86_64", Support(True, True, False)),
    ],
)
def test_the_matrix(distribution: str, version: str, arch: str, support: Support) -> None:
    assert support_of(GuestOs(distribution, version), arch) == support


def test_of_an_unknown_system_only_the_architecture_decides() -> None:
    assert support_of(None, "x86_64") == Support(True, True, False)
    assert support_of(None, "aarch64") == NONE
