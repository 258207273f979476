# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The question to the planner: JSON in, a value out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Optional, Tuple

from .._errors import FleetError
from .fields import Fields
from .model import Host, Snapshot, Vm

QUESTIONS = ("drain", "place", "refill")
LATER_QUESTIONS = ("rollout", "rebalance")
REFILLS = ("home", "none")
LATER_REFILLS = ("leapfrog",)

# Where the snapshot comes from is the caller's business; the planner accepts the keys and reads neither.
KEYS = ("version", "question", "hosts", "vms", "refill", "max_moves", "options", "snapshot", "snapshot_path")

OPTIONS = ("stay_in_pool", "exclude_hosts", "move_manual", "best_effort", "node_limit", "max_age_s")

DEFAULT_NODE_LIMIT = 20000
DEFAULT_MAX_AGE_S = 900


@dataclass(frozen=True)
class Options:
    """Settings of one question; ``node_limit`` bounds each search, ``max_age_s`` is for warnings only."""

    stay_in_pool: bool = True
    exclude_hosts: Tuple[str, ...] = ()
    move_manual: bool = True
    best_effort: bool = False
    node_limit: int = DEFAULT_NODE_LIMIT
    max_age_s: int = DEFAULT_MAX_AGE_S


@dataclass(frozen=True)
class Request:
    """A question about hosts and VMs of a snapshot, which are resolved from names or UUIDs."""

    question: str
    hosts: Tuple[Host, ...] = ()
    vms: Tuple[Vm, ...] = ()
    refill: str = "none"
    options: Options = Options()


def parse(data: Any, snapshot: Snapshot) -> Request:
    """Return the request in ``data``.

    Raises ``FleetError``: ``bad_request`` for wrong fields, ``unsupported_question`` for one this release cannot
    answer, ``unknown_host`` and ``unknown_vm`` for what the snapshot does not have.
    """
    fields = Fields(data, "request", "bad_request")
    fields.refuse_unknown(KEYS)
    if fields.whole("version") not in (None, 1):
        raise fields.wrong("version", "1")
    question = _supported(fields, "question", QUESTIONS, LATER_QUESTIONS)
    if question is None:
        raise fields.wrong("question", f"one of {', '.join(QUESTIONS)}")
    refill = _supported(fields, "refill", REFILLS, LATER_REFILLS)
    if fields.whole("max_moves") is not None:
        raise FleetError(
            "request: max_moves belongs to the question rebalance, which this release does not answer. Leave it out.",
            code="bad_request",
            field="max_moves",
        )
    request = Request(
        question=question,
        hosts=_distinct([find_host(snapshot, name, "hosts") for name in fields.texts("hosts") or ()]),
        vms=_distinct([_find_vm(snapshot, name) for name in fields.texts("vms") or ()]),
        refill=refill or ("home" if question == "refill" else "none"),
        options=_options(fields.child("options"), snapshot),
    )
    _check_subject(request, fields)
    return request


def _supported(fields: Fields, key: str, now: Tuple[str, ...], later: Tuple[str, ...]) -> Optional[str]:
    value = fields.text(key)
    if value in later:
        raise FleetError(
            f"request: {key} '{value}' is not answered by this release. Supported are {', '.join(now)}.",
            code="unsupported_question",
            field=key,
            supported=list(now),
        )
    return fields.choice(key, now)


def _check_subject(request: Request, fields: Fields) -> None:
    """Refuse a request without a subject: an empty list is more often a broken inventory pattern than a wish."""
    wanted = "vms" if request.question == "place" else "hosts"
    if not getattr(request, wanted):
        raise fields.wrong(wanted, f"a list with at least one entry for the question {request.question}")
    if request.question != "place" and request.vms:
        raise FleetError(
            f"request: vms is for the question place only, not for {request.question}. Leave it out.",
            code="bad_request",
            field="vms",
        )


def _options(fields: Optional[Fields], snapshot: Snapshot) -> Options:
    if fields is None:
        return Options()
    fields.refuse_unknown(OPTIONS)
    excluded = [find_host(snapshot, name, "options: exclude_hosts") for name in fields.texts("exclude_hosts") or ()]
    limit, age = fields.whole("node_limit"), fields.whole("max_age_s", "seconds")
    stay, manual = fields.flag("stay_in_pool"), fields.flag("move_manual")
    return Options(
        stay_in_pool=True if stay is None else stay,
        exclude_hosts=tuple(sorted({host.name for host in excluded})),
        move_manual=True if manual is None else manual,
        best_effort=fields.flag("best_effort") or False,
        node_limit=DEFAULT_NODE_LIMIT if limit is None else limit,
        max_age_s=DEFAULT_MAX_AGE_S if age is None else age,
    )


def find_host(snapshot: Snapshot, reference: str, key: str) -> Host:
    """Return the host with a name or UUID; names win."""
    for field in ("name", "uuid"):
        for host in snapshot.hosts:
            if getattr(host, field) == reference:
                return host
    raise FleetError(
        f"request: {key} names {reference}, which is not in the snapshot. Collect a snapshot that includes the host.",
        code="unknown_host",
        host=reference,
        known=[host.name for host in snapshot.hosts][:20],
    )


def _find_vm(snapshot: Snapshot, reference: str) -> Vm:
    by_uuid = [vm for vm in snapshot.vms if vm.uuid == reference]
    found = by_uuid or [vm for vm in snapshot.vms if vm.name == reference]
    if not found:
        raise FleetError(
            f"request: vms names {reference}, which is not in the snapshot. Collect a snapshot of the host it runs on.",
            code="unknown_vm",
            vm=reference,
        )
    # A name is unique on one host only; where several match, a running one is meant if it is the only one.
    running = [vm for vm in found if vm.active] or found
    if len(running) > 1:
        hosts = [vm.host for vm in running]
        raise FleetError(
            f"request: vms names {reference}, which exists on {' and '.join(hosts)}. Give the UUID instead.",
            code="ambiguous_vm",
            vm=reference,
            hosts=hosts,
        )
    return running[0]


def _distinct(items: List[Any]) -> Tuple[Any, ...]:
    """Return the items without repetition, ordered by name: the answer must not depend on the order of the question."""
    unique = {item.name + "\0" + (item.uuid or ""): item for item in items}
    return tuple(unique[key] for key in sorted(unique))
