# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sets of CPU (or NUMA node) numbers between libvirt's notation and lists."""

from __future__ import annotations

import re
from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _topology
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError

_DIGITS = re.compile(r"[0-9]{1,9}\Z")


def cpuset_to_list(cpuset: Any) -> list[int]:
    """Return the numbers of a set such as ``0-3,8,^2`` in ascending order."""
    # YAML turns a set of a single number into that number
    text = str(cpuset) if isinstance(cpuset, int) and not isinstance(cpuset, bool) else cpuset
    if not isinstance(text, str):
        raise AnsibleFilterError(
            f"cpuset_to_list needs the text of a CPU set, not {cpuset!r}. Write it as in '0-3,8,^2'."
        )
    try:
        return sorted(_topology.parse_cpuset(text))
    except FleetError as error:
        raise AnsibleFilterError(f"cpuset_to_list: {error}") from error


def list_to_cpuset(numbers: Any) -> str:
    """Return a list of numbers as libvirt prints the set of them, for example ``0-1,3,8``."""
    if not isinstance(numbers, (list, tuple, set, frozenset)):
        raise AnsibleFilterError(
            f"list_to_cpuset needs a list of CPU numbers, not {numbers!r}. Write it as in [0, 1, 3]."
        )
    return _topology.format_cpuset(map(_number, numbers))


def _number(item: Any) -> int:
    """Return the number of a list's item, which a template may have made a text."""
    if isinstance(item, str) and _DIGITS.match(item):
        item = int(item)
    if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item < _topology.MAX_CPUS:
        largest = _topology.MAX_CPUS - 1
        raise AnsibleFilterError(
            f"list_to_cpuset: {item!r} is not the number of a CPU. Numbers are whole, from 0 to {largest}."
        )
    return item


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[[Any], Any]]:
        """Return the filters by name."""
        return {"cpuset_to_list": cpuset_to_list, "list_to_cpuset": list_to_cpuset}
