# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The question to the planner: JSON in, a value out."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .._errors import FleetError
from .fields import Fields
from .model import Host, Snapshot, Vm
from .weights import WEIGHTS

QUESTIONS = ("drain", "place", "refill", "rollout", "rebalance")
REFILLS = ("home", "leapfrog", "none")
# What is done about VMs that cannot move, where hosts are taken out of service.
PINNED = ("fail", "shutdown", "skip")
# What is done about VMs that are off: leave them, move them too, or move only them.
STOPPED = ("leave", "move", "only")

# Where the snapshot comes from is the caller's business; the planner accepts the keys and reads neither.
KEYS = ("version", "question", "hosts", "vms", "refill", "max_moves", "options", "snapshot", "snapshot_path")

DEFAULT_NODE_LIMIT = 20000
DEFAULT_MAX_AGE_S = 900
DEFAULT_CONCURRENCY = 2


@dataclass(frozen=True)
class Options:
    """Settings of one question.

    ``node_limit`` bounds each search. ``max_extra_moves`` bounds the moves beyond one for each VM of the question,
    ``None`` does not. ``weights`` are factors by the weights' names. ``concurrency`` is how many moves a host has at
    once, for estimates, ``service_s`` how long hosts of one wave are worked on, and ``max_hosts_down`` how many these
    are at most. ``pinned`` is one of ``PINNED``, ``stopped`` one of ``STOPPED``. ``max_age_s`` is for warnings only.
    """

    stay_in_pool: bool = True
    exclude_hosts: Tuple[str, ...] = ()
    move_manual: bool = True
    best_effort: bool = False
    node_limit: int = DEFAULT_NODE_LIMIT
    max_age_s: int = DEFAULT_MAX_AGE_S
    max_extra_moves: Optional[int] = None
    weights: Mapping[str, int] = field(default_factory=dict)
    concurrency: int = DEFAULT_CONCURRENCY
    service_s: int = 0
    max_hosts_down: Optional[int] = None
    pinned: str = "fail"
    stopped: str = "leave"


OPTIONS = tuple(each.name for each in fields(Options))


@dataclass(frozen=True)
class Request:
    """A question about hosts and VMs of a snapshot, which are resolved from names or UUIDs."""

    question: str
    hosts: Tuple[Host, ...] = ()
    vms: Tuple[Vm, ...] = ()
    refill: str = "none"
    max_moves: Optional[int] = None
    options: Options = Options()


def parse(data: Any, snapshot: Snapshot) -> Request:
    """Return the request in ``data``.

    Raises ``FleetError``: ``bad_request`` for wrong fields, ``unknown_host`` and ``unknown_vm`` for what the snapshot
    does not have.
    """
    given = Fields(data, "request", "bad_request")
    given.refuse_unknown(KEYS)
    if given.whole("version") not in (None, 1):
        raise given.wrong("version", "1")
    question = given.choice("question", QUESTIONS)
    if question is None:
        raise given.wrong("question", f"one of {', '.join(QUESTIONS)}")
    refill = given.choice("refill", REFILLS)
    request = Request(
        question=question,
        hosts=_distinct([find_host(snapshot, name, "hosts") for name in given.texts("hosts") or ()]),
        vms=_distinct([_find_vm(snapshot, name) for name in given.texts("vms") or ()]),
        refill=refill or _REFILLS.get(question, "none"),
        max_moves=given.whole("max_moves"),
        options=_options(given.child("options"), snapshot),
    )
    _check_subject(request, given)
    return request


# Plans of these are about VMs that run.
_OF_RUNNING_VMS = ("rollout", "rebalance")

# How a question refills hosts where the request does not say.
_REFILLS = {"refill": "home", "rollout": "leapfrog"}


def _check_subject(request: Request, given: Fields) -> None:
    """Refuse a request without a subject: an empty list is more often a broken inventory pattern than a wish."""
    wanted = "vms" if request.question == "place" else "hosts"
    if not getattr(request, wanted):
        raise given.wrong(wanted, f"a list with at least one entry for the question {request.question}")
    if request.question != "place" and request.vms:
        raise _misplaced("vms", "place", request.question)
    if request.question == "rebalance" and request.max_moves is None:
        raise given.wrong("max_moves", "a whole number for the question rebalance")
    if request.question != "rebalance" and request.max_moves is not None:
        raise _misplaced("max_moves", "rebalance", request.question)
    if request.options.stopped != "leave" and request.question in _OF_RUNNING_VMS:
        raise _misplaced("stopped", "drain, place or refill", request.question)
    if request.question == "refill" and request.refill == "leapfrog":
        text = (
            "request: refill leapfrog fills hosts with the VMs of those that are to be emptied next, so it is for the"
            " question rollout. Use home or none, or ask for a rollout."
        )
        raise FleetError(text, code="bad_request", field="refill")


def _misplaced(key: str, right: str, question: str) -> FleetError:
    text = f"request: {key} is for the question {right} only, not for {question}. Leave it out."
    return FleetError(text, code="bad_request", field=key)


def _options(given: Optional[Fields], snapshot: Snapshot) -> Options:
    if given is None:
        return Options()
    given.refuse_unknown(OPTIONS)
    excluded = [find_host(snapshot, name, "options: exclude_hosts") for name in given.texts("exclude_hosts") or ()]
    found: Dict[str, Any] = {
        "stay_in_pool": given.flag("stay_in_pool"),
        "exclude_hosts": tuple(sorted({host.name for host in excluded})),
        "move_manual": given.flag("move_manual"),
        "best_effort": given.flag("best_effort"),
        "node_limit": given.whole("node_limit"),
        "max_age_s": given.whole("max_age_s", "seconds"),
        "max_extra_moves": given.whole("max_extra_moves"),
        "weights": _weights(given.child("weights")),
        "concurrency": _positive(given, "concurrency"),
        "service_s": given.whole("service_s", "seconds"),
        "max_hosts_down": _positive(given, "max_hosts_down"),
        "pinned": given.choice("pinned", PINNED),
        "stopped": given.choice("stopped", STOPPED),
    }
    return replace(Options(), **{key: value for key, value in found.items() if value is not None})


def _positive(given: Fields, key: str) -> Optional[int]:
    value = given.whole(key)
    if value == 0:
        raise given.wrong(key, "at least 1")
    return value


def _weights(given: Optional[Fields]) -> Optional[Mapping[str, int]]:
    if given is None:
        return None
    given.refuse_unknown(tuple(WEIGHTS))
    return {name: factor for name in sorted(given.data) for factor in (given.whole(name),) if factor is not None}


def find_host(snapshot: Snapshot, reference: str, key: str) -> Host:
    """Return the host with a name or UUID; names win."""
    for key_of_host in ("name", "uuid"):
        for host in snapshot.hosts:
            if getattr(host, key_of_host) == reference:
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
