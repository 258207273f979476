# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules that need no hypervisor, run as Ansible runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.tools.sync import BUILD


def run_module(module: str, directory: Path, check: bool = False, **options: Any) -> dict[str, Any]:
    """Run a module in a process of its own with ``directory`` as its current one; return its result."""
    arguments = {"ANSIBLE_MODULE_ARGS": {**options, "_ansible_check_mode": check, "_ansible_diff": True}}
    done = subprocess.run(
        [sys.executable, "-m", f"ansible_collections.virtops.kvm_fleet.plugins.modules.{module}"],
        input=json.dumps(arguments),
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(BUILD)},
        capture_output=True,
        text=True,
        check=False,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result
