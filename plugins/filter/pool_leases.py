# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a run has the leases of its pools, for the role pool_lease."""

from __future__ import annotations

import time
from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.virtops.kvm_fleet.plugins.plugin_utils._pool_leases import Terms, verdict


def lease_verdict(
    answers: Any, asked: Any, wait_s: Any = 0, majority: Any = True, previous: Any = None
) -> dict[str, Any]:
    """Return what becomes of a run after it asked the hosts for their leases."""
    try:
        return verdict(answers, asked, Terms(time.time(), float(wait_s), bool(majority)), previous)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise AnsibleFilterError(f"lease_verdict needs what pool_lease returned on each host: {error!r}") from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., dict[str, Any]]]:
        """Return the filters by name."""
        return {"lease_verdict": lease_verdict}
