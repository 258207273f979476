# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which pins of running VMs forbid another isolation."""

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import parse_domain
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning import (
    ThreadPin,
    pins_lost,
    pins_outside,
    pins_refusal,
    thread_pins,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import Isolation, format_cpuset, parse_cpuset
from hypothesis import given
from hypothesis import strategies as st


def domain(vcpu: str = "<vcpu>2</vcpu>", cputune: str = "", running: bool = True) -> str:
    identifier = " id='3'" if running else ""
    return (
        f"<domain type='kvm'{identifier}><name>db1</name><uuid>u1</uuid><memory unit='KiB'>1024</memory>{vcpu}"
        f"<iothreads>1</iothreads><cputune>{cputune}</cputune><os><type>hvm</type></os></domain>"
    )


def words(pins: tuple[ThreadPin, ...]) -> list[str]:
    return [str(pin) for pin in pins]


PIN_0 = "<vcpupin vcpu='0' cpuset='2'/>"
EMULATOR = "<emulatorpin cpuset='0-1'/>"
IOTHREAD = "<iothreadpin iothread='1' cpuset='5'/>"


@pytest.mark.parametrize(
    ("xml", "pins"),
    [
        (domain(), []),
        (domain(cputune=PIN_0), ["vCPU 0 on 2"]),
        (domain(cputune=EMULATOR + IOTHREAD), ["emulator on 0-1", "I/O thread 1 on 5"]),
        (domain("<vcpu cpuset='4-5'>2</vcpu>"), ["vCPU 0 on 4-5", "vCPU 1 on 4-5", "emulator on 4-5"]),
        (domain("<vcpu cpuset='4-5'>2</vcpu>", PIN_0), ["vCPU 0 on 2", "vCPU 1 on 4-5", "emulator on 4-5"]),
        (domain("<vcpu cpuset='4'>1</vcpu>", EMULATOR), ["vCPU 0 on 4", "emulator on 0-1"]),
        (domain("<vcpu cpuset='4' current='1'>4</vcpu>"), ["vCPU 0 on 4", "emulator on 4"]),
        (domain("<vcpu current='1'>2</vcpu>", "<vcpupin vcpu='1' cpuset='3'/>"), ["vCPU 1 on 3"]),
        (domain("<vcpu placement='auto'>2</vcpu>"), []),
    ],
)
def test_a_thread_has_its_own_pin_or_that_of_the_whole_vm(xml: str, pins: list[str]) -> None:
    assert words(thread_pins(parse_domain(xml))) == pins


def test_a_pin_says_whose_it_is_and_whether_that_runs() -> None:
    expected = ThreadPin("db1", "u1", True, "vCPU", 0, frozenset({2}))
    assert thread_pins(parse_domain(domain(cputune=PIN_0))) == (expected,)
    assert not thread_pins(parse_domain(domain(cputune=PIN_0, running=False)))[0].running


def pin(cpus: str, kind: str = "vCPU", running: bool = True) -> ThreadPin:
    return ThreadPin("db1", "u1", running, kind, 0 if kind == "vCPU" else None, parse_cpuset(cpus))


HALVES = Isolation(isolated=parse_cpuset("4-7"), housekeeping=parse_cpuset("0-3"))


@pytest.mark.parametrize(
    ("asked", "isolated_now", "lost"),
    [
        (pin("2"), "", True),
        (pin("2"), "2-7", True),
        (pin("2"), "3-7", False),
        (pin("4"), "", False),
        (pin("4"), "2-7", False),
        (pin("2-3"), "2-7", False),
        (pin("2", running=False), "2-7", False),
        (pin("2", kind="emulator"), "2-7", False),
    ],
)
def test_a_pin_is_lost_when_its_one_cpu_becomes_housekeeping(asked: ThreadPin, isolated_now: str, lost: bool) -> None:
    assert pins_lost([asked], HALVES, parse_cpuset(isolated_now)) == ((asked,) if lost else ())


@pytest.mark.parametrize(
    ("asked", "outside"),
    [
        (pin("2"), True),
        (pin("2-3"), True),
        (pin("3-4"), False),
        (pin("4"), False),
        (pin("0-1", kind="emulator"), True),
        (pin("0-1", kind="emulator", running=False), False),
    ],
)
def test_a_pin_is_outside_when_none_of_its_cpus_is_left(asked: ThreadPin, outside: bool) -> None:
    assert pins_outside([asked], parse_cpuset("4-7")) == ((asked,) if outside else ())


def test_the_refusal_names_every_vm_thread_and_cpu_once() -> None:
    other = ThreadPin("web", "u2", True, "emulator", None, frozenset({0, 1}))
    error = pins_refusal([pin("2"), pin("3")], [pin("2"), other])
    assert error is not None
    assert error.code == "pinned_vms"
    assert "taken from them: db1 (vCPU 0 on 2, vCPU 0 on 3); web (emulator on 0-1). Move" in error.msg
    assert error.facts["pins"][2] == {"vm": "web", "uuid": "u2", "thread": "emulator", "number": None, "cpus": "0-1"}


def test_without_such_pins_nothing_is_refused() -> None:
    assert pins_refusal([], []) is None


SETS = st.frozensets(st.integers(0, 7))


@given(st.lists(SETS.filter(bool)), SETS, SETS)
def test_what_stays_isolated_is_never_lost(
    cpus: list[frozenset[int]], isolated: frozenset[int], now: frozenset[int]
) -> None:
    pins = [pin(format_cpuset(each)) for each in cpus]
    isolation = Isolation(isolated, frozenset(range(8)) - isolated)
    lost = pins_lost(pins, isolation, now)
    assert all(not each.cpus & isolated for each in lost)
    assert pins_lost(pins, Isolation(frozenset(range(8)), frozenset()), now) == ()
    assert set(lost) <= set(pins_outside(pins, isolated))
