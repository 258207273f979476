# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The smallest question to a constraint: hv1 is drained of db1, and hv2 is the only other host."""

from __future__ import annotations

from typing import Any

from tests.unit.placement.fleet import drain, fleet, host, vm, where

Facts = dict[str, Any]


def refusals(
    there: Facts | None = None,
    guest: Facts | None = None,
    here: Facts | None = None,
    cpus: Facts | None = None,
    **options: Any,
) -> list[Facts]:
    """Return why db1 cannot go to hv2, by code and facts; nothing where it goes there.

    ``there``, ``guest`` and ``here`` are fields of hv2, db1 and hv1, ``cpus`` the CPUs of the snapshot.
    """
    hosts = [host("hv1", **here or {}), host("hv2", **there or {})]
    answer = drain(fleet(hosts, [vm("db1", "hv1", **guest or {})], **cpus or {}), "hv1", **options)
    if answer["feasible"]:
        assert where(answer) == {"db1": "hv2"}
        return []
    assert answer["waves"] == []
    [item] = answer["unplaced"]
    assert item["vm"] == "db1"
    assert all(reason["host"] == "hv2" and reason["text"] for reason in item["reasons"])
    return [{key: value for key, value in reason.items() if key not in ("host", "text")} for reason in item["reasons"]]
