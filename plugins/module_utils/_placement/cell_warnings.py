# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Warnings of memory that a VM must have in certain cells, and that others of the plan may take before it."""

from __future__ import annotations

from typing import Any, Dict, List

from .._topology import format_cpuset
from .books import Moment
from .problem import Problem
from .resources import UNLIMITED
from .solve import Solution


def of_cells(solution: Solution) -> List[Dict[str, Any]]:
    """Return a warning for each VM whose cells VMs that arrive with it or before could leave short.

    Where the kernel puts memory that is bound nowhere is its own choice, so it is charged to no cell.
    """
    problem, entries = solution.problem, solution.entries
    moments: List[Moment] = list(problem.start)
    loose: Dict[int, List[int]] = {}
    found: List[Dict[str, Any]] = []
    for step in solution.steps if entries else ():
        for move in step:
            host, entry = move.destination, entries.get(move.vm)
            if entry is not None:
                moments[host] = problem.books.enter(moments[host], entry)
            bound = entry is not None and bool(problem.books.parts(entry))
            if problem.vms[move.vm].running.huge_pages_kib is None and not bound:
                loose.setdefault(host, []).append(move.vm)
        for move in step:
            if move.vm in entries and move.destination in loose:
                host = move.destination
                found += _of_vm(problem, move.vm, host, entries[move.vm], moments[host], loose[host])
        for move in step:
            moments[move.source] = problem.books.without(moments[move.source], [problem.vms[move.vm]])
    return found


def _of_vm(problem: Problem, vm: int, host: int, entry: int, moment: Moment, loose: List[int]) -> List[Dict[str, Any]]:
    name, bound = problem.hosts[host].name, problem.vms[vm]
    left = problem.books.taken(name, moment).amounts
    others = sorted(problem.vms[each].name for each in loose)
    coming = sum(problem.demand[each][0] for each in loose)
    found = []
    for part in problem.books.parts(entry):
        free = sum(max(0, left.get((cell, None), UNLIMITED)) for cell in part.cells)
        if part.page_kib is None and free < coming:
            cells = format_cpuset(part.cells)
            shown = ", ".join(others[:5]) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
            text = (
                f"{bound.name} may find too little memory in NUMA cell {cells} of {name}: the kernel may take that of "
                f"{shown} from there, which come with it or before."
            )
            facts = {"vm": bound.name, "uuid": bound.uuid, "host": name, "cells": cells, "others": others}
            found.append({"code": "cell_memory", **facts, "text": text})
    return found
