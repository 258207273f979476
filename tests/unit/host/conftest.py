# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.paths import HostPaths


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    """A host's directories as its packages leave them."""
    (tmp_path / "var/lib/kvm_fleet").mkdir(parents=True)
    (tmp_path / "etc/libvirt").mkdir(parents=True)
    (tmp_path / "proc").mkdir()
    return HostPaths(tmp_path)
