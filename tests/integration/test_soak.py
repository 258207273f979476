# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rounds of maintenance with a random fault each. `make soak` asks for more of them, with another seed."""

from __future__ import annotations

import os
from pathlib import Path

from tests.integration.fleet import Fleet, guest
from tests.integration.runner import Ansible
from tests.soak.rounds import soak

ROUNDS = int(os.environ.get("KVM_FLEET_SOAK_ROUNDS") or 3)
SEED = int(os.environ.get("KVM_FLEET_SOAK_SEED") or 8)
HOMES = {"a": "hv1", "b": "hv2", "c": "hv3", "d": "hv1"}


def test_no_fault_at_any_moment_loses_or_doubles_a_guest(ansible: Ansible, fleet: Fleet, note: Path) -> None:
    fleet.have(*(guest(name, host) for name, host in HOMES.items()))
    seen = []
    for done in soak(ansible, fleet, HOMES, ROUNDS, SEED, note):
        print(f"seed {SEED}: {done}", flush=True)
        seen.append(done.number)
    assert seen == list(range(1, ROUNDS + 1))
