# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The answer as values, and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

from .._domain import Following, Pinning
from .estimate import Bounds
from .reasons import Reason

VERSION = 1


# Keys of a move that are left out where there is nothing to say.
_IF_ANY = ("following", "exclusive_cpus")


@dataclass(frozen=True)
class Move:
    """One live migration. ``migrate_uri`` is for the data stream.

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
    following: Optional[Following] = None
    exclusive_cpus: Optional[str] = None

    def as_dict(self) -> Dict[str, Any]:
        result = {**vars(self), "pins": None if self.pins is None else self.pins.as_dict()}
        result["following"] = None if self.following is None else self.following.as_dict()
        return {key: value for key, value in result.items() if value is not None or key not in _IF_ANY}


@dataclass(frozen=True)
class Wave:
    """Hosts that are ready (empty, or refilled) after the steps; moves of one step are safe at once, in any order."""

    hosts: Tuple[str, ...]
    steps: Tuple[Tuple[Move, ...], ...]

    def as_dict(self) -> Dict[str, Any]:
        return {
            "hosts": list(self.hosts),
            "steps": [{"moves": [move.as_dict() for move in step]} for step in self.steps],
        }


@dataclass(frozen=True)
class Unplaced:
    """A VM without a destination, with a reason for every host considered."""

    vm: str
    uuid: Optional[str]
    host: str
    reasons: Tuple[Reason, ...]

    def as_dict(self) -> Dict[str, Any]:
        return {**vars(self), "reasons": [reason.as_dict() for reason in self.reasons]}


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
            "rejected": [reason.as_dict() for reason in self.rejected],
        }


@dataclass(frozen=True)
class Shortage:
    """What VMs that each fit alone need together, and what the hosts they could go to have.

    ``proof`` is the resource of which there is too little in total, or ``None`` where only the pieces do not fit
    together.
    """

    vms: Tuple[str, ...]
    proof: Optional[str]
    needed: Dict[str, int]
    free: Dict[str, Optional[int]]
    hosts: Tuple[Dict[str, Any], ...]

    def as_dict(self) -> Dict[str, Any]:
        return {
            "vms": list(self.vms),
            "proof": self.proof,
            "needed_kib": self.needed["memory_kib"],
            "free_kib": self.free["memory_kib"],
            "needed_vcpus": self.needed["vcpus"],
            "free_vcpus": self.free["vcpus"],
            "hosts": [dict(host) for host in self.hosts],
        }


@dataclass(frozen=True)
class Answer:
    """The plan.

    ``search`` is ``found``, ``exhausted`` (no complete plan exists) or ``limit`` (none was found within the effort).
    """

    question: str
    waves: Tuple[Wave, ...]
    unplaced: Tuple[Unplaced, ...]
    bounds: Bounds
    search: str
    search_nodes: int
    shortage: Optional[Shortage] = None
    waves_gap_reason: Optional[str] = None
    loads: Tuple[Dict[str, Any], ...] = ()
    candidates: Tuple[Candidates, ...] = ()
    warnings: Tuple[Dict[str, Any], ...] = ()

    @property
    def feasible(self) -> bool:
        """Whether every VM of the question has a destination."""
        return not self.unplaced

    def as_dict(self) -> Dict[str, Any]:
        """Return the answer as JSON values, in the shape of ``docs/planner.md``."""
        return {
            "version": VERSION,
            "question": self.question,
            "feasible": self.feasible,
            "waves": [wave.as_dict() for wave in self.waves],
            "unplaced": [item.as_dict() for item in self.unplaced],
            "bounds": dict(vars(self.bounds)),
            "waves_gap_reason": self.waves_gap_reason,
            "search": self.search,
            "search_nodes": self.search_nodes,
            "shortage": None if self.shortage is None else self.shortage.as_dict(),
            "loads": [dict(load) for load in self.loads],
            "candidates": [item.as_dict() for item in self.candidates],
            "warnings": [dict(warning) for warning in self.warnings],
        }


def counts(answer: Mapping[str, Any]) -> Dict[str, int]:
    """Return how many waves, steps, moves, unplaced VMs and warnings an answer (JSON) has."""
    steps = [step for wave in answer["waves"] for step in wave["steps"]]
    return {
        "waves": len(answer["waves"]),
        "steps": len(steps),
        "moves": sum(len(step["moves"]) for step in steps),
        "unplaced": len(answer["unplaced"]),
        "warnings": len(answer["warnings"]),
    }
