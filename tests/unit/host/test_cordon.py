# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules for libvirt's answers in maintenance: which errors mean that a driver is not there."""

from __future__ import annotations

from typing import Optional

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt import cordon


@pytest.mark.parametrize(
    ("code", "message", "absent"),
    [
        (5, "no connection driver available for lxc:///system", True),
        (38, "Failed to connect socket to '/var/run/libvirt/virtlxcd-sock': No such file or directory", True),
        (1, "internal error: lxc state driver is not active", True),
        # A daemon that does not answer may have left domains behind.
        (38, "Failed to connect socket to '/var/run/libvirt/virtlxcd-sock': Connection refused", False),
        (45, "authentication failed: polkit", False),
        (1, "internal error: client socket is closed", False),
        (None, "Opening lxc:///system: no answer within 30 seconds.", False),
    ],
)
def test_only_a_driver_that_is_not_there_is_passed_over(code: Optional[int], message: str, absent: bool) -> None:
    assert cordon.driver_is_absent(code, message) is absent
