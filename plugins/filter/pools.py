# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answers about CPU pools as lines of text for ``debug``."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.virtops.kvm_fleet.plugins.plugin_utils import _pool_text


def pool_lines(answer: Any) -> list[str]:
    """Return an answer of ``cpu_pool_plan`` as lines."""
    try:
        return _pool_text.pool_lines(answer)
    except (KeyError, TypeError, AttributeError) as error:
        raise AnsibleFilterError(f"pool_lines needs what cpu_pool_plan returns: {error!r}") from error


def refusal_lines(answer: Any) -> list[str]:
    """Return what an answer of ``cpu_pool_plan`` refuses as lines."""
    try:
        return _pool_text.refusal_lines(answer)
    except (KeyError, TypeError, AttributeError) as error:
        raise AnsibleFilterError(f"refusal_lines needs what cpu_pool_plan returns: {error!r}") from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        """Return the filters by name."""
        return {"pool_lines": pool_lines, "refusal_lines": refusal_lines}
