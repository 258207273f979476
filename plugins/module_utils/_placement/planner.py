# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""From a request and a snapshot to an answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Optional, Sequence, Tuple

from . import warnings
from .answer import Answer
from .loads import loads, vms_of
from .model import Host, Snapshot, Vm
from .one_wave import one_wave
from .pinned import without_skipped
from .question import question_of, staying_off
from .rebalance import rebalance
from .request import Request, parse
from .rollout import rollout
from .snapshot import load


def plan(request: Any, snapshot: Any, now_s: Optional[int] = None) -> Dict[str, Any]:
    """Return the answer (JSON) to a request (JSON) about a snapshot (JSON).

    ``now_s`` is the time in seconds since 1970 for the warning about old parts. Raises ``FleetError`` as ``load`` and
    ``parse`` do.
    """
    fleet = load(snapshot)
    return answer(parse(request, fleet), fleet, now_s).as_dict()


def answer(request: Request, snapshot: Snapshot, now_s: Optional[int] = None) -> Answer:
    """Return the answer to a request about a snapshot; the same input gives the same answer."""
    request, skipped = without_skipped(request, snapshot)
    found = _ANSWERS[request.question](request, snapshot)
    moves = [move for wave in found.waves for move in wave.moves]
    pairs = list(zip(vms_of(moves, snapshot), moves))
    vms, hosts = _considered(request, snapshot)
    return replace(
        found,
        skipped=skipped,
        loads=loads(pairs, snapshot),
        warnings=(
            *warnings.of_moves(pairs, {host.name: host for host in snapshot.hosts}),
            *warnings.of_vms_off(staying_off(request, snapshot)),
            *found.warnings,
            *warnings.of_snapshot(snapshot, vms, hosts, request.options.max_age_s, now_s),
        ),
    )


_ANSWERS = {"drain": one_wave, "place": one_wave, "refill": one_wave, "rollout": rollout, "rebalance": rebalance}


def _considered(request: Request, snapshot: Snapshot) -> Tuple[Sequence[Vm], Sequence[Host]]:
    """Return the VMs and hosts the answer depends on: those the VMs are on, and those they might go to."""
    names = {host.name for host in request.hosts}
    if request.question in ("rollout", "rebalance"):
        return [vm for vm in snapshot.vms if vm.host in names and vm.active], snapshot.hosts
    question = question_of(request, snapshot)
    near = {vm.host for vm in question.vms}
    targets = question.within(question.vms[0]) if question.vms else frozenset()
    if request.question == "refill":
        targets = frozenset(names if question.vms else ())
    return question.vms, [host for host in snapshot.hosts if targets is None or host.name in near | targets]
