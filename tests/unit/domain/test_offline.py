# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a VM that is off would stay behind."""

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import offline_blockers

VM = "<domain type='kvm'><name>db1</name>{os}<devices>{devices}</devices></domain>"


def disk(path: str, more: str = "") -> str:
    return f"<disk type='file' device='disk'><source file='{path}'/><target dev='vda'/>{more}</disk>"


def nvram(text: str) -> str:
    return f"<os><type>hvm</type>{text}</os>"


STAYS = [
    ("", disk("/local/a.img"), ["Migration without shared storage is unsafe (vda: /local/a.img)"]),
    (nvram("<nvram>/local/db1.fd</nvram>"), "", ["its UEFI variables are on this host (/local/db1.fd)"]),
    (
        nvram("<nvram type='file'><source file='/local/db1.fd'/></nvram>"),
        "",
        ["its UEFI variables are on this host (/local/db1.fd)"],
    ),
    ("", "<tpm model='tpm-crb'><backend type='emulator'/></tpm>", ["the state of its TPM is on this host"]),
    (
        "",
        "<tpm><backend type='emulator'><source type='dir' path='/local/tpm'/></backend></tpm>",
        ["the state of its TPM is on this host"],
    ),
]

TRAVELS = [
    ("", ""),
    ("", disk("/shared/a.img")),
    ("", disk("/local/cd.iso", "<readonly/>")),
    (nvram("<nvram>/shared/db1.fd</nvram>"), ""),
    (nvram("<nvram type='network'><source protocol='iscsi' name='iqn/0'/></nvram>"), ""),
    ("", "<tpm><backend type='emulator'><source type='dir' path='/shared/tpm'/></backend></tpm>"),
    ("", "<tpm><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>"),
]


def blockers(os: str, devices: str) -> list[str]:
    return list(offline_blockers(VM.format(os=os, devices=devices), lambda path: path.startswith("/shared/")))


@pytest.mark.parametrize(("os", "devices", "expected"), STAYS)
def test_what_lies_on_the_host_stays_behind(os: str, devices: str, expected: list[str]) -> None:
    assert blockers(os, devices) == expected


@pytest.mark.parametrize(("os", "devices"), TRAVELS)
def test_what_both_hosts_see_does_not_matter(os: str, devices: str) -> None:
    assert blockers(os, devices) == []


def test_everything_is_told_at_once() -> None:
    assert (
        len(blockers(nvram("<nvram>/local/x</nvram>"), disk("/local/a.img") + "<tpm><backend type='emulator'/></tpm>"))
        == 3
    )
