# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Gives the module the host's name and address in the inventory, and keeps the snapshot part on the controller."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Controller side of the module host_info."""

    _supports_async = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module; write its part of the snapshot to a file if one is asked for."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = dict(self._task.args)
        directory = arguments.pop("snapshot_dir", None)
        arguments["host"] = arguments.get("host") or variables["inventory_hostname"]
        arguments["settings"] = with_uri(arguments.get("settings") or {}, variables)
        result.update(
            self._execute_module(
                "virtops.kvm_fleet.host_info",
                module_args=arguments,
                task_vars=task_vars,
                wrap_async=bool(self._task.async_val),
            )
        )
        if directory and "snapshot" in result:
            result["snapshot_file"] = write_part(Path(directory), arguments["host"], result.pop("snapshot"))
        return result


def with_uri(settings: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with the address by which other hypervisors reach this one."""
    address = variables.get("ansible_host") or variables["inventory_hostname"]
    migration = {"uri": f"qemu+ssh://root@{address}/system", **settings.get("migration", {})}
    return {**settings, "migration": migration}


def write_part(directory: Path, host: str, part: dict[str, Any]) -> str:
    """Write the part of one host, private and whole, and return the file's name."""
    target = directory / f"{host.replace(os.sep, '_')}.json"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=directory)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(part, stream)
        Path(scratch).rename(target)
    except OSError as error:
        raise AnsibleActionFail(f"Cannot write the snapshot of {host} to {target}: {error}") from error
    return str(target)
