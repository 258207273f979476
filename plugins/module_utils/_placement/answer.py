# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The answer as values, and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .._domain import Following, Pinning
from .estimate import Bounds
from .reasons import Reason, counts_of, some_of_each

VERSION = 1


# Keys of a move that are left out where there is nothing to say.
_IF_ANY = ("following", "exclusive_cpus")


@dataclass(frozen=True)
class Move:
    """One live migration. ``migrate_uri`` is for the data stream.

    ``purpose`` is ``asked`` for VMs of the question, ``room`` for others that make room, ``detour`` for the first part
    of a way over a third host, and ``back`` for VMs that return when their host has been worked on.

    ``pins`` is ``None`` where the VM keeps its pins; with pins, ``following`` says which of them follow the host.
    ``exclusive_cpus`` are the CPUs that it has for itself there.
    """

    vm: str
    uuid: Optional[str]
    source: str
    destination: str
    destination_uuid: Optional[str]
    uri: Optional[str]
    migrate_uri: Optional[str]
    pins: Optional[Pinning]
    estimated_s: float
    purpose: str = "asked"
    following: Optional[Following] = None
    exclusive_cpus: Optional[str] = None

    def as_dict(self) -> Dict[str, Any]:
        result = {**vars(self), "pins": None if self.pins is None else self.pins.as_dict()}
        result["following"] = None if self.following is None else self.following.as_dict()
        return {key: value for key, value in result.items() if value is not None or key not in _IF_ANY}


@dataclass(frozen=True)
class StayingVm:
    """A VM that cannot move, and why."""

    vm: str
    uuid: Optional[str]
    reasons: Tuple[Reason, ...]

    def as_dict(self) -> Dict[str, Any]:
        return {**vars(self), "reasons": [reason.as_dict() for reason in self.reasons]}


@dataclass(frozen=True)
class Shutdown(StayingVm):
    """A VM that is shut down while its host is serviced, and starts there again when the host is back."""

    host: str
    priority: int


@dataclass(frozen=True)
class Skipped:
    """A host that is left out because of VMs on it that cannot move."""

    host: str
    vms: Tuple[StayingVm, ...]

    def as_dict(self) -> Dict[str, Any]:
        return {"host": self.host, "vms": [vm.as_dict() for vm in self.vms]}


@dataclass(frozen=True)
class Wave:
    """Hosts that are ready (empty, or refilled) after the steps; moves of one step are safe at once, in any order.

    ``shutdowns`` follow the steps; the VMs start again, in this order, when the hosts have been worked on.
    ``refill_steps`` come after that. ``estimated_s`` is for all moves and the service.
    """

    hosts: Tuple[str, ...]
    steps: Tuple[Tuple[Move, ...], ...]
    estimated_s: float = 0.0
    refill_steps: Tuple[Tuple[Move, ...], ...] = ()
    shutdowns: Tuple[Shutdown, ...] = ()

    @property
    def moves(self) -> Tuple[Move, ...]:
        return tuple(move for step in (*self.steps, *self.refill_steps) for move in step)

    def as_dict(self) -> Dict[str, Any]:
        return {
            "hosts": list(self.hosts),
            "steps": _steps(self.steps),
            "shutdowns": [item.as_dict() for item in self.shutdowns],
            "refill_steps": _steps(self.refill_steps),
            "estimated_s": self.estimated_s,
        }


def _steps(steps: Tuple[Tuple[Move, ...], ...]) -> List[Dict[str, Any]]:
    return [{"moves": [move.as_dict() for move in step]} for step in steps]


@dataclass(frozen=True)
class Unplaced:
    """A VM without a destination, with a reason for every host considered; of many hosts, for some of each code.

    ``rejected`` counts the hosts by the reason's code.
    """

    vm: str
    uuid: Optional[str]
    host: str
    reasons: Tuple[Reason, ...]

    def as_dict(self) -> Dict[str, Any]:
        return {
            "vm": self.vm,
            "uuid": self.uuid,
            "host": self.host,
            "reasons": [reason.as_dict() for reason in some_of_each(self.reasons)],
            "rejected": counts_of(self.reasons),
        }


@dataclass(frozen=True)
class Candidates:
    """Where one VM could go if it went alone: ``destinations`` best first, ``rejected`` with reasons."""

    vm: str
    uuid: Optional[str]
    host: str
    destinations: Tuple[str, ...]
    rejected: Tuple[Reason, ...]

    def as_dict(self) -> Dict[str, Any]:
        return {
            **vars(self),
            "destinations": list(self.destinations),
            "rejected": [reason.as_dict() for reason in some_of_each(self.rejected)],
            "rejected_hosts": counts_of(self.rejected),
        }


@dataclass(frozen=True)
class Shortage:
    """What VMs that each fit alone need together, and what the hosts they could go to have.

    ``proof`` is the resource of which there is too little in total, or ``None`` where only the pieces do not fit
    together. ``hosts`` are those with the most memory left, of ``hosts_count``.
    """

    vms: Tuple[str, ...]
    proof: Optional[str]
    needed: Dict[str, int]
    free: Dict[str, Optional[int]]
    hosts_count: int
    hosts: Tuple[Dict[str, Any], ...]

    def as_dict(self) -> Dict[str, Any]:
        return {
            "vms": list(self.vms),
            "proof": self.proof,
            "needed_kib": self.needed["memory_kib"],
            "free_kib": self.free["memory_kib"],
            "needed_vcpus": self.needed["vcpus"],
            "free_vcpus": self.free["vcpus"],
            "hosts_count": self.hosts_count,
            "hosts": [dict(host) for host in self.hosts],
        }


@dataclass(frozen=True)
class Totals:
    """What a plan needs; ``extra`` moves make room, are detours, or move a VM again."""

    moves: int
    waves: int
    seconds: float
    extra: int


@dataclass(frozen=True)
class Answer:
    """The plan.

    ``search`` is ``found``, ``exhausted`` (no complete plan exists) or ``limit`` (none was found within the effort).
    ``balance`` is the lowest and the highest memory load before and after a rebalance. ``skipped`` are hosts of the
    question that the plan leaves alone.
    """

    question: str
    waves: Tuple[Wave, ...]
    unplaced: Tuple[Unplaced, ...]
    bounds: Bounds
    totals: Totals
    search: str
    search_nodes: int
    shortage: Optional[Shortage] = None
    waves_gap_reason: Optional[str] = None
    loads: Tuple[Dict[str, Any], ...] = ()
    candidates: Tuple[Candidates, ...] = ()
    balance: Optional[Dict[str, Dict[str, float]]] = None
    skipped: Tuple[Skipped, ...] = ()
    warnings: Tuple[Dict[str, Any], ...] = ()

    @property
    def feasible(self) -> bool:
        """Whether every VM that has to move has a destination."""
        return not self.unplaced

    def _gap(self) -> Dict[str, Any]:
        """Return how much more than the bounds the plan needs; nothing where there is no whole plan."""
        if not self.feasible:
            return {"moves": None, "waves": None, "seconds": None}
        totals, bounds = self.totals, self.bounds
        seconds = round(max(0.0, totals.seconds - bounds.seconds), 1)
        return {"moves": totals.moves - bounds.moves, "waves": totals.waves - bounds.waves, "seconds": seconds}

    def as_dict(self) -> Dict[str, Any]:
        """Return the answer as JSON values, in the shape of ``docs/planner.md``."""
        return {
            "version": VERSION,
            "question": self.question,
            "feasible": self.feasible,
            "waves": [wave.as_dict() for wave in self.waves],
            "unplaced": [item.as_dict() for item in self.unplaced],
            "skipped": [item.as_dict() for item in self.skipped],
            "bounds": dict(vars(self.bounds)),
            "totals": dict(vars(self.totals)),
            "gap": self._gap(),
            "waves_gap_reason": self.waves_gap_reason,
            "search": self.search,
            "search_nodes": self.search_nodes,
            "shortage": None if self.shortage is None else self.shortage.as_dict(),
            "loads": [dict(load) for load in self.loads],
            "balance": self.balance,
            "candidates": [item.as_dict() for item in self.candidates],
            "warnings": [dict(warning) for warning in self.warnings],
        }


def counts(answer: Mapping[str, Any]) -> Dict[str, int]:
    """Return how many waves, steps, moves, shutdowns, unplaced VMs, skipped hosts and warnings an answer has."""
    steps = [step for wave in answer["waves"] for step in (*wave["steps"], *wave["refill_steps"])]
    return {
        "waves": len(answer["waves"]),
        "steps": len(steps),
        "moves": sum(len(step["moves"]) for step in steps),
        "shutdowns": sum(len(wave["shutdowns"]) for wave in answer["waves"]),
        "unplaced": len(answer["unplaced"]),
        "skipped": len(answer["skipped"]),
        "warnings": len(answer["warnings"]),
    }
