# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Plans and tables as lines of text for people.

Apart from the planner, for every worker of Ansible that looks for a filter compiles all that filters import.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Union

from ansible_collections.virtops.kvm_fleet.plugins.module_utils._amount import amount

Column = Union[str, Mapping[str, str]]


def plan_lines(answer: Mapping[str, Any]) -> List[str]:
    """Return an answer of the planner as lines: waves with moves and shutdowns, totals, what stays, warnings.

    Memory is never shown without a unit, times are rounded to seconds and start at 1.
    """
    waves = answer.get("waves", ())
    lines: List[str] = []
    for number, wave in enumerate(waves, 1):
        lines.extend(_wave_lines(number, wave, len(waves) > 1))
    if any(wave["steps"] for wave in waves):
        lines.extend(_total_lines(answer))
    else:
        lines.append("no moves")
    lines.extend(unplaced_lines(answer))
    lines.extend(_skipped(item) for item in answer.get("skipped", ()))
    lines.extend(f"warning: {warning['text']}" for warning in answer.get("warnings", ()))
    return lines


def _total_lines(answer: Mapping[str, Any]) -> List[str]:
    """Return what the plan needs in all, and what any plan needs at least."""
    totals, bounds = answer.get("totals"), answer.get("bounds")
    if not totals or not bounds:
        return []
    needed, least = _amounts(totals), _amounts(bounds)
    found = [f"in all {needed}; " + ("no plan needs less" if needed == least else f"any plan needs at least {least}")]
    balance = answer.get("balance")
    if balance:
        found.append(f"memory load {_span(balance['before'])} before, {_span(balance['after'])} after")
    reason = answer.get("waves_gap_reason")
    return [*found, f"more waves than the bound: {reason}"] if reason else found


def _amounts(numbers: Mapping[str, Any]) -> str:
    moves, waves = numbers["moves"], numbers["waves"]
    parts = [f"{moves} move{'s' if moves != 1 else ''}"]
    parts += [f"{waves} waves"] if waves > 1 else []
    return ", ".join([*parts, f"~{_seconds(numbers['seconds'])} s"])


def _span(balance: Mapping[str, Any]) -> str:
    return f"{balance['lowest_percent']:g} to {balance['highest_percent']:g} %"


def _seconds(value: Any) -> int:
    return max(1, round(value or 0))


def unplaced_lines(answer: Mapping[str, Any]) -> List[str]:
    """Return a line for each VM without a destination, with every host's reason, and what is short for all."""
    lines = [f"{item['vm']} stays on {item['host']}: {_reasons(item)}" for item in answer.get("unplaced", ())]
    return lines + _shortage_lines(answer.get("shortage"))


def _wave_lines(number: int, wave: Mapping[str, Any], several: bool) -> List[str]:
    lines: List[str] = []
    if several:
        lines.append(f"wave {number}: {', '.join(wave['hosts'])}")
    lines.extend(_step_lines(wave["steps"]))
    for item in wave.get("shutdowns", ()):
        lines.append(f"{item['vm']}: shut down on {item['host']} until the host is back ({_obstacles(item)})")
    if wave.get("refill_steps"):
        lines.extend(["back, when the hosts are ready:", *_step_lines(wave["refill_steps"])])
    return lines


def _skipped(item: Mapping[str, Any]) -> str:
    vms = ", ".join(f"{vm['vm']} ({_obstacles(vm)})" for vm in item["vms"])
    return f"{item['host']} is skipped, for it has VMs that cannot move: {vms}"


def _obstacles(item: Mapping[str, Any]) -> str:
    """Return in a few words why a VM cannot move."""
    found = (_OBSTACLES.get(reason["code"], str(reason["text"]).rstrip(".")) for reason in item["reasons"])
    return "; ".join(found)


_OBSTACLES = {"migration_pinned": "migration mode pinned"}


def _step_lines(steps: Sequence[Mapping[str, Any]]) -> List[str]:
    lines: List[str] = []
    for index, step in enumerate(steps, 1):
        if len(steps) > 1:
            lines.append(f"step {index}:")
        lines.extend(_move(move) for move in step["moves"])
    return lines


# What a move is for, where that is not the question itself.
_PURPOSES = {"room": ", makes room", "detour": ", waits there"}


def _move(move: Mapping[str, Any]) -> str:
    purpose = _PURPOSES.get(str(move.get("purpose")), "")
    seconds = _seconds(move.get("estimated_s"))
    return f"{move['vm']}: {move['source']} -> {move['destination']}{_pins(move)}, ~{seconds} s{purpose}"


def _pins(move: Mapping[str, Any]) -> str:
    pins = move.get("pins")
    if move.get("exclusive_cpus"):
        return f" (CPUs {move['exclusive_cpus']} for itself)"
    if pins is None or (move.get("following") and not pins.get("vcpus")):
        return ""
    cpus = ",".join(pin["cpus"] for pin in pins.get("vcpus") or ())
    return f" (new pins {cpus})" if cpus else " (new pins)"


def _reasons(item: Mapping[str, Any]) -> str:
    shown = sum(reason.get("host") is not None for reason in item["reasons"])
    more = sum((item.get("rejected") or {}).values()) - shown
    return "; ".join([*map(_reason, item["reasons"]), *([f"and {more} more like these"] if more > 0 else [])])


def _reason(reason: Mapping[str, Any]) -> str:
    text = str(reason["text"]).rstrip(".")
    return text if reason.get("host") is None else f"{reason['host']} {text}"


def _shortage_lines(shortage: Any) -> List[str]:
    if not shortage or not shortage["vms"]:
        return []
    free = "unlimited memory" if shortage["free_kib"] is None else f"{amount(shortage['free_kib'])} free"
    count = shortage.get("hosts_count", len(shortage["hosts"]))
    hosts = ", ".join(host["host"] for host in shortage["hosts"])
    hosts += f" and {count - len(shortage['hosts'])} more" if count > len(shortage["hosts"]) else ""
    have = "has" if count == 1 else "have"
    need = "needs" if len(shortage["vms"]) == 1 else "together need"
    lines = [f"{', '.join(shortage['vms'])} {need} {amount(shortage['needed_kib'])}; {hosts} {have} {free}"]
    if shortage["proof"] == "vcpus":
        lines.append(f"they have {shortage['needed_vcpus']} vCPUs; the hosts have room for {shortage['free_vcpus']}")
    return lines


def table_lines(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> List[str]:
    """Return rows as an aligned text table with a header line.

    A column is a key of the rows, or a mapping with ``key`` and ``title``. Lists are joined by commas, ``null`` is a
    dash, and columns that hold numbers only are aligned to the right.
    """
    heads = [_head(column) for column in columns]
    body = [[_cell(row.get(head["key"])) for head in heads] for row in rows]
    widths = [max([len(head["title"]), *(len(line[index]) for line in body)]) for index, head in enumerate(heads)]
    right = [_is_numeric([row.get(head["key"]) for row in rows]) for head in heads]
    lines = [[head["title"] for head in heads], *body]
    return [_join(line, widths, right) for line in lines]


def _head(column: Column) -> Dict[str, str]:
    if isinstance(column, str):
        return {"key": column, "title": column.upper().replace("_", " ")}
    return {"key": str(column["key"]), "title": str(column.get("title", column["key"]))}


def _cell(value: Any) -> str:
    if value is None or value == []:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ",".join(str(item) for item in value)
    return str(value)


def _is_numeric(values: Sequence[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known)


def _join(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = [cell.rjust(width) if flush else cell.ljust(width) for cell, width, flush in zip(cells, widths, right)]
    return "  ".join(padded).rstrip()
