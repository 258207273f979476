# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A clock that jumps while a VM migrates: hosts that are pods share the machine's, so this needs full ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.fleet import CRAWL_MIB_S, PATIENCE_S, Fleet
from tests.integration.runner import Ansible, task
from tests.lab import GuestSpec, Lab

NAME = "clocked"
HOUR_S = 3600
# Longer than the migration takes, and shorter than the jumps.
WAIT_S = 1800


@pytest.fixture
def fleet(lab: Lab) -> Iterator[Fleet]:
    """The hosts with a running guest on hv1; right clocks and no guest afterwards."""
    found = Fleet(lab, "")
    lab.guests.define(GuestSpec(NAME), "hv1")
    lab.guests.start(NAME, "hv1")
    yield found
    for host in lab.hosts:
        lab.faults.set_clock(host.name, 0)
    found.remove(NAME)


@pytest.mark.long
def test_clocks_that_jump_forth_and_back_end_no_migration(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    moves = [fleet.move(NAME, "hv2")]
    options = {"bandwidth_mib_s": CRAWL_MIB_S, "wait_timeout": WAIT_S, "forecast": False}
    job = ansible.start_tasks("hv1", [task("vm_migrate", moves=moves, **options)])
    fleet.wait_migrating(NAME, "hv1", 3 * PATIENCE_S)
    for source_s, destination_s in ((HOUR_S, -HOUR_S), (-HOUR_S, HOUR_S)):
        lab.faults.set_clock("hv1", source_s)
        lab.faults.set_clock("hv2", destination_s)
        assert "Outgoing migration" in lab["hv1"].virsh("domjobinfo", NAME)
    fleet.hurry(NAME, "hv1")
    (found,) = job.wait().results
    assert found.status == "ok", found
    (entry,) = found.result["migrations"]
    assert (entry["outcome"], entry["runs_on"]) == ("moved", "hv2"), entry
    assert entry["seconds"] < HOUR_S
    fleet.assert_intact_and_once(NAME, "hv2")
