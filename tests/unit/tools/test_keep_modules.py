# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Playbooks that run one after the other share what one of them has built."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PLUGINS = Path(__file__).parents[2] / "integration/callback_plugins"
MODULE = """
from ansible.module_utils.basic import AnsibleModule
AnsibleModule({{}}).exit_json(msg={text!r})
"""
PLAY = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [{"said": {}}]}]


def said(folder: Path, text: str, kept: Path) -> bool:
    """Whether a playbook says the text of the module that is beside it now."""
    (folder / "library").mkdir(exist_ok=True)
    (folder / "library/said.py").write_text(MODULE.format(text=text))
    (folder / "play.json").write_text(json.dumps(PLAY))
    environment = {
        **os.environ,
        "ANSIBLE_CALLBACK_PLUGINS": str(PLUGINS),
        "ANSIBLE_CALLBACKS_ENABLED": "keep_modules",
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "KEEP_MODULES": str(kept),
    }
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [program, "-v", "-i", "localhost,", folder / "play.json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return text in done.stdout


def test_a_module_is_built_once_for_all_runs_that_name_one_folder(tmp_path: Path) -> None:
    assert said(tmp_path, "first", tmp_path / "kept")
    assert not said(tmp_path, "second", tmp_path / "kept")
    assert said(tmp_path, "second", tmp_path / "other")
