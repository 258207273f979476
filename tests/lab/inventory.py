# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as an ordinary Ansible inventory."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Mapping, Optional, Union

from .kinds import Kind
from .spec import LabSpec

Value = Union[str, int, Mapping[str, "Value"]]


def inventory_text(spec: LabSpec, keys: Path, kind: Kind) -> str:
    """YAML text: group `hypervisors` with every host of the lab.

    `keys` holds the private key and known_hosts.
    """
    ssh = f"-o UserKnownHostsFile={keys}/known_hosts -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
    hosts: Dict[str, Value] = {}
    for name, options in spec.hosts.items():
        settings: Dict[str, Value] = {"link_mib_s": link_mib_s(options.link)}
        reserved = kind.reserved_kib(options)
        if reserved is not None:
            settings = {"reserved": {"memory_kib": reserved}, **settings}
        hosts[name] = {"ansible_host": spec.address(name), "kvm_fleet_settings": settings}
    common: Value = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": f"{keys}/id_ed25519",
        "ansible_ssh_common_args": ssh,
        "ansible_python_interpreter": "/usr/bin/python3",
        **kind.ansible_variables,
    }
    return "---\n" + to_yaml({"hypervisors": {"hosts": hosts, "vars": common}})


def link_mib_s(rate: Optional[str]) -> int:
    """Speed of a host's link for the planner, in MiB/s; a link without a limit counts as 10 Gbit/s."""
    amount, unit = (int((rate or "10gbit")[:-4]), (rate or "10gbit")[-4:])
    return max(1, amount * {"kbit": 10**3, "mbit": 10**6, "gbit": 10**9}[unit] // 8 // 2**20)


def to_yaml(value: Mapping[str, Value], indent: int = 0) -> str:
    """Nested mappings of strings and integers as block YAML; strings are quoted."""
    lines: List[str] = []
    for key, item in value.items():
        pad = " " * indent
        if isinstance(item, Mapping):
            lines.append(f"{pad}{key}:\n{to_yaml(item, indent + 2)}" if item else f"{pad}{key}: {{}}\n")
        elif isinstance(item, bool):
            lines.append(f"{pad}{key}: {str(item).lower()}\n")
        elif isinstance(item, int):
            lines.append(f"{pad}{key}: {item}\n")
        else:
            escaped = item.replace("\\", "\\\\").replace('"', '\\"')
            lines.append(f'{pad}{key}: "{escaped}"\n')
    return "".join(lines)
