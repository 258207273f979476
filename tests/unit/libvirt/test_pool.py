# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a host's pool is put on record: not over another run, and not with a CPU that guests would not see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._cpu import PoolCpu
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.pool_record import Member, PoolRecord, Proven
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt import pool
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.pool import Wanted, check_unchanged
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.probe import Probe, Proof

HV1, HV2 = Member("hv1", "0a-1"), Member("hv2", "0b-2")
CPU = PoolCpu("kvm64", "AMD", ("aes", "sse4.2"), ("svm",), 40)
FEATURES = ("aes", "hypervisor", "sse4.2")
WANTED = Wanted("gold", "AMD", "basic", 3, (HV1, HV2), CPU, FEATURES)


def record(**other: Any) -> dict[str, Any]:
    """The record that WANTED asks for, as it is read from the file, with other fields."""
    proven = Proven({"libvirt": "9.0.0"}, "qemu", ("aes",))
    same = PoolRecord("gold", "AMD", "basic", 3, (HV1, HV2), CPU, FEATURES, HV1, proven)
    return replace(same, **other).to_data()


def version(name: str | None, generation: int | None) -> dict[str, Any]:
    return {"pool": name, "generation": generation}


NOTHING = version(None, None)


@pytest.mark.parametrize(
    ("found", "wanted", "previous"),
    [
        (None, WANTED, None),
        (record(), WANTED, None),
        # The host's own part is none of the pool's.
        (record(host=Member("old", "0a-1"), proven=Proven({}, "kvm", ())), WANTED, None),
        (record(generation=2), WANTED, None),
        (record(pool="silver", generation=9), WANTED, None),
        (record(generation=9), None, None),
        (None, WANTED, NOTHING),
        (record(generation=2), WANTED, version("gold", 2)),
        (record(pool="silver", generation=9), WANTED, version("silver", 9)),
        # A run that is repeated finds what it wrote.
        (record(), WANTED, version("silver", 9)),
        (record(), WANTED, NOTHING),
        (record(), None, version("gold", 3)),
        (None, None, version("gold", 3)),
    ],
)
def test_a_record_is_replaced_if_it_is_what_the_plan_was_made_with(
    found: dict[str, Any] | None, wanted: Wanted | None, previous: dict[str, Any] | None
) -> None:
    check_unchanged(found, wanted, previous)


@pytest.mark.parametrize(
    ("found", "wanted", "previous", "words"),
    [
        (record(generation=4), WANTED, None, "has generation 4 of pool gold, and generation 3 of pool gold was"),
        (record(generation=4), WANTED, version("gold", 4), "generation 4"),
        (record(features=FEATURES[1:]), WANTED, None, "or the same generation with other content"),
        (record(members=(HV1,)), WANTED, version("gold", 3), "other content"),
        (record(cpu=replace(CPU, address_bits=None)), WANTED, version("gold", 2), "other content"),
        (record(definition="baseline"), WANTED, None, "other content"),
        (record(vendor="Intel"), WANTED, None, "other content"),
        (record(pool="silver"), WANTED, version("gold", 2), "has generation 3 of pool silver"),
        (record(pool="silver"), WANTED, NOTHING, "has generation 3 of pool silver"),
        (record(generation=1), WANTED, version("gold", 2), "has generation 1 of pool gold"),
        (None, WANTED, version("gold", 2), "has no record"),
        (record(pool="silver"), None, version("gold", 3), "pool silver, and no record was"),
        (record(generation=4), None, version("gold", 3), "generation 4 of pool gold, and no record was"),
    ],
)
def test_a_record_of_another_run_is_left_alone(
    found: dict[str, Any] | None, wanted: Wanted | None, previous: dict[str, Any] | None, words: str
) -> None:
    with pytest.raises(FleetError, match=words) as raised:
        check_unchanged(found, wanted, previous)
    assert raised.value.code == "newer_generation"
    assert raised.value.facts["found"] == (found and found["generation"])


def prove(monkeypatch: pytest.MonkeyPatch, wanted: Wanted = WANTED, **probe: Any) -> PoolRecord:
    given = Probe(**{"model": "kvm64", "vendor": "AMD", "address_bits": 40, "features": FEATURES, **probe})
    monkeypatch.setattr(pool, "host_uuid", lambda conn: HV1.uuid)
    monkeypatch.setattr(pool, "prove", lambda conn, cpu, host: Proof(host, cpu.digest(), "superset", probe=given))
    monkeypatch.setattr(pool, "prove_host", lambda conn: Proven({}, "kvm", ("aes",)))
    return pool.prove_record(None, wanted)[0]


def test_a_host_that_gives_exactly_the_cpu_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert prove(monkeypatch).features == FEATURES
    # What the pool leaves open may be anything.
    open_cpu = replace(WANTED, cpu=replace(CPU, vendor=None, address_bits=None))
    assert prove(monkeypatch, open_cpu, vendor="Intel", address_bits=48).host == HV1


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        ({"features": (*FEATURES, "arat")}, "QEMU also gives arat. "),
        ({"features": FEATURES[1:]}, "QEMU does not give aes. "),
        ({"features": (*FEATURES[1:], "arat")}, "QEMU does not give aes and QEMU also gives arat. "),
        ({"address_bits": 48}, "the width of addresses is 48 and not 40. "),
        # libvirt before 8.7 does not know widths.
        ({"address_bits": None}, "the width of addresses is None and not 40. "),
        ({"vendor": "Intel"}, "the vendor is Intel and not AMD. "),
        ({"model": "qemu64"}, "the model is qemu64 and not kvm64. "),
    ],
)
def test_a_host_that_gives_anything_else_is_not(
    monkeypatch: pytest.MonkeyPatch, probe: dict[str, Any], words: str
) -> None:
    with pytest.raises(FleetError, match=words) as raised:
        prove(monkeypatch, **probe)
    assert raised.value.code == "proof"
