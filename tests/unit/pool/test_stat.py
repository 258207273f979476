# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pools as they are: the question stat, drift, and lines for people."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.virtops.kvm_fleet.plugins.filter import pools as filters
from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _pool

from tests.unit.pool.sim import XSAVE, Data, Sim, ask, converge, execute, of, one, snapshot, vm, want

AVX = frozenset({"avx", "xsave"})


def stat(hosts: list[Sim], **options: Any) -> Data:
    return _pool.plan({"question": "stat", **options}, snapshot(hosts))


def gold(*hosts: Sim, **fields: Any) -> list[Sim]:
    converge(list(hosts), want(*(f"{host.name}:gold" for host in hosts), **fields))
    return list(hosts)


def test_stat_shows_every_pool_with_its_members_and_asks_for_nothing() -> None:
    hosts = [*gold(Sim("hv1", more=AVX), Sim("hv2")), Sim("hv3")]
    answer = stat(hosts, current="hv2")
    assert (answer["stage"], answer["feasible"], answer["current"]) == ("decided", True, "hv2")
    pool = one(answer, "gold")
    assert (pool["status"], pool["members"], pool["generation"]) == ("settled", ["hv1", "hv2"], 1)
    assert pool["limits"] == [{"feature": "avx", "hosts": ["hv2"]}, {"feature": "xsave", "hosts": ["hv2"]}]
    assert [item["name"] for item in answer["hosts"]] == ["hv1", "hv2", "hv3"]
    assert of(answer, "hv3")["pool"] is None


def test_a_pool_whose_records_differ_is_incomplete() -> None:
    hosts = gold(Sim("hv1", more=AVX), Sim("hv2", more=AVX))
    execute(hosts, ask(hosts, want("hv1:gold", "hv2:gold"), recalc=["gold"]), only=1)
    pool = one(stat(hosts), "gold")
    assert (pool["status"], pool["generation"]) == ("incomplete", 2)


def test_a_pool_with_a_record_of_a_host_that_is_no_member_any_more_is_incomplete() -> None:
    hosts = gold(Sim("hv1"), Sim("hv2"))
    converge(hosts[:1], want("hv1:gold"))
    assert one(stat(hosts), "gold")["status"] == "incomplete"


def test_a_pool_with_a_member_that_was_not_seen_is_unavailable() -> None:
    hosts = gold(Sim("hv1"), Sim("hv2"))
    pool = one(stat(hosts[:1]), "gold")
    assert (pool["status"], pool["members"], pool["unavailable"]) == ("unavailable", ["hv1", "hv2"], ["hv2"])


@pytest.mark.parametrize(("lost", "status"), [("aes", "drift"), ("avx", "settled")])
def test_a_pool_drifts_when_a_member_loses_what_the_pool_has(lost: str, status: str) -> None:
    hosts = gold(Sim("hv1", more=AVX))
    hosts[0].less = frozenset({lost})
    answer = stat(hosts)
    assert one(answer, "gold")["status"] == status
    assert of(answer, "hv1")["drift"]["lost"] == [lost]
    assert of(answer, "hv1")["drift"]["pool_lost"] == ([lost] if status == "drift" else [])


@pytest.mark.parametrize(
    ("change", "drift"),
    [
        ({}, None),
        ({"bits": 46}, {"changed": [{"name": "address_bits", "before": 48, "after": 46}]}),
        ({"virt_type": "qemu"}, {"changed": [{"name": "virt_type", "before": "kvm", "after": "qemu"}]}),
        ({"more": AVX}, {"gained": ["avx", "xsave"]}),
        ({"versions": {"libvirt": "11.3.0", "qemu": "10.0.0", "kernel": "6.13.0"}}, {"versions": ["kernel"]}),
        ({"xsave": [[2, 256, 576]]}, {"changed": ["xsave"]}),
        ({"xsave": [*reversed(XSAVE)]}, None),
        ({"tsc": {"frequency_hz": 2_000_400_000, "scaling": None}}, None),
        ({"tsc": {"frequency_hz": 2_600_000_000, "scaling": None}}, {"changed": ["tsc"]}),
        ({"tsc": {"frequency_hz": 2_000_000_000, "scaling": True}}, {"changed": ["tsc"]}),
    ],
)
def test_drift_is_what_differs_from_the_proof(change: Data, drift: Data | None) -> None:
    hosts = gold(Sim("hv1", tsc={"frequency_hz": 2_000_000_000, "scaling": None}))
    for name, value in change.items():
        setattr(hosts[0], name, value)
    found = of(stat(hosts), "hv1")["drift"]
    if drift is None:
        assert found is None
        return
    known = {key: value for key, value in found.items() if value}
    names = {key: [item["name"] for item in value] for key, value in known.items() if key in ("versions", "changed")}
    assert drift in (known, {**known, **names})


def test_vms_that_run_with_more_than_their_pool_are_named() -> None:
    hosts = gold(Sim("hv1", more=AVX))
    hosts[0].vms = [vm("db", {"avx"})]
    assert [item["vm"] for item in stat(hosts)["restart_required"]] == ["db"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"virt_type": "qemu"}, "drift"),
        ({"bits": 39}, "drift"),
        ({"bits": 40}, "settled"),
        ({"bits": None}, "settled"),
        ({"xsave": [[2, 256, 576], [5, 64, 832]]}, "drift"),
        ({"xsave": [[2, 256, 576], [5, 64, 1088], [9, 8, 2688]]}, "settled"),
        ({"xsave": None}, "settled"),
        ({"tsc": {"frequency_hz": 2_600_000_000, "scaling": None}}, "settled"),
    ],
)
def test_a_pool_drifts_when_a_member_changes_in_what_the_pool_relies_on(change: Data, status: str) -> None:
    hosts = gold(Sim("hv1", more=AVX | {"avx512f"}), definition="baseline", address_bits=40)
    for name, value in change.items():
        setattr(hosts[0], name, value)
    assert one(stat(hosts), "gold")["status"] == status


def restarts(hosts: list[Sim]) -> list[tuple[Any, ...]]:
    keys = ("vm", "pool", "features", "lost", "address_bits", "saved")
    return [tuple(item[key] for key in keys) for item in stat(hosts)["restart_required"]]


def test_vms_that_run_with_what_their_host_has_lost_are_named_though_the_pool_still_has_it() -> None:
    hosts = gold(Sim("hv1", more=AVX, extra=frozenset({"arat"})), definition="baseline")
    # What QEMU adds unasked, and the host is not said to have, is not lost.
    hosts[0].vms = [vm("db", {"aes", "sse2", "arat", "hypervisor"}), vm("web", {"sse2", "arat"})]
    assert restarts(hosts) == []
    hosts[0].less = frozenset({"aes"})
    assert restarts(hosts) == [("db", "gold", ["aes"], ["aes"], None, False)]


def test_vms_on_hosts_in_no_pool_are_compared_with_the_host() -> None:
    host = Sim("hv1", more=AVX, vms=[vm("db", {"avx", "hypervisor", "ht", "invtsc"}), vm("off", state="shutoff")])
    assert restarts([host]) == []
    host.less = frozenset({"avx", "hypervisor"})
    assert restarts([host]) == [("db", None, ["avx"], [], None, False)]
    host.no_cpu = True
    assert restarts([host]) == []


def test_lines_say_what_vms_run_with_and_resume_with() -> None:
    hosts = [*gold(Sim("hv1", more=AVX)), Sim("hv2", less=frozenset({"aes"}))]
    hosts[0].less = frozenset({"aes"})
    hosts[0].vms = [vm("db", {"avx", "aes"}, address_bits=46), vm("off", {"avx"}, state="shutoff", saved=True)]
    hosts[1].vms = [vm("web", {"aes"}, address_bits=52)]
    assert filters.pool_lines(stat(hosts))[-4:] == [
        "db on hv1 runs with more than the CPU of gold until it is stopped and started: avx, 46 address bits",
        "db on hv1 runs with more than its host has now until it is stopped and started: aes",
        "off on hv1 was saved and resumes with more than the CPU of gold until it is stopped and started: avx",
        "web on hv2 runs with more than its host has now until it is stopped and started: aes, 52 address bits",
    ]


def test_a_record_that_cannot_be_used_is_said() -> None:
    answer = stat([Sim("hv1", error={"code": "bad_record", "msg": "the file is damaged."})])
    assert answer["notes"] == ["Host hv1: the file is damaged."]


def test_lines_show_the_table_with_the_current_host_starred() -> None:
    hosts = [*gold(Sim("hv1", more=AVX), Sim("hv2")), Sim("hv3", vendor="Intel")]
    hosts[0].versions["kernel"] = "6.13.0"
    hosts[1].less = frozenset({"aes"})
    hosts[0].vms = [vm("db", {"avx"})]
    assert filters.pool_lines(stat(hosts, current="hv1")) == [
        "POOL  VENDOR  DEFINITION  CPU    HOSTS     GENERATION  STATUS",
        "gold  AMD     basic       kvm64  hv1*,hv2           1  drift",
        "in no pool: hv3",
        "gold is limited by hv2: aes, avx, xsave",
        "gold would gain without hv2: aes, avx, xsave",
        "hv1 has masked in gold: avx, vme, xsave",
        "hv2 has masked in gold: vme",
        "hv1 has changed since its record: kernel 6.12.0 -> 6.13.0",
        "hv2 has changed since its record: lost aes; of its pool aes",
        "db on hv1 runs with more than the CPU of gold until it is stopped and started: avx",
    ]


def test_lines_show_what_a_plan_changes_and_refuses() -> None:
    hosts = [Sim("hv1"), Sim("hv2", vendor="Intel"), Sim("hv3", virt_type="qemu")]
    converge(hosts, want("hv1:gold", "-hv2", "-hv3"))
    answer = ask(hosts, want("hv1:iron", "hv2:iron", "hv3:steel", definition="x86-64-v2-amd"))
    lines = filters.pool_lines(answer)
    assert lines[1].split() == ["gold", "AMD", "basic", "-", "-", "-", "removed"]
    assert "gold left: hv1" in lines
    assert "iron joined: hv1" in lines
    assert lines[-2:] == [
        "refused (vendor): Host hv2 has a CPU of vendor Intel, and pool iron is of AMD. Put it into another pool.",
        "note: Pool steel: guests on hv3 are emulated, for these hosts have no KVM.",
    ]
    assert filters.refusal_lines(answer) == lines[-2:-1]


def test_lines_of_no_pools() -> None:
    assert filters.pool_lines(stat([Sim("hv1")])) == ["no pools", "in no pool: hv1"]


@pytest.mark.parametrize("value", [None, 1, {}, {"pools": [{}]}, {"refusals": 3}])
def test_filters_refuse_what_is_no_answer(value: Any) -> None:
    for name, function in filters.FilterModule().filters().items():
        with pytest.raises(AnsibleFilterError, match=f"{name} needs"):
            function(value)
