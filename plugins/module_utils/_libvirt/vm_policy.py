# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The policies stored with VMs: read, change, read back.

A running VM and its definition have one each, with parts that rightly differ (``pinning`` and what follows from it).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from .._domain import Home, Policy, migration_mode, parse_domain
from .._errors import FleetError
from .api import translated
from .domains import get_each, live_xml, read_policy, states_of, write_policy
from .host import host_uuid
from .snapshot import host_name
from .undo import Undo, all_or_nothing

# The parts of a policy that are set here; `pinning` and what follows from it are those of `vm_pinning`.
_FIELDS = ("migration", "hosts", "home", "keep_apart", "keep_together", "priority", "hot_unplug")


def _stored(given: Any) -> object:
    return None if given == "default" else given


# What is stored of an option. A home is not here: it is what the host and the VM make it.
_STORED: Mapping[str, Callable[[Any], object]] = {
    "migration": _stored,
    "hosts": tuple,
    "keep_apart": frozenset,
    "keep_together": frozenset,
    "priority": _stored,
    "hot_unplug": _stored,
}


@dataclass(frozen=True)
class PolicyChange:
    """A VM's policy before and after, and the migration mode that follows from the latter.

    They are those of the running VM; if only its definition's changes, ``before`` and ``after`` are the definition's.
    """

    name: str
    before: Policy
    after: Policy
    migration: str

    @property
    def changed(self) -> bool:
        """Whether the VM gets another policy."""
        return self.before != self.after

    def as_dict(self) -> Dict[str, Any]:
        """Return the change as the module's result has it."""
        return {
            "name": self.name,
            "changed": self.changed,
            "policy": self.after.as_dict(),
            "migration": self.migration,
        }


@dataclass(frozen=True)
class _Plan:
    """The policies of one VM before and after, by the flags of the state they belong to."""

    domain: Any
    policies: Mapping[int, Tuple[Policy, Policy]]

    @property
    def change(self) -> PolicyChange:
        pairs = list(self.policies.values())
        before, after = next((pair for pair in pairs if pair[0] != pair[1]), pairs[0])
        mode = migration_mode(parse_domain(live_xml(self.domain)), after)
        return PolicyChange(str(self.domain.name()), before, after, mode)


def set_policies(
    conn: Any, wishes: Sequence[Mapping[str, Any]], host: Optional[str], check_mode: bool
) -> List[PolicyChange]:
    """Change what each wish gives of the module's options for the VM ``name``; the rest stays.

    ``host`` is the name of this host. What cannot be is refused before anything is written (``bad_policy``). All are
    changed or none: from the first write on an error carries ``rolled_back`` and ``not_rolled_back``.
    """
    domains = get_each(conn, [wish["name"] for wish in wishes])
    plans = [_plan(conn, domain, {**wish, "host": host}) for domain, wish in zip(domains, wishes)]
    changes = [plan.change for plan in plans]
    if not check_mode:
        with all_or_nothing() as undo:
            for plan in plans:
                _write(plan, undo)
    return changes


def _plan(conn: Any, domain: Any, wish: Mapping[str, Any]) -> _Plan:
    with translated(f"Reading the policy of VM {domain.name()}"):
        found = {flags: read_policy(domain, flags) for flags in states_of(domain)}
    changes = _changes(conn, domain, next(iter(found.values())), wish)
    try:
        return _Plan(domain, {flags: (policy, replace(policy, **changes)) for flags, policy in found.items()})
    except FleetError as error:
        message = f"VM {domain.name()} cannot get this policy: {error.msg}"
        raise FleetError(message, error.code, **{**error.facts, "vm": str(domain.name())}) from error


def _write(plan: _Plan, undo: Undo) -> None:
    name = str(plan.domain.name())
    for flags, (before, planned) in plan.policies.items():
        if planned == before:
            continue
        # What others have stored since the plan was made stays.
        with translated(f"Reading the policy of VM {name}"):
            now = read_policy(plan.domain, flags)
        wanted = replace(now, **{field: getattr(planned, field) for field in _FIELDS})
        undo.add(name, partial(write_policy, plan.domain, now, flags))
        write_policy(plan.domain, wanted, flags)
        with translated(f"Reading the policy of VM {name}"):
            found = read_policy(plan.domain, flags)
        if found != wanted:
            raise FleetError(
                f"libvirt keeps another policy for VM {name} than it was given; compare `wanted` and `found`.",
                "not_applied",
                vm=name,
                wanted=wanted.as_dict(),
                found=found.as_dict(),
            )


def _changes(conn: Any, domain: Any, before: Policy, wish: Mapping[str, Any]) -> Mapping[str, Any]:
    given = {field: wish[field] for field in _FIELDS if wish.get(field) is not None}
    changes: Dict[str, Any] = {field: _STORED[field](value) for field, value in given.items() if field in _STORED}
    if wish.get("home") == "none":
        changes["home"] = None
    elif wish.get("home") == "here":
        changes["home"] = _home_here(conn, domain, before, wish.get("host"))
    return changes


def _home_here(conn: Any, domain: Any, before: Policy, host: Any) -> Home:
    uuid = host_uuid(conn)
    if before.home is not None and before.home.uuid == uuid:
        return replace(before.home, name=host_name(conn, host))
    autostart = bool(domain.autostart()) if domain.isPersistent() else None
    return Home(uuid, host_name(conn, host), autostart, parse_domain(live_xml(domain)).own_pinning)
