# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who owns which CPUs, from definitions alone."""

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    Domain,
    PinningPolicy,
    Policy,
    parse_domain,
    with_policy,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pin_rules import policy_of
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning import Claim, Others, conflicts, joined
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning._side import side_of
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import parse_cpuset

from tests.unit.pinning.small import cells, claim

HOST = cells("0,4 1,5 | 2,6 3,7")
DEDICATED = PinningPolicy("dedicated")
ISOLATE = PinningPolicy("dedicated", "isolate")
OWN_EMULATOR = PinningPolicy("dedicated", emulator="isolate")


def vm(pins: str = "", policy: PinningPolicy | None = None, name: str = "db1", running: bool = True) -> Domain:
    """Give a VM with two vCPUs; ``pins`` are the CPUs of each and of the emulator, as in ``2 3 0-1``."""
    texts = pins.split()
    tune = "".join(f"<vcpupin vcpu='{number}' cpuset='{cpus}'/>" for number, cpus in enumerate(texts[:2]))
    tune += f"<emulatorpin cpuset='{texts[2]}'/>" if texts[2:] else ""
    identifier = " id='3'" if running else ""
    xml = (
        f"<domain{identifier}><name>{name}</name><uuid>u-{name}</uuid><memory>1024</memory><vcpu>2</vcpu>"
        f"<cputune>{tune}</cputune></domain>"
    )
    return parse_domain(with_policy(xml, policy and Policy(pinning=policy)))


def others(*domains: Domain) -> Others:
    return joined(side_of(domain, frozenset()).others(HOST) for domain in domains)


@pytest.mark.parametrize(
    ("domain", "cpus", "blocked"),
    [
        (vm("2 3 0-1", DEDICATED), "2,3", ""),
        (vm("2 3 0-1", DEDICATED, running=False), "2,3", ""),
        (vm("2 3 0", OWN_EMULATOR), "0,2,3", ""),
        (vm("2 3 0-1", ISOLATE), "2,3", "6,7"),
        (vm("0 3 5", PinningPolicy("dedicated", "isolate", "isolate")), "0,3,5", "4,7"),
        # The second one was plugged and shares CPUs.
        (vm("2 3-7", DEDICATED), "2", ""),
        (vm("2 3 3", DEDICATED), "2", ""),
    ],
)
def test_a_dedicated_vm_owns_its_pins_and_may_block_their_siblings(domain: Domain, cpus: str, blocked: str) -> None:
    running = domain.runtime_id is not None
    expected = Claim("db1", "u-db1", running, parse_cpuset(cpus), parse_cpuset(blocked))
    assert others(domain).claims == (expected,)


@pytest.mark.parametrize(
    "domain", [vm("2 3 0"), vm("2 3 0", PinningPolicy("numa")), vm("", DEDICATED), vm(), vm("2 3", PinningPolicy())]
)
def test_nobody_else_owns_anything(domain: Domain) -> None:
    assert others(domain).claims == ()


@pytest.mark.parametrize(
    ("domain", "policy"),
    [(vm(), "none"), (vm("2 3"), "manual"), (vm("2 3", DEDICATED), "dedicated"), (vm("2 3", PinningPolicy()), "none")],
)
def test_without_a_policy_pins_are_the_users_own(domain: Domain, policy: str) -> None:
    assert policy_of(domain).policy == policy


def words(found: object) -> list[str]:
    return [str(each) for each in found]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("domains", "expected"),
    [
        ([vm("2 3", DEDICATED, "a"), vm("3 7", DEDICATED, "b")], ["a and b on 3"]),
        ([vm("2 3", DEDICATED, "a", running=False), vm("3 7", DEDICATED, "b")], ["a and b on 3"]),
        ([vm("2 3", DEDICATED, "a"), vm("6 7", DEDICATED, "b")], []),
        ([vm("2 3", ISOLATE, "a"), vm("6 1", DEDICATED, "b")], ["a and b on 6"]),
        ([vm("6 1", DEDICATED, "a"), vm("2 3", ISOLATE, "b")], ["a and b on 6"]),
        ([vm("2 3", DEDICATED, "b"), vm("0-2 3", None, "a")], ["a and b on 2-3"]),
        ([vm("2 3", ISOLATE, "a"), vm("0 1 4-6", None, "b")], ["a and b on 6"]),
        ([vm("2 3", None, "a"), vm("2 3", None, "b")], []),
        ([vm("2 3", DEDICATED, "a"), vm("2 3", PinningPolicy("numa"), "b")], []),
        (
            [vm("2 3", DEDICATED, "a"), vm("2 3", DEDICATED, "b"), vm("3 3", None, "c")],
            ["a and b on 2-3", "a and c on 3", "b and c on 3"],
        ),
    ],
)
def test_a_conflict_names_both_vms_and_their_cpus(domains: list[Domain], expected: list[str]) -> None:
    for order in (domains, domains[::-1]):
        assert words(conflicts(others(*order).claims, others(*order).pins)) == expected


def test_a_vm_is_in_no_conflict_with_itself() -> None:
    by_hand = others(vm("2 2")).pins
    assert conflicts([claim("2")], by_hand) != ()
    assert conflicts([Claim("db1", "u-db1", True, frozenset({2}))], by_hand) == ()


@pytest.mark.parametrize(
    ("domain", "floating"),
    [
        (vm(), True),
        (vm("2 3", PinningPolicy("numa")), True),
        (vm("2 3 0", DEDICATED), True),
        (vm("2 3 0", OWN_EMULATOR), False),
        (vm("2 3 0"), False),
        (vm("2 3"), True),
        (vm("2"), True),
    ],
)
def test_whatever_has_no_cpu_of_its_own_floats(domain: Domain, floating: bool) -> None:
    assert others(domain).floating == floating
    assert others().floating is False


def test_a_numa_vm_needs_shared_cpus_in_its_cells() -> None:
    assert others(vm("2,6-7 3", PinningPolicy("numa")), vm("0 1")).bound == {1}
