# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The policy stored with a VM: read, change, read back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, Mapping

from .._domain import Home, Policy, migration_mode, parse_domain
from .._errors import FleetError
from .domains import get, live_xml, read_policy, write_policy
from .home import pinning_at_home
from .host import host_uuid
from .snapshot import host_name


@dataclass(frozen=True)
class PolicyChange:
    """A VM's policy before and after, and the migration mode that follows from the latter."""

    name: str
    before: Policy
    after: Policy
    migration: str


def set_policy(conn: Any, params: Mapping[str, Any], check_mode: bool) -> PolicyChange:
    """Change what ``params`` gives of ``migration``, ``hosts`` and ``home``; the rest stays."""
    domain = get(conn, params["name"])
    name = domain.name()
    before = read_policy(domain)
    wanted = replace(before, **_changes(conn, domain, before, params))
    if wanted != before and not check_mode:
        write_policy(domain, wanted)
        found = read_policy(domain)
        if found != wanted:
            raise FleetError(
                f"libvirt keeps another policy for VM {name} than it was given; compare `wanted` and `found`.",
                "not_applied",
                wanted=wanted.as_dict(),
                found=found.as_dict(),
            )
    return PolicyChange(name, before, wanted, migration_mode(parse_domain(live_xml(domain)), wanted))


def _changes(conn: Any, domain: Any, before: Policy, params: Mapping[str, Any]) -> Mapping[str, Any]:
    changes: Dict[str, Any] = {}
    if params.get("migration") is not None:
        changes["migration"] = None if params["migration"] == "default" else params["migration"]
    if params.get("hosts") is not None:
        changes["hosts"] = tuple(params["hosts"])
    if params.get("home") == "none":
        changes["home"] = None
    elif params.get("home") == "here":
        changes["home"] = _home_here(conn, domain, before, params.get("host"))
    return changes


def _home_here(conn: Any, domain: Any, before: Policy, host: Any) -> Home:
    uuid = host_uuid(conn)
    if before.home is not None and before.home.uuid == uuid:
        return replace(before.home, name=host_name(conn, host))
    autostart = bool(domain.autostart()) if domain.isPersistent() else None
    return Home(uuid, host_name(conn, host), autostart, pinning_at_home(parse_domain(live_xml(domain)).pinning))
