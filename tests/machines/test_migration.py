# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each way to make a migration converge, with a VM that KVM runs: QEMU throttles and post-copies it by other means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Dict

import pytest

from tests.integration.fleet import PATIENCE_S, Fleet
from tests.integration.runner import Ansible
from tests.lab import GuestSpec, Lab

pytestmark = pytest.mark.long

NAME = "mover"
# So slow that the VM writes its 8 MiB again before they are sent.
NARROW: Dict[str, Any] = {"bandwidth_mib_s": 4, "auto_converge": False}
OWN = [{"after": 0, "downtime_ms": 50}, {"after": 2, "downtime_ms": 10000}, {"after": 60, "action": "abort"}]


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> Iterator[Fleet]:
    """The hosts with a guest that writes all the time."""
    found = Fleet(lab, "")
    lab.guests.define(GuestSpec(NAME, memcheck_pause_ms=5), "hv1")
    lab.guests.start(NAME, "hv1")
    yield found
    found.remove(NAME)


@pytest.mark.parametrize(
    ("options", "rounds"),
    [
        ({"convergence": "minimal_downtime"}, 0),
        ({"convergence": "legacy"}, 0),
        # Neither is done before the step that helps.
        ({"convergence": "post_copy", **NARROW}, 3),
        ({"convergence": "suspend", **NARROW}, 1),
        ({"convergence_steps": OWN, **NARROW, "max_downtime_ms": 10000}, 2),
    ],
    ids=("minimal_downtime", "legacy", "post_copy", "suspend", "own_steps"),
)
def test_a_vm_under_kvm_arrives(lab: Lab, ansible: Ansible, fleet: Fleet, options: Dict[str, Any], rounds: int) -> None:
    (present,) = lab.guests.where(NAME)
    source, destination = ("hv1", "hv2") if present.host == "hv1" else ("hv2", "hv1")
    assert "<domain type='kvm'" in lab[source].virsh("dumpxml", NAME)
    result = ansible.module(source, "vm_migrate", moves=[fleet.move(NAME, destination)], **options)
    assert not result["failed"], result
    (entry,) = result["migrations"]
    assert (entry["outcome"], entry["runs_on"]) == ("moved", destination), entry
    assert entry["iterations"] >= rounds, entry
    assert lab[destination].virsh("domstate", NAME) == "running"
    fleet.assert_intact_and_once(NAME, destination, PATIENCE_S)
