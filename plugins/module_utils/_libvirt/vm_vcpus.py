# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The number of vCPUs of VMs: live, by the guest's agent, or for the next start."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Dict, FrozenSet, List, Optional, Sequence

from .._domain import parse_domain, with_resources, with_unpluggable
from .._errors import FleetError
from .._host.command import Run
from .._host.cpus import read_cpus
from .._host.paths import HostPaths
from .._host.settling import SettlingNote
from .._host.vcpu_hooks import AFTER, BEFORE, hooks, run_hooks
from .._topology import format_cpuset
from .._vcpus import (
    AGENT,
    LIVE,
    NEXT_START,
    Change,
    Limits,
    VcpuWish,
    change_of,
    count_of,
    online_of,
    support_of,
)
from ._vcpus.look import look_at
from ._vcpus.pins import named_pins, pin_vcpus, require_cpus
from ._vcpus.plugging import guest_change, plug, unplug, use_in_guest
from ._vcpus.standing import described, stands
from .deadline import Deadline
from .domains import definition, get_each, is_defined
from .undo import all_or_nothing, redefine


@dataclass(frozen=True)
class Settings:
    """How to work: ``run`` runs hooks, ``wait_timeout`` bounds the guest, and what a host gives one VM at most.

    ``reserved`` are CPUs that are never a VM's own.
    """

    run: Run
    wait_timeout: int
    count_threads_as_cores: bool = True
    reserved: FrozenSet[int] = frozenset()
    paths: HostPaths = field(default_factory=HostPaths)


@dataclass(frozen=True)
class VcpuResult:
    """What became of one VM: ``before`` and ``after`` are as ``stands`` returns them."""

    name: str
    uuid: str
    method: str
    before: Dict[str, Any]
    after: Dict[str, Any]
    warnings: Sequence[str] = ()

    @property
    def changed(self) -> bool:
        """Whether anything is different."""
        return self.before != self.after

    def as_dict(self) -> Dict[str, Any]:
        """Return the result as the module has it."""
        running, defined = self.after["running"], self.after["defined"]
        return {
            "name": self.name,
            "uuid": self.uuid,
            "method": self.method,
            "changed": self.changed,
            **self.after,
            "restart_required": running is not None and defined is not None and _shape(running) != _shape(defined),
        }


def _shape(state: Dict[str, Any]) -> Any:
    return state["count"], state["maximum"], state["topology"]


def set_vcpus(conn: Any, wishes: Sequence[VcpuWish], settings: Settings, check_mode: bool) -> List[VcpuResult]:
    """Bring VMs to the vCPUs that are wished, one after the other, when all of them can be.

    Raises ``FleetError``: what ``change_of``, ``guest_change``, ``with_resources``, ``plug``, ``unplug``,
    ``run_hooks`` and ``set_pinning`` raise, ``vm_unknown``, ``bad_input`` for a VM given twice, ``vm_not_running``,
    ``vm_transient``, ``in_transit`` and ``settling``. What became of those before it is the fact ``vms``.
    """
    domains = get_each(conn, [wish.vm for wish in wishes])
    tasks = [_Task(conn, domain, wish, settings) for domain, wish in zip(domains, wishes)]
    for task in tasks:
        task.check()
    if check_mode:
        return [task.planned() for task in tasks]
    done: List[VcpuResult] = []
    for task in tasks:
        try:
            done.append(task.carry_out())
        except FleetError as error:
            vms = [result.as_dict() for result in done]
            changed = any(result.changed for result in done) or task.has_changed()
            raise FleetError(error.msg, error.code, **{**error.facts, "vms": vms, "changed": changed}) from error
    return done


class _Task:
    """One VM on its way to the vCPUs that it is to have."""

    def __init__(self, conn: Any, domain: Any, wish: VcpuWish, settings: Settings) -> None:
        self._conn, self._domain, self._wish, self._settings = conn, domain, wish, settings
        self._read()
        self._note = SettlingNote(self._look.name, self._look.uuid)
        self._change = Change()

    def _read(self) -> None:
        self._look = look_at(self._domain)
        self._before = stands(self._look)

    def check(self) -> None:
        """Decide what is to be done; raises for all that can be known beforehand."""
        look, wish = self._look, self._wish
        running = look.live is not None
        if wish.method == AGENT and not running:
            text = f"VM {look.name} does not run, so its agent cannot be asked. Start it, or use another method."
            raise FleetError(text, "vm_not_running", vm=look.name)
        if look.migrating:
            raise FleetError(
                f"VM {look.name} is being migrated, so its vCPUs cannot be changed. Wait for the migration, then try "
                "again.",
                "in_transit",
                vm=look.name,
            )
        count = self._count()
        if running and count is not None and wish.method == AGENT:
            guest_change(look, count)
        if running and count is not None and wish.method == LIVE:
            self._change = change_of(look.name, look.slots, count, self._limits())
            self._require_settled()
            if self._change != Change():
                require_cpus(self._conn, look, self._settings.reserved, self._online_after())
        if wish.method != AGENT:
            is_defined(self._domain, required=not (running and wish.method == LIVE))
            if look.defined is not None:
                self._redefined(definition(self._domain))

    def _count(self) -> Optional[int]:
        state = self._look.live if self._wish.method == LIVE and self._look.live else self._look.defined
        state = state or self._look.live
        return None if state is None else self._wish.wanted(state.vcpus)

    def _limits(self) -> Limits:
        look, cpus = self._look, read_cpus()
        wish = self._wish
        return Limits(
            threads=look.live.vcpus.threads if look.live else 1,
            host_cpus=len(cpus.online if self._settings.count_threads_as_cores or not cpus.cores else cpus.cores),
            pinned=named_pins(look),
            unplug_pinned=wish.unplug_pinned,
            unplug_allowed=look.policy.may_unplug,
            support=wish.support(support_of(look.system(), look.arch)),
        )

    def _require_settled(self) -> None:
        """Refuse another change than the one that the guest is still asked for."""
        asked = set(self._note.read(self._look.live.runtime_id if self._look.live else None))
        waiting = asked & set(online_of(self._look.slots))
        if waiting - set(self._change.unplug):
            raise FleetError(
                f"VM {self._look.name} was asked to give back the vCPUs {format_cpuset(waiting)} and has not yet. Ask "
                f"for {count_of(self._look.slots) - len(waiting)} again to go on waiting, or wait some minutes.",
                "settling",
                vm=self._look.name,
                waiting=sorted(waiting),
            )

    def _online_after(self) -> List[int]:
        return sorted(set(online_of(self._look.slots)) - set(self._change.unplug) | set(self._change.plug))

    def _redefined(self, xml: str) -> str:
        """Return the definition as it is to be."""
        wish = self._wish
        # The topology that it is to have; one vCPU fits into any.
        state = parse_domain(with_resources(xml, replace(wish.shape, current=1)))
        if self._look.live is not None and wish.method == LIVE:
            state = self._look.live
        changed = with_resources(xml, replace(wish.shape, current=wish.wanted(state.vcpus)))
        return changed if wish.unpluggable is None else with_unpluggable(changed, wish.unpluggable)

    def planned(self) -> VcpuResult:
        """Return what ``carry_out`` would do."""
        after = dict(self._before)
        if self._change != Change() and after["running"] is not None:
            online = self._online_after()
            after["running"] = {**after["running"], "count": len(online), "online": format_cpuset(online)}
        count = self._count()
        if self._wish.method == AGENT and count is not None:
            after["guest_online"] = count
        elif self._look.defined is not None:
            after["defined"] = described(self._redefined(definition(self._domain)))
        return self._result(after)

    def has_changed(self) -> bool:
        """Tell whether the VM is otherwise than it was before, whatever has gone wrong."""
        try:
            return stands(look_at(self._domain)) != self._before
        except FleetError:
            return True

    def carry_out(self) -> VcpuResult:
        """Do it; nobody else changes the vCPUs of this VM meanwhile."""
        with self._note.locked():
            # Another run may have changed it since it was checked.
            self._read()
            self.check()
            if self.planned().changed:
                return self._hooked()
        return self._result(self._before)

    def _hooked(self) -> VcpuResult:
        hooks(AFTER, self._settings.paths)
        run_hooks(self._settings.run, BEFORE, self._arguments(), self._settings.paths)
        self._do()
        result = self._result(stands(look_at(self._domain)))
        try:
            run_hooks(self._settings.run, AFTER, self._arguments(), self._settings.paths)
        except FleetError as error:
            return replace(result, warnings=[f"The vCPUs of VM {self._look.name} are changed. {error.msg}"])
        return result

    def _arguments(self) -> List[str]:
        """Return what hooks are told: name, UUID, method, and the number of vCPUs before and wished."""
        state = self._before["running"] or self._before["defined"]
        count = self._count()
        before = self._before["guest_online"] if self._wish.method == AGENT else state["count"]
        after = before if count is None else count
        return [self._look.name, self._look.uuid, self._wish.method, str(before), str(after)]

    def _do(self) -> None:
        look, deadline = self._look, Deadline(self._settings.wait_timeout)
        count = self._count()
        if self._wish.method == AGENT:
            if count is not None:
                use_in_guest(look, count, deadline)
            return
        if self._change.unplug:
            unplug(look, self._change.unplug, self._note, deadline)
        with all_or_nothing() as undo:
            if self._change.unplug:
                undo.add(look.name, self._cannot_be_put_back)
            if self._change.plug:
                plug(look, self._change.plug, undo, deadline)
            if look.defined is not None:
                redefine(self._conn, undo, self._domain, self._redefined)
            if self._change != Change():
                pin_vcpus(self._conn, look, self._settings.reserved, self._change.plug)

    def _cannot_be_put_back(self) -> None:
        """Tell that the guest has given back what it was asked for; to plug it again could only fail as well."""
        gone = format_cpuset(self._change.unplug)
        raise FleetError(f"its guest has given back the vCPUs {gone}", "unplugged", vm=self._look.name)

    def _result(self, after: Dict[str, Any]) -> VcpuResult:
        method = self._wish.method if self._look.live is not None else NEXT_START
        return VcpuResult(self._look.name, self._look.uuid, method, self._before, after)
