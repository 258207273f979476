# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every test needs: the collection at the path where Python and Ansible look for it."""

from __future__ import annotations

import os
import sys

from hypothesis import settings

from tests.tools.sync import BUILD, sync

sync()
sys.path.insert(0, str(BUILD))
os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(BUILD)

# A property holds or does not; how fast this machine is at the moment says nothing about it.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
