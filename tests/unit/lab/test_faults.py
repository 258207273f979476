# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from tests.lab import Lab, LabError


def test_the_clock_of_the_machine_itself_never_jumps() -> None:
    with pytest.raises(LabError, match="hv1 is no machine"):
        Lab("nosuch").faults.set_clock("hv1", 3600)
