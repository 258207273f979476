# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The pins of VMs of one host, chosen, written and verified together."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterator, List, Mapping, Optional, Sequence, Tuple

from .._errors import FleetError
from .._host import files
from .._pinning import DEFINITION, LIVE, Aim, HostAim, Resident, Wish, aim, thread_sets
from .._topology import parse_cpuset
from ._pinning.applying import Work, carry_out
from ._pinning.reading import Vm, in_transit, online_of, read_state, read_vms, reread
from ._pinning.report import Report, Task, claim_records, host_record, texts, vm_record
from ._pinning.seeing import Seen
from ._pinning.steps import steps_of
from ._pinning.verifying import require_run_there, require_same, see_all
from ._pinning.wishes import state_asked, wish_of
from .domains import get_each

# Empty after a reboot, as it should be; its lock keeps two runs from giving one CPU to two VMs.
LOCK_DIRECTORY = Path("/run/kvm_fleet_pinning")
# As long as a run takes that changes some hundred VMs.
LOCK_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Request:
    """What is asked of a host: ``vms`` are the options of each VM by its name or UUID; the rest is as in ``aim``.

    ``arriving`` are the UUIDs of VMs whose stopped definitions here are about to be replaced.
    """

    vms: Sequence[Tuple[str, Mapping[str, Any]]]
    apply_to: str
    repin: bool
    float_others: bool
    keep_free: FrozenSet[int]
    arriving: FrozenSet[str]
    reserved: FrozenSet[int]


def request_from(vms: Sequence[Mapping[str, Any]], host: Mapping[str, Any], alone: Sequence[str]) -> Request:
    """Return the request in the options of the module; ``alone`` names those for one VM that are given without ``vms``.

    Raises ``FleetError``: ``bad_options``, ``bad_cpuset``.
    """
    if alone and not vms:
        text = f"The option {alone[0]} is for a VM, but none is named. Give its name, or leave the option out."
        raise FleetError(text, "bad_options", option=alone[0])
    return Request(
        vms=[(str(vm["name"]), vm) for vm in vms],
        apply_to=host["apply_to"],
        repin=host["repin"],
        float_others=host["float_others"],
        keep_free=parse_cpuset(host["keep_free"] or ""),
        arriving=frozenset(uuid.lower() for uuid in host["arriving"]),
        reserved=parse_cpuset(host["reserved_cpus"] or ""),
    )


def set_pinning(conn: Any, request: Request, check_mode: bool) -> Report:
    """Let VMs have the pins that are asked for, and the other ones' floating threads follow; all of it or nothing.

    Raises ``FleetError``: those of ``aim``, ``wish_of`` and ``carry_out``, ``vm_unknown``, ``in_transit``,
    ``vm_transient`` and ``vm_not_running`` for a state that a VM does not have, and ``busy``.
    """
    if check_mode:
        return _Host(conn, request).report(done=False)
    with _only_one():
        host = _Host(conn, request)
        host.carry_out()
        return host.report(done=True)


def require_room(conn: Any, request: Request, vcpus: Mapping[str, Tuple[int, ...]]) -> None:
    """Raise what ``set_pinning`` would before it changes anything if running VMs, by UUID, had these vCPUs."""
    _Host(conn, request, vcpus)


@contextmanager
def _only_one() -> Iterator[None]:
    files.make_directory(LOCK_DIRECTORY, mode=0o700)
    with files.locked(LOCK_DIRECTORY, LOCK_TIMEOUT_S):
        yield


class _Host:
    """A host as it is found, what its VMs are to have, and the steps to there.

    ``vcpus`` are the numbers of those that running VMs, by UUID, are taken to have instead.
    """

    def __init__(self, conn: Any, request: Request, vcpus: Optional[Mapping[str, Tuple[int, ...]]] = None) -> None:
        self._conn = conn
        self._request = request
        self._vms = {uuid: vm for uuid, vm in read_vms(conn).items() if vm.live or uuid not in request.arriving}
        for uuid, numbers in (vcpus or {}).items():
            self._vms[uuid] = self._vms[uuid].with_vcpus(numbers)
        wishes = self._wishes()
        self._state = read_state(conn, request.reserved)
        self._online = online_of(self._state)
        residents = self._residents([wish.uuid for wish in wishes])
        self._goal = aim(self._state, residents, wishes, request.repin, request.keep_free, request.float_others)
        self._warnings = list(self._goal.warnings)
        self._aims = self._settled(self._goal)
        self._seen = see_all(self._aims, self._vms, self._online)
        lives = {uuid: vm.live for uuid, vm in self._vms.items() if vm.live is not None}
        definitions = {uuid: vm.defined for uuid, vm in self._vms.items() if vm.defined is not None}
        self._before = self._seen
        self._steps = steps_of(self._aims, lives, definitions, self._seen, self._online, request.apply_to)

    def _wishes(self) -> List[Wish]:
        handles = get_each(self._conn, [name for name, _options in self._request.vms])
        wishes = []
        for handle, (name, options) in zip(handles, self._request.vms):
            vm = self._vms.get(handle.UUIDString())
            if vm is None:
                text = f"VM {name} has left the host, or is named in arriving. Look for it on the other hosts."
                raise FleetError(text, "vm_unknown", vm=name)
            _require_state(vm, self._request.apply_to)
            asked = state_asked(options, vm.live, vm.defined, self._request.apply_to)
            wishes.append(wish_of(options, asked, self._request.apply_to))
        return wishes

    def _residents(self, wished: Sequence[str]) -> List[Resident]:
        """Return the VMs; where memory is matters where it is bound or is to be, and may take long to find out."""
        return [
            vm.resident(weigh=uuid in wished or _is_bound(vm), walk=uuid in wished) for uuid, vm in self._vms.items()
        ]

    def _settled(self, goal: HostAim) -> List[Aim]:
        """Return the aims without those for VMs that migrate."""
        aims: List[Aim] = []
        for each in goal.aims:
            vm = self._vms[each.uuid]
            moving = each.live is not None and in_transit(vm)
            if moving and each.wished:
                raise FleetError(
                    f"VM {each.name} migrates, so its pins cannot be changed now. Wait for the end, then try again.",
                    "in_transit",
                    vm=each.name,
                )
            if moving:
                self._warn(each.name, "migrates, so its threads stay where they are")
            else:
                aims.append(each)
            if vm.saved:
                self._warn(each.name, "is saved and resumes with the pins that it was saved with")
        return aims

    def _warn(self, name: str, what: str) -> None:
        self._warnings.append(f"VM {name} {what}. Run vm_pinning again when that is over.")

    def carry_out(self) -> None:
        """Do all steps and verify all VMs."""
        followers = frozenset(each.uuid for each in self._aims if not each.wished)
        carry_out(self._conn, Work(self._steps, self._vms, followers, self._online), self._verify)

    def _verify(self, gone: FrozenSet[str]) -> None:
        """Read everything back; ``gone`` are followers that need not be there any more."""
        found: Dict[str, Vm] = {}
        for each in self._aims:
            now = reread(self._vms[each.uuid].handle)
            if now is None and each.wished:
                raise FleetError(f"VM {each.name} has left the host meanwhile.", "vm_unknown", vm=each.name)
            if now is not None:
                require_same(each, now, self._online, self._request.apply_to)
                found[each.uuid] = now
            if now is None or each.uuid in gone or (now.live is None) != (self._vms[each.uuid].live is None):
                self._warn(each.name, "was started, stopped or moved meanwhile, so that not all was done for it")
        there = [each for each in self._aims if each.uuid in found]
        self._seen = see_all(there, found, self._online)
        for each in there:
            live = found[each.uuid].live
            if live is not None and each.live is not None:
                require_run_there(each, self._seen[each.uuid], thread_sets(live, self._online, each.live))

    def report(self, done: bool) -> Report:
        """Return the result; ``done`` tells that the steps have been taken."""
        changing = {step.uuid for step in self._steps}
        tasks = [self._task(each, each.uuid in changing, done) for each in self._aims]
        facts = {
            "vms": [vm_record(each, self._state) for each in tasks],
            "claims": claim_records(self._goal.claims),
            "host": host_record(self._state, self._goal),
        }
        before, after = texts(tasks, self._online)
        return Report(before, after, facts, tuple(self._warnings) + tuple(self._unverified()))

    def _task(self, each: Aim, changes: bool, done: bool) -> Task:
        found = self._before.get(each.uuid, Seen())
        seen = None if changes and not done else self._seen.get(each.uuid, Seen())
        return Task(each, self._vms[each.uuid], self._request.apply_to, changes, found, seen)

    def _unverified(self) -> List[str]:
        names = {each.uuid: each.name for each in self._aims}
        return [
            f"It is not verified where VM {names[uuid]} runs: {', '.join(seen.unknown)}. Look at its threads."
            for uuid, seen in self._seen.items()
            if seen.unknown
        ]


def _is_bound(vm: Vm) -> bool:
    return vm.live is not None and bool(vm.live.pinning.memory or vm.live.pinning.cells)


def _require_state(vm: Vm, apply_to: str) -> None:
    if apply_to == LIVE and vm.live is None:
        text = f"VM {vm.name} does not run, so nothing of it can be changed live. Start it, or change its definition."
        raise FleetError(text, "vm_not_running", vm=vm.name)
    if apply_to == DEFINITION and vm.defined is None:
        text = f"VM {vm.name} is transient: it has no definition. Define it first, or change the running VM."
        raise FleetError(text, "vm_transient", vm=vm.name)
