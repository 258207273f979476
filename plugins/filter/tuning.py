# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wanted settings of VMs for the modules, and what came of them as lines of text."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _tuning
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError


def tuned_vms(vms: Any, profiles: Any, here: Any) -> dict[str, list[Any]]:
    """Return what the modules are to do for the VMs of one host."""
    try:
        return _tuning.tuned_vms(vms, profiles, here)
    except FleetError as error:
        raise AnsibleFilterError(error.msg) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise AnsibleFilterError(f"tuned_vms needs lists of VMs and a mapping of profiles: {error!r}") from error


def tuning_report(done: Any, planned: bool = False) -> dict[str, list[str]]:
    """Return what changed and what is still to be done."""
    try:
        return _tuning.tuning_report(done, planned)
    except (KeyError, TypeError, AttributeError) as error:
        raise AnsibleFilterError(f"tuning_report needs the VMs that the modules returned: {error!r}") from error


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"tuned_vms": tuned_vms, "tuning_report": tuning_report}
