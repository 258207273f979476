# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans and tables as lines of text for ``debug``."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.virtops.kvm_fleet.plugins.plugin_utils import _plan_text


def plan_lines(plan: Any) -> list[str]:
    """Return an answer of ``placement_plan`` as lines."""
    try:
        return _plan_text.plan_lines(plan)
    except (KeyError, TypeError, AttributeError) as error:
        raise AnsibleFilterError(f"plan_lines needs the plan that placement_plan returns: {error!r}") from error


def unplaced_lines(plan: Any) -> list[str]:
    """Return what has no destination in an answer of ``placement_plan``, and why, as lines."""
    try:
        return _plan_text.unplaced_lines(plan)
    except (KeyError, TypeError, AttributeError) as error:
        raise AnsibleFilterError(f"unplaced_lines needs the plan that placement_plan returns: {error!r}") from error


def table_lines(rows: Any, columns: Any) -> list[str]:
    """Return mappings as an aligned table."""
    try:
        return _plan_text.table_lines(rows, columns)
    except (KeyError, TypeError, AttributeError) as error:
        raise AnsibleFilterError(f"table_lines needs a list of mappings and a list of columns: {error!r}") from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        """Return the filters by name."""
        return {"plan_lines": plan_lines, "table_lines": table_lines, "unplaced_lines": unplaced_lines}
