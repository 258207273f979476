# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a snapshot says what a running VM is to start with the next time."""

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    Domain,
    Following,
    PinningPolicy,
    Policy,
    parse_domain,
    with_policy,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.vms import defined_record

TWO = "<vcpu>2</vcpu>"
PINNED = "<cputune><vcpupin vcpu='0' cpuset='2'/><vcpupin vcpu='1' cpuset='3'/></cputune>"
DEDICATED = Policy(pinning=PinningPolicy("dedicated"))


def domain(inner: str = TWO, policy: Policy | None = None, runs: bool = False) -> Domain:
    number = "id='1'" if runs else ""
    xml = f"<domain type='kvm' {number}><name>db1</name><memory>1048576</memory>{inner}</domain>"
    return parse_domain(with_policy(xml, policy))


@pytest.mark.parametrize(
    ("inner", "policy", "key", "expected"),
    [
        ("<vcpu>4</vcpu>", None, "vcpus", 4),
        (TWO + "<iothreads>1</iothreads>", None, "iothreads", [1]),
        (TWO + PINNED, None, "pinning", "manual"),
        (TWO + "<memoryBacking><hugepages/></memoryBacking>", None, "huge_pages_kib", 2048),
        (TWO + "<cpu><numa><cell id='0' cpus='0-1' memory='1048576'/></numa></cpu>", None, "pinning", "none"),
        (TWO, DEDICATED, "policy", "dedicated"),
    ],
)
def test_a_definition_that_asks_for_something_else_is_told(
    inner: str, policy: Policy | None, key: str, expected: object
) -> None:
    record = defined_record(domain(runs=True), domain(inner, policy))
    assert record is not None
    found = record[key]
    if key == "policy":
        found = found["pinning"]["policy"]
    elif isinstance(found, dict):
        found = found.get("policy", found.get("maximum"))
    assert found == expected
    assert record["memory_kib"] == 1048576


@pytest.mark.parametrize(
    ("live", "defined"),
    [
        (domain(runs=True), None),
        (domain(runs=True), domain()),
        (domain(TWO, Policy(hosts=("hv1",)), runs=True), domain()),
        (
            domain(
                TWO + "<cputune><vcpupin vcpu='0' cpuset='0-3'/><emulatorpin cpuset='0-3'/></cputune>",
                Policy(following=Following("0-3")),
                runs=True,
            ),
            domain("<vcpu cpuset='0-3'>2</vcpu>", Policy(following=Following("0-3"))),
        ),
        (
            domain("<vcpu cpuset='0-7'>2</vcpu>" + PINNED, DEDICATED, runs=True),
            domain("<vcpu cpuset='0-1'>2</vcpu>" + PINNED, DEDICATED),
        ),
    ],
)
def test_a_definition_that_asks_for_the_same_is_not_told(live: Domain, defined: Domain | None) -> None:
    assert defined_record(live, defined) is None
