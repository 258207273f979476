# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Groups of VMs that are kept apart or together: names without anything else to them."""

from __future__ import annotations

import re
from typing import Iterable

from .._errors import FleetError

# Who gives "db,web" as one name means two, which Ansible makes of that text but not of an item of a list. Spaces at the
# ends and control characters do not survive in XML.
GROUP_NAME_RULE = "not empty and without commas, control characters and spaces at the ends"

_REFUSED = re.compile("[,\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")


def is_group_name(name: str) -> bool:
    """Whether a group may have this name."""
    return bool(name) and name == name.strip() and not _REFUSED.search(name)


def check_groups(option: str, names: Iterable[str]) -> None:
    """Raise ``bad_policy`` (fact ``option``) if a group cannot have its name."""
    for name in sorted(names):
        if not is_group_name(name):
            raise FleetError(
                f"{option} has the group name {name!r}, but a group name is {GROUP_NAME_RULE}. "
                "Give a list with each group as an item, and an empty list for no group.",
                code="bad_policy",
                option=option,
            )
