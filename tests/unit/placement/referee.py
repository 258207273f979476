# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carry out an answer on paper, without any code of the planner: JSON in, violations as texts out.

All moves of a step are charged at both ends at once, which is the worst moment that the order within a step can bring.
A violation that the snapshot has already may stay, but none may be added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Amounts = tuple[float, float]

UNLIMITED = float("inf")
INACTIVE = ("shutoff",)
MOVABLE = ("running", "blocked", "paused", "pmsuspended", "idle", "nostate")


@dataclass(frozen=True)
class Verdict:
    """``places`` are the hosts of all VMs in the end, by the VMs' keys."""

    violations: tuple[str, ...]
    places: dict[str, str]


def judge(snapshot: Json, request: Json, answer: Json) -> Verdict:
    """Return what an answer does wrong, and where the VMs are afterwards."""
    game = _Game(Fleet(snapshot, request))
    game.check_skipped(answer)
    for number, wave in enumerate(answer["waves"], 1):
        game.play_wave(number, wave)
    return Verdict(tuple(game.violations), dict(game.places))


def key_of(vm: Json) -> str:
    return vm.get("uuid") or f"{vm['host']}/{vm['name']}"


def is_active(vm: Json) -> bool:
    return vm.get("state", "running") not in INACTIVE


def policy_of(vm: Json) -> Json:
    return vm.get("policy") or {}


def demand(vm: Json) -> Amounts:
    memory = (vm.get("memory_kib") or 0) + (vm.get("overhead_kib") or 0)
    return (memory, (vm.get("vcpus") or {}).get("current") or 0)


def capacity(host: Json) -> Amounts:
    reserved = host.get("reserved") or {}
    memory = host.get("memory_kib")
    vcpus = UNLIMITED
    if host.get("cells") and host.get("cpu_overcommit") is not None:
        cpus = {cpu for cell in host["cells"] for cpu in _cpus(cell["cpus"])} - _cpus(reserved.get("cpus") or "")
        vcpus = int(len(cpus) * host["cpu_overcommit"])
    return (UNLIMITED if memory is None else memory - (reserved.get("memory_kib") or 0), vcpus)


def _cpus(text: str) -> set[int]:
    ends = [part.split("-") for part in text.split(",") if part]
    return {cpu for first, *last in ends for cpu in range(int(first), int((last or [first])[0]) + 1)}


@dataclass
class Fleet:
    """The rules of a question about a fleet; ``serviced`` are hosts that a rollout has taken out of maintenance."""

    snapshot: Json
    request: Json
    serviced: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.hosts: dict[str, Json] = {host["name"]: host for host in self.snapshot["hosts"]}
        self.vms: dict[str, Json] = {key_of(vm): vm for vm in self.snapshot["vms"]}
        self.start = {key: vm["host"] for key, vm in self.vms.items()}
        self.options: Json = self.request.get("options") or {}
        self.asked_hosts = set(self.request.get("hosts") or ())

    def cannot_move(self, vm: Json, purpose: str) -> str | None:
        """Say why a VM may not move at all."""
        mode = policy_of(vm).get("migration", "automatic")
        if not is_active(vm) or vm.get("state", "running") not in MOVABLE:
            return "is in a state that does not migrate"
        if vm.get("blockers"):
            return "has blockers"
        if mode == "pinned":
            return "is pinned"
        asked = purpose != "room" and self.request["question"] != "rebalance"
        moves = asked and self.options.get("move_manual", True)
        return "moves by hand only" if mode == "manual" and not moves else None

    def is_fixed(self, vm: Json) -> bool:
        """Say whether a VM cannot move for a reason that ends when it is shut down."""
        return is_active(vm) and (policy_of(vm).get("migration") == "pinned" or bool(vm.get("blockers")))

    def may_be_shut_down(self, vm: Json) -> bool:
        runs = vm.get("state", "running") in ("running", "blocked")
        by_hand = policy_of(vm).get("migration") == "manual" and not self.options.get("move_manual", True)
        return self.options.get("pinned") == "shutdown" and runs and self.is_fixed(vm) and not by_hand

    def skipped(self) -> set[str]:
        """Return the hosts of the question that are to be left out."""
        if self.options.get("pinned") != "skip" or self.request["question"] not in ("drain", "rollout"):
            return set()
        return self.asked_hosts & {vm["host"] for vm in self.vms.values() if self.is_fixed(vm)}

    def forbids(self, vm: Json, source: str, target: str, draining: set[str]) -> str | None:
        """Say why a VM may never go to a host."""
        host, allowed = self.hosts[target], set(policy_of(vm).get("hosts") or ())
        names, excluded = {target, host.get("uuid")}, set(self.options.get("exclude_hosts") or ())
        in_service = target in self.serviced or not host.get("maintenance")
        in_pool = not self.options.get("stay_in_pool", True) or self.hosts[source].get("pool") == host.get("pool")
        rules = (
            (target != source, "is there already"),
            (in_service, "goes to a host in maintenance"),
            (target not in draining, "goes to a host that is to be empty"),
            (not names & excluded, "goes to an excluded host"),
            (not allowed or names & allowed, "goes to a host that its policy does not allow"),
            (in_pool, "leaves its pool"),
        )
        return next((text for is_kept, text in rules if not is_kept), None)

    def labels(self, vm: Json) -> set[tuple[str, str]]:
        """Return what a host can have once only."""
        groups = policy_of(vm).get("keep_apart") or () if is_active(vm) else ()
        return {("name", vm["name"]), *(("apart", group) for group in groups)}

    def groups(self) -> dict[str, set[str]]:
        """Return the keys of the active VMs of each group that is kept together."""
        found: dict[str, set[str]] = {}
        for key, vm in self.vms.items():
            for group in policy_of(vm).get("keep_together") or () if is_active(vm) else ():
                found.setdefault(group, set()).add(key)
        return found

    def residents(self, places: dict[str, set[str]], host: str) -> list[str]:
        return [key for key, hosts in places.items() if host in hosts]

    def load(self, places: dict[str, set[str]], host: str) -> Amounts:
        there = [demand(self.vms[key]) for key in self.residents(places, host) if is_active(self.vms[key])]
        return (sum(memory for memory, _vcpus in there), sum(vcpus for _memory, vcpus in there))


class _Game:
    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.places = dict(fleet.start)
        self.violations: list[str] = []
        self.whole = {group for group in fleet.groups() if self._is_whole(group)}

    def check_skipped(self, answer: Json) -> None:
        named, right = [item["host"] for item in answer.get("skipped", [])], self.fleet.skipped()
        if sorted(named) != sorted(right):
            self.violations.append(f"answer: skips {named} instead of {sorted(right)}")
        down = {host for wave in answer["waves"] for host in wave["hosts"]} & right
        self.violations += [f"answer: services {host}, which is to be skipped" for host in sorted(down)]

    def play_wave(self, number: int, wave: Json) -> None:
        fleet, question = self.fleet, self.fleet.request["question"]
        down = {"drain": fleet.asked_hosts - fleet.skipped(), "rollout": set(wave["hosts"])}
        emptied: set[str] = down.get(question, set())
        for count, step in enumerate(wave["steps"], 1):
            self._step(f"wave {number} step {count}", step["moves"], emptied)
        if question in ("drain", "rollout"):
            self._check_empty(number, wave)
        elif wave.get("shutdowns"):
            self.violations.append(f"wave {number}: shuts VMs down although no host is serviced")
        self._check_whole(f"wave {number}")
        if question == "rollout":
            fleet.serviced |= set(wave["hosts"])
        for count, step in enumerate(wave["refill_steps"], 1):
            self._step(f"wave {number} refill step {count}", step["moves"], set())
        self._check_whole(f"wave {number} refilled")

    def _step(self, when: str, moves: list[Json], draining: set[str]) -> None:
        at = {key: {host} for key, host in self.places.items()}
        arrivals: list[tuple[str, str]] = []
        for move in moves:
            key = self._find(move)
            if key is None or move["destination"] not in self.fleet.hosts:
                self.violations.append(f"{when}: {move['vm']} or its destination {move['destination']} is unknown")
                continue
            self._check_move(when, move, key, draining)
            if len(at[key]) > 1:
                self.violations.append(f"{when}: {move['vm']} moves twice")
            at[key].add(move["destination"])
            arrivals.append((key, move["destination"]))
        for key, host in arrivals:
            self.violations += [f"{when}: {host} {text}" for text in self._too_much(at, key, host)]
        self.places.update(arrivals)

    def _find(self, move: Json) -> str | None:
        if move["uuid"] is not None:
            return move["uuid"] if move["uuid"] in self.fleet.vms else None
        named = [key for key, vm in self.fleet.vms.items() if vm["name"] == move["vm"] and vm.get("uuid") is None]
        return next((key for key in named if self.places[key] == move["source"]), None)

    def _check_move(self, when: str, move: Json, key: str, draining: set[str]) -> None:
        vm = self.fleet.vms[key]
        if move["source"] != self.places[key]:
            self.violations.append(f"{when}: {move['vm']} is not on {move['source']} but on {self.places[key]}")
        target = move["destination"]
        for text in (
            self.fleet.cannot_move(vm, move["purpose"]),
            self.fleet.forbids(vm, self.places[key], target, draining),
        ):
            if text is not None:
                self.violations.append(f"{when}: {move['vm']} ({self.places[key]} → {target}) {text}")

    def _too_much(self, at: dict[str, set[str]], key: str, host: str) -> Iterator[str]:
        fleet, vm = self.fleet, self.fleet.vms[key]
        amounts = zip(demand(vm), fleet.load(at, host), capacity(fleet.hosts[host]), ("memory", "vCPUs"), strict=True)
        for need, load, limit, what in amounts:
            if need and load > limit:
                yield f"has {load} of {limit} {what} when {vm['name']} comes"
        for label in sorted(fleet.labels(vm)):
            others = [each for each in fleet.residents(at, host) if each != key]
            if any(label in fleet.labels(fleet.vms[each]) for each in others):
                yield f"has {' '.join(label)} twice when {vm['name']} comes"

    def _check_empty(self, number: int, wave: Json) -> None:
        """See that the hosts of a wave are empty when its VMs are shut down; these start again where they are."""
        asleep = [(self._find({**item, "source": item["host"]}), item["host"]) for item in wave.get("shutdowns", [])]
        for key, host in asleep:
            vm = self.fleet.vms.get(key or "")
            right = vm is not None and key is not None and self.places[key] == host and host in wave["hosts"]
            if vm is None or not right or not self.fleet.may_be_shut_down(vm) or asleep.count((key, host)) > 1:
                self.violations.append(f"wave {number}: {key} on {host} must not be shut down")
        off = {key for key, _host in asleep}
        for key, host in self.places.items():
            vm = self.fleet.vms[key]
            if host in wave["hosts"] and is_active(vm) and key not in off:
                self.violations.append(f"wave {number}: {host} is said to be empty but has {vm['name']}")

    def _is_whole(self, group: str) -> bool:
        return len({self.places[key] for key in self.fleet.groups()[group]}) == 1

    def _check_whole(self, when: str) -> None:
        split = [group for group in sorted(self.whole) if not self._is_whole(group)]
        self.violations += [f"{when}: group {group} is split" for group in split]
