# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Whether VMs have what they are to have: as libvirt says, and as the kernel lets their threads run."""

from __future__ import annotations

from typing import Dict, FrozenSet, Mapping, Sequence

from ..._domain import Domain, Pinning, Policy, same_pins
from ..._errors import FleetError
from ..._pinning import Aim, Thread, thread_sets
from ..._topology import format_cpuset
from .reading import Vm
from .seeing import Seen, see, words_of
from .steps import policy_after


def see_all(aims: Sequence[Aim], vms: Mapping[str, Vm], online: FrozenSet[int]) -> Dict[str, Seen]:
    """Return what is seen of the running VMs among some, by UUID."""
    found: Dict[str, Seen] = {}
    for aim in aims:
        live = vms[aim.uuid].live
        if live is not None and aim.live is not None:
            found[aim.uuid] = see(vms[aim.uuid].process(), thread_sets(live, online, aim.live), online)
    return found


def require_same(aim: Aim, found: Vm, online: FrozenSet[int], apply_to: str) -> None:
    """Raise ``not_applied`` if libvirt has other pins or another policy for a VM than it is to have."""
    if found.live is not None and aim.live is not None:
        _require_sets(aim, found.live, aim.live, online)
        _require_policy(aim, found.live, "running VM", apply_to)
    if found.defined is not None and aim.defined is not None:
        if not same_pins(found.defined.pinning, aim.defined):
            raise _differs(aim, "definition", aim.defined.as_dict(), found.defined.pinning.as_dict())
        _require_policy(aim, found.defined, "definition", apply_to)


def _require_sets(aim: Aim, live: Domain, wanted: Pinning, online: FrozenSet[int]) -> None:
    now, then = thread_sets(live, online), thread_sets(live, online, wanted)
    for thread, cpus in then.items():
        if cpus and now[thread] != cpus:
            raise _differs(aim, words_of(thread), format_cpuset(cpus), format_cpuset(now[thread]))


def _require_policy(aim: Aim, domain: Domain, what: str, apply_to: str) -> None:
    wanted = policy_after(domain, aim, apply_to)
    found = domain.policy or Policy()
    if found != wanted:
        raise _differs(aim, f"policy of the {what}", wanted.as_dict(), found.as_dict())


def _differs(aim: Aim, what: str, wanted: object, found: object) -> FleetError:
    return FleetError(
        f"libvirt has something else for the {what} of VM {aim.name} than it was given; compare `wanted` and `found`.",
        "not_applied",
        vm=aim.name,
        step=what,
        wanted=wanted,
        found=found,
    )


def require_run_there(aim: Aim, seen: Seen, wanted: Mapping[Thread, FrozenSet[int]]) -> None:
    """Raise ``not_applied`` for a thread that the kernel lets run elsewhere than it was just pinned to."""
    for thread in seen.strays:
        raise FleetError(
            f"The kernel lets {words_of(thread)} of VM {aim.name} run on {format_cpuset(seen.sets[thread])}, though it "
            f"is pinned to {format_cpuset(wanted[thread])}. Find out who else sets the affinity of its threads.",
            "not_applied",
            vm=aim.name,
            step=words_of(thread),
            wanted=format_cpuset(wanted[thread]),
            found=format_cpuset(seen.sets[thread]),
        )
