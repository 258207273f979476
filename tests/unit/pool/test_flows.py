# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How hosts join, move and leave, and how pools get their CPUs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _pool
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._cpu import PRESETS

from tests.unit.pool.sim import (
    BASIC,
    Data,
    Sim,
    ask,
    codes,
    converge,
    copies,
    execute,
    kept,
    of,
    one,
    pools,
    snapshot,
    vm,
    want,
    writes,
)

AVX = frozenset({"avx", "xsave"})


def fleet(*more: frozenset[str]) -> list[Sim]:
    """Return hv1, hv2, … with these features beyond the basic ones."""
    return [Sim(f"hv{number}", more=features) for number, features in enumerate(more, 1)]


def generations(hosts: list[Sim]) -> list[int | None]:
    return [host.record["generation"] if host.record else None for host in hosts]


def cpus(hosts: list[Sim]) -> list[tuple[str, ...] | None]:
    return [tuple(host.record["cpu"]["features"]) if host.record else None for host in hosts]


def test_a_new_pool_has_the_basic_cpu_of_its_vendor() -> None:
    hosts = fleet(AVX, AVX)
    answer = converge(hosts, want("hv1:gold", "hv2:gold"))
    assert pools(hosts) == {"gold": ["hv1", "hv2"]}
    gold = one(answer, "gold")
    assert (gold["status"], gold["definition"], gold["generation"], gold["joined"]) == (
        "new",
        "basic",
        1,
        ["hv1", "hv2"],
    )
    assert {key: gold["cpu"][key] for key in ("model", "address_bits")} == {"model": "kvm64", "address_bits": 40}
    assert tuple(gold["cpu"]["require"]) == PRESETS["default_amd0"].cpu.require
    assert (gold["previous_cpu"], gold["gained"], gold["lost"]) == (None, [], [])


def test_a_record_has_the_shape_that_hosts_keep() -> None:
    hosts = fleet(AVX)
    record = of(converge(hosts, want("hv1:gold")), "hv1")["record"]
    assert set(record) == {"version", "pool", "vendor", "definition", "generation", "members", "cpu", "host"}
    assert record["host"] == record["members"][0] == {"name": "hv1", "uuid": "uuid-hv1"}
    assert set(record["cpu"]) == {"model", "vendor", "require", "disable", "address_bits", "xml", "features"}
    assert "hypervisor" in record["cpu"]["features"]


@pytest.mark.parametrize(
    ("host", "pool"),
    [
        (Sim("hv1"), "default_amd0"),
        (Sim("hv1", vendor="Intel"), "default_intel0"),
        (Sim("hv1", less=frozenset({"aes"})), "default_amd1"),
        (Sim("hv1", less=frozenset({"aes", "sse4.2"})), "default_amd2"),
        (Sim("hv1", bits=39), "default_amd1"),
        (Sim("hv1", bits=36), "default_amd2"),
        (Sim("hv1", bits=None), "default_amd0"),
    ],
)
def test_a_host_that_names_no_pool_joins_the_first_default_pool_whose_cpu_it_can_give(host: Sim, pool: str) -> None:
    answer = converge([host], want("hv1"))
    assert (pools([host]), of(answer, "hv1")["wanted_pool"], answer["feasible"]) == ({pool: ["hv1"]}, pool, True)
    assert host.record
    assert host.record["definition"] == pool


@pytest.mark.parametrize(
    "host", [Sim("hv1", bits=32), Sim("hv1", less=frozenset({"sse2"})), Sim("hv1", vendor="Hygon")]
)
def test_a_host_that_fits_no_default_pool_is_refused(host: Sim) -> None:
    assert codes(converge([host], want("hv1"))) == {("no_default_pool", "hv1", None)}
    assert host.record is None


def test_a_default_pool_whose_cpu_cannot_be_proven_is_followed_by_the_next() -> None:
    # Its description has aes, but its libvirt does not know the name.
    host = Sim("hv1", unknown=frozenset({"aes"}))
    assert converge([host], want("hv1"))["feasible"]
    assert pools([host]) == {"default_amd1": ["hv1"]}


def test_a_member_of_a_default_pool_that_loses_its_cpu_goes_to_the_next() -> None:
    hosts = fleet(AVX, AVX)
    converge(hosts, want("hv1", "hv2"))
    hosts[0].less = frozenset({"aes"})
    answer = converge(hosts, want("hv1", "hv2"))
    assert answer["feasible"]
    assert pools(hosts) == {"default_amd0": ["hv2"], "default_amd1": ["hv1"]}


ARAT = frozenset({"arat"})


@pytest.mark.parametrize("wanted", [want("hv1", "hv2"), want("hv1:gold", "hv2:gold", definition="x86-64-v2-amd")])
def test_a_pool_whose_cpu_is_preset_gets_what_qemu_gives_more_once_all_members_are_upgraded(wanted: list[Data]) -> None:
    hosts = fleet(AVX, AVX)
    cpu = converge(hosts, wanted)["pools"][0]["cpu"]
    hosts[0].extra = ARAT
    answer = ask(hosts, wanted)
    assert {(code, host) for code, host, pool in codes(answer)} == {("drift", "hv1")}
    assert (len(answer["pools"]), writes(answer)) == (1, [])
    hosts[1].extra = ARAT
    (pool,) = converge(hosts, wanted)["pools"]
    assert (pool["status"], pool["gained"], pool["cpu"]["digest"]) == ("changed", ["arat"], cpu["digest"])
    assert generations(hosts) == [2, 2]
    assert writes(converge(hosts, wanted)) == []


@pytest.mark.parametrize("others", [{"extra": frozenset({"other"})}, {"extra": ARAT, "made_bits": 44}])
def test_upgraded_members_that_do_not_agree_have_drifted(others: Data) -> None:
    hosts = fleet(AVX, AVX)
    converge(hosts, want("hv1:gold", "hv2:gold"))
    hosts[0].extra = ARAT
    hosts[1] = replace(hosts[1], **others)
    assert writes(answer := ask(hosts, want("hv1:gold", "hv2:gold"))) == []
    assert {code for code, host, pool in codes(answer)} == {"drift"}


@pytest.mark.parametrize("extra", [frozenset(), frozenset({"other"})])
def test_members_that_all_give_less_or_something_else_have_drifted(extra: frozenset[str]) -> None:
    hosts = [Sim("hv1", extra=ARAT), Sim("hv2", extra=ARAT)]
    converge(hosts, want("hv1:gold", "hv2:gold"))
    hosts[0].extra = hosts[1].extra = extra
    answer = ask(hosts, want("hv1:gold", "hv2:gold"))
    assert ({code for code, host, pool in codes(answer)}, writes(answer)) == ({"drift"}, [])


def test_a_newcomer_that_is_not_upgraded_does_not_hold_back_members_that_all_are() -> None:
    hosts = fleet(AVX, AVX, AVX)
    converge(hosts, want("hv1:gold", "hv2:gold", "-hv3"))
    hosts[0].extra = hosts[1].extra = ARAT
    answer = converge(hosts, want("hv1:gold", "hv2:gold", "hv3:gold"))
    assert codes(answer) == {("proof", "hv3", "gold")}
    assert generations(hosts) == [2, 2, None]


def test_a_newcomer_of_a_default_pool_that_gives_more_is_refused_and_does_not_go_to_a_weaker_one() -> None:
    hosts = fleet(AVX, AVX)
    converge(hosts[:1], want("hv1"))
    hosts[1].extra = ARAT
    assert codes(converge(hosts, want("hv1", "hv2"))) == {("proof", "hv2", "default_amd0")}
    hosts[0].extra = ARAT
    assert converge(hosts, want("hv1", "hv2"))["feasible"]
    assert pools(hosts) == {"default_amd0": ["hv1", "hv2"]}


def test_a_member_of_a_default_pool_stays_although_it_could_give_more() -> None:
    host = Sim("hv1", less=frozenset({"aes"}))
    converge([host], want("hv1"))
    host.less = frozenset()
    converge([host], want("hv1"))
    assert pools([host]) == {"default_amd1": ["hv1"]}


@pytest.mark.parametrize("name", ["default_amd0", "default_intel7", "Default_AMD0"])
def test_a_default_pool_cannot_be_named(name: str) -> None:
    hosts = fleet(AVX)
    assert codes(converge(hosts, want(f"hv1:{name}"))) == {("default_pool", "hv1", name)}


@pytest.mark.parametrize("fields", [{"definition": "baseline"}, {"definition": "basic"}, {"address_bits": 40}])
def test_a_default_pool_cannot_be_defined(fields: Data) -> None:
    answer = converge(fleet(AVX), [{**want("hv1")[0], **fields}])
    assert codes(answer) == {("default_pool", "hv1", None)}


def test_a_default_pool_cannot_be_recalculated() -> None:
    hosts = fleet(AVX)
    converge(hosts, want("hv1"))
    answer = converge(hosts, want("hv1"), recalc=["default_amd0"])
    assert codes(answer) == {("default_pool", None, "default_amd0")}
    assert writes(answer) == []


@pytest.mark.parametrize("name", ["", "-gold", "go ld", "gold/1", "g" * 64, "göld"])
def test_a_pool_must_have_a_proper_name(name: str) -> None:
    assert codes(converge(fleet(AVX), want(f"hv1:{name}"))) == {("pool_name", "hv1", name)}


def test_a_weaker_host_is_refused_and_the_others_go_on() -> None:
    hosts = fleet(AVX, frozenset(), AVX)
    converge(hosts, want("hv1:gold", "-hv2", "-hv3"), recalc=["gold"])
    answer = converge(hosts, want("hv1:gold", "hv2:gold", "hv3:gold"))
    assert codes(answer) == {("lacks_features", "hv2", "gold")}
    assert answer["refusals"][0]["features"] == ["avx", "xsave"]
    assert "hv2" in answer["refusals"][0]["msg"]
    assert pools(hosts) == {"gold": ["hv1", "hv3"]}
    assert of(answer, "hv2")["action"] == "refused"


def test_a_recalculation_makes_room_for_a_weaker_host_and_raises_the_pool_when_it_has_gone() -> None:
    hosts = fleet(AVX, frozenset())
    raised = converge(hosts, want("hv1:gold", "-hv2", definition="baseline"))
    assert one(raised, "gold")["cpu"]["features"] == sorted(BASIC | AVX | {"hypervisor"})
    lowered = converge(hosts, want("hv1:gold", "hv2:gold", definition="baseline"))
    assert one(lowered, "gold")["lost"] == ["avx", "xsave"]
    assert pools(hosts) == {"gold": ["hv1", "hv2"]}
    again = converge(hosts, want("hv1:gold", "-hv2", definition="baseline"))
    assert (one(again, "gold")["gained"], generations(hosts)) == (["avx", "xsave"], [3, None])


def test_a_pool_is_never_recalculated_unasked() -> None:
    hosts = fleet(AVX, AVX)
    converge(hosts, want("hv1:gold", "hv2:gold"))
    assert one(converge(hosts, want("hv1:gold", "hv2:gold")), "gold")["status"] == "unchanged"
    converge(hosts, want("hv1:gold", "hv2:gold"), recalc=["gold"])
    assert one(ask(hosts, want("hv1:gold", "hv2:gold")), "gold")["definition"] == "baseline"
    hosts[0].more |= {"avx2"}
    hosts[1].more |= {"avx2"}
    assert one(ask(hosts, want("hv1:gold", "hv2:gold")), "gold")["gained"] == []


def test_a_recalculation_is_refused_where_the_inventory_says_something_else() -> None:
    hosts = fleet(AVX)
    converge(hosts, want("hv1:gold", definition="basic"))
    answer = converge(hosts, want("hv1:gold", definition="basic"), recalc=["gold"])
    assert codes(answer) == {("definition", None, "gold")}
    assert writes(answer) == []


def test_a_pool_that_nobody_knows_cannot_be_recalculated() -> None:
    assert codes(converge(fleet(AVX), want("hv1"), recalc=["gold"])) == {("pool_name", None, "gold")}


def test_a_tier_is_the_cpu_of_the_pool_and_hosts_below_it_are_refused() -> None:
    hosts = fleet(AVX, frozenset())
    hosts[1].less = frozenset({"sse4.2"})
    answer = converge(hosts, want("hv1:gold", "hv2:gold", definition="x86-64-v2-amd"))
    assert codes(answer) == {("lacks_features", "hv2", "gold")}
    assert hosts[0].record
    assert hosts[0].record["definition"] == "x86-64-v2-amd"
    assert tuple(hosts[0].record["cpu"]["require"]) == PRESETS["x86-64-v2-amd"].cpu.require


def test_a_tier_that_a_member_is_below_is_refused_and_the_pool_stays() -> None:
    hosts = fleet(AVX, frozenset())
    converge(hosts, want("hv1:gold", "hv2:gold"))
    answer = converge(hosts, want("hv1:gold", "hv2:gold", definition="x86-64-v3-amd"))
    assert {code for code, host, pool in codes(answer)} == {"lacks_features"}
    assert (one(answer, "gold")["status"], writes(answer)) == ("refused", [])


@pytest.mark.parametrize("definition", ["x86-64-v9", "default_amd0", "host-model"])
def test_an_unknown_definition_is_refused_with_those_that_are_known(definition: str) -> None:
    answer = converge(fleet(AVX), want("hv1:gold", definition=definition))
    assert codes(answer) == {("definition", None, "gold"), ("definition", "hv1", "gold")}
    assert "x86-64-v2-amd" in answer["refusals"][0]["msg"]


def test_a_tier_of_another_vendor_is_refused() -> None:
    hosts = fleet(AVX)
    converge(hosts, want("hv1:gold"))
    assert codes(ask(hosts, want("hv1:gold", definition="x86-64-v2-intel"))) == {("definition", None, "gold")}


def test_hosts_of_a_pool_must_agree_about_its_definition_and_others_may_leave_meanwhile() -> None:
    hosts = fleet(AVX, AVX, AVX)
    converge(hosts, want("hv1:gold", "hv2:gold", "hv3:gold"))
    wanted = [*want("hv1:gold", definition="baseline"), *want("hv2:gold"), *want("-hv3")]
    answer = converge(hosts, wanted)
    assert codes(answer) == {("definition_conflict", None, "gold")}
    assert "hv1: baseline; hv2: no definition" in answer["refusals"][0]["msg"]
    assert pools(hosts) == {"gold": ["hv1", "hv2"]}


def test_a_baseline_stays_when_a_host_hides_what_the_pool_does_not_have() -> None:
    hosts = fleet(AVX, AVX | {"clwb", "rdpid"})
    wanted = want("hv1:gold", "hv2:gold", definition="baseline")
    cpu = one(converge(hosts, wanted), "gold")["cpu"]
    assert "clwb" in cpu["disable"]
    hosts[1].less = frozenset({"clwb"})
    answer = converge(hosts, wanted)
    assert of(answer, "hv2")["drift"]["lost"] == ["clwb"]
    assert (one(answer, "gold")["status"], one(answer, "gold")["cpu"], generations(hosts)) == ("unchanged", cpu, [1, 1])
    assert writes(ask(hosts, wanted)) == []


def test_a_baseline_gains_what_all_hosts_have_by_now() -> None:
    hosts = [Sim(name, less=frozenset({"aes"})) for name in ("hv1", "hv2")]
    hosts[1].less |= {"vme"}
    wanted = want("hv1:gold", "hv2:gold", definition="baseline")
    before = one(converge(hosts, wanted), "gold")["cpu"]
    hosts[1].less -= {"vme"}
    answer = one(converge(hosts, wanted), "gold")
    assert (answer["gained"], answer["lost"], generations(hosts)) == (["vme"], [], [2, 2])
    after = answer["cpu"]
    assert (before["model"], before["require"]) == (after["model"], after["require"])
    assert "vme" in before["disable"]


@pytest.mark.parametrize(
    ("wanted", "bits"), [(None, 46), ("none", None), ("44", 44), (44, 44)], ids=["smallest", "none", "text", "number"]
)
def test_the_address_width_of_a_baseline_is_the_smallest_unless_it_is_given(wanted: Any, bits: int | None) -> None:
    hosts = [Sim("hv1", bits=48), Sim("hv2", bits=46)]
    answer = converge(hosts, want("hv1:gold", "hv2:gold", definition="baseline", address_bits=wanted))
    assert one(answer, "gold")["cpu"]["address_bits"] == bits
    assert answer["feasible"]


def test_an_unknown_address_width_is_not_written_and_said() -> None:
    hosts = [Sim("hv1", bits=48), Sim("hv2", bits=None)]
    answer = converge(hosts, want("hv1:gold", "hv2:gold", definition="baseline"))
    assert one(answer, "gold")["cpu"]["address_bits"] is None
    assert any("hv2" in note for note in answer["notes"])


def test_a_host_moves_and_its_old_pool_forgets_it() -> None:
    hosts = fleet(AVX, AVX, AVX)
    converge(hosts, want("hv1:gold", "hv2:gold", "hv3:iron"))
    answer = converge(hosts, want("hv1:gold", "hv2:iron", "hv3:iron"))
    assert pools(hosts) == {"gold": ["hv1"], "iron": ["hv2", "hv3"]}
    assert (one(answer, "gold")["left"], one(answer, "iron")["joined"]) == (["hv2"], ["hv2"])
    assert generations(hosts) == [2, 2, 2]
    assert of(answer, "hv2")["previous_pool"] == "gold"
    assert [member["name"] for member in (hosts[0].record or {})["members"]] == ["hv1"]


def test_a_host_whose_new_pool_refuses_it_stays_in_the_old_one_which_may_change_meanwhile() -> None:
    hosts = fleet(AVX, frozenset(), AVX)
    converge(hosts, want("hv1:iron", definition="baseline") + want("hv2:gold", "hv3:gold"))
    answer = converge(hosts, want("hv1:iron", "hv2:iron", "-hv3"))
    assert codes(answer) == {("lacks_features", "hv2", "iron")}
    assert pools(hosts) == {"gold": ["hv2"], "iron": ["hv1"]}
    assert (of(answer, "hv2")["action"], of(answer, "hv2")["pool"], of(answer, "hv2")["wanted_pool"]) == (
        "write",
        "gold",
        "iron",
    )


def test_hosts_can_change_places() -> None:
    hosts = fleet(AVX, AVX)
    converge(hosts, want("hv1:gold", "hv2:iron"))
    assert converge(hosts, want("hv1:iron", "hv2:gold"))["feasible"]
    assert pools(hosts) == {"gold": ["hv2"], "iron": ["hv1"]}


def test_a_pool_that_everybody_leaves_starts_anew_for_those_who_come() -> None:
    hosts = fleet(AVX, AVX)
    converge(hosts, want("hv1:gold", "-hv2"), recalc=["gold"])
    answer = converge(hosts, want("-hv1", "hv2:gold"))
    assert (one(answer, "gold")["definition"], pools(hosts)) == ("basic", {"gold": ["hv2"]})


def test_leaving_removes_the_record_and_the_others_forget_the_host() -> None:
    hosts = fleet(AVX, AVX)
    converge(hosts, want("hv1:gold", "hv2:gold"))
    answer = converge(hosts, want("-hv1", "hv2:gold"))
    assert (of(answer, "hv1")["action"], of(answer, "hv1")["pool"]) == ("remove", None)
    assert pools(hosts) == {"gold": ["hv2"]}
    assert [member["name"] for member in (hosts[1].record or {})["members"]] == ["hv2"]


def test_the_last_member_takes_the_pool_with_it() -> None:
    hosts = fleet(AVX)
    converge(hosts, want("hv1:gold"))
    answer = converge(hosts, want("-hv1"))
    assert (one(answer, "gold")["status"], one(answer, "gold")["members"], pools(hosts)) == ("removed", [], {})


def test_leaving_is_no_matter_of_vms() -> None:
    hosts = fleet(AVX)
    converge(hosts, want("hv1:gold"))
    hosts[0].vms = [vm("db", AVX)]
    assert converge(hosts, want("-hv1"))["feasible"]


def test_a_host_in_no_pool_does_not_found_one_because_the_others_stay_where_they_are() -> None:
    hosts = [Sim("hv1"), Sim("hv2"), Sim("hv3", vendor="Intel")]
    converge(hosts, want("hv1:silver", "-hv2", "hv3:iron"))
    wanted = want("hv1:gold", "hv2:gold", "hv3:gold")
    answer = converge(hosts, wanted)
    assert codes(answer) == {("vendor", name, "gold") for name in ("hv1", "hv2", "hv3")}
    assert pools(hosts) == {"iron": ["hv3"], "silver": ["hv1"]}
    assert writes(ask(hosts, wanted)) == []


def test_two_pools_of_one_vendor_stay_apart() -> None:
    hosts = fleet(AVX, AVX)
    answer = converge(hosts, want("hv1:gold", "hv2:iron"))
    assert {pool["name"]: pool["members"] for pool in answer["pools"]} == {"gold": ["hv1"], "iron": ["hv2"]}


def test_a_member_that_does_not_answer_blocks_changes_of_its_pool_only() -> None:
    hosts = fleet(AVX, AVX, AVX, AVX)
    converge(hosts, want("hv1:gold", "hv2:gold", "-hv3", "-hv4"))
    answer = ask([hosts[0], *hosts[2:]], want("hv1:gold", "hv3:gold", "hv4:iron"), unavailable=["hv2"])
    assert codes(answer) == {("member_unavailable", "hv3", "gold")}
    assert {item["name"] for item in writes(answer)} == {"hv4"}
    assert (one(answer, "gold")["status"], one(answer, "gold")["unavailable"]) == ("unchanged", ["hv2"])
    assert one(answer, "gold")["members"] == ["hv1", "hv2"]


@pytest.mark.parametrize(
    ("wanted", "options"),
    [(want("-hv1"), {}), (want("hv1:iron"), {}), (want("hv1:gold"), {"recalc": ["gold"]})],
    ids=["leave", "move", "recalculate"],
)
def test_a_pool_with_a_silent_member_is_neither_left_nor_recalculated(wanted: list[Data], options: Data) -> None:
    hosts = fleet(AVX, AVX)
    converge(hosts, want("hv1:gold", "hv2:gold"))
    answer = ask(hosts[:1], wanted, unavailable=["hv2"], **options)
    assert {code for code, host, pool in codes(answer)} == {"member_unavailable"}
    assert writes(answer) == []


def test_a_baseline_with_a_silent_member_waits_without_a_refusal() -> None:
    hosts = fleet(AVX, AVX)
    wanted = want("hv1:gold", "hv2:gold", definition="baseline")
    converge(hosts, wanted)
    answer = ask(hosts[:1], wanted[:1], unavailable=["hv2"])
    assert (answer["feasible"], writes(answer)) == (True, [])
    assert "Pool gold is not recalculated without hv2." in answer["notes"]


def test_a_member_that_is_seen_but_not_in_the_run_is_not_written_and_blocks_changes() -> None:
    hosts = fleet(AVX, AVX, AVX)
    converge(hosts, want("hv1:gold", "hv2:gold", "-hv3"))
    answer = ask(hosts, want("hv1:gold", "hv3:gold"), unavailable=["hv2"])
    assert codes(answer) == {("member_unavailable", "hv3", "gold")}
    assert codes(ask(hosts, want("hv1:gold", "hv3:gold"))) == {("member_unavailable", "hv3", "gold")}


def test_a_member_that_is_in_no_inventory_any_more_is_dropped_and_said() -> None:
    hosts = fleet(AVX, AVX)
    converge(hosts, want("hv1:gold", "hv2:gold"))
    answer = converge(hosts[:1], want("hv1:gold"))
    assert (answer["feasible"], one(answer, "gold")["members"]) == (True, ["hv1"])
    assert any("hv2" in note for note in answer["notes"])
    assert [member["name"] for member in (hosts[0].record or {})["members"]] == ["hv1"]


def test_a_dropped_member_that_comes_back_joins_again() -> None:
    hosts = fleet(AVX, AVX)
    converge(hosts, want("hv1:gold", "hv2:gold"))
    converge(hosts[:1], want("hv1:gold"))
    hosts[1].vms = [vm("db", AVX)]
    answer = ask(hosts, want("hv1:gold", "hv2:gold"))
    assert codes(answer) == {("running_vms", "hv2", "gold")}
    assert any("hv2" in note and "record" in note for note in answer["notes"])


def test_a_renamed_host_stays_a_member() -> None:
    hosts = fleet(AVX, AVX)
    converge(hosts, want("hv1:gold", "hv2:gold"))
    renamed = replace(hosts[1], name="db7", uuid="uuid-hv2")
    answer = converge([hosts[0], renamed], want("hv1:gold", "db7:gold"))
    assert (one(answer, "gold")["joined"], one(answer, "gold")["members"]) == ([], ["db7", "hv1"])


@pytest.mark.parametrize("code", ["record_version", "bad_record"])
def test_a_host_with_a_record_that_cannot_be_used_is_left_alone_and_blocks_its_pool(code: str) -> None:
    hosts = fleet(AVX, AVX, AVX)
    converge(hosts, want("hv1:gold", "hv2:gold", "-hv3"))
    hosts[1].record, hosts[1].error = None, {"code": code, "msg": "the file cannot be used"}
    answer = ask(hosts, want("hv1:gold", "hv2:gold", "hv3:gold"))
    assert codes(answer) == {(code, "hv2", None), ("member_unavailable", "hv3", "gold")}
    assert writes(answer) == []
    assert codes(ask(hosts, want("hv1:gold", "-hv2", "-hv3"))) == {(code, "hv2", None)}


@pytest.mark.parametrize("written", range(4))
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_a_raise_that_was_cut_off_is_finished_by_the_next_run_without_asking_again(
    written: int, order: tuple[int, ...]
) -> None:
    hosts = fleet(AVX, AVX, AVX)
    wanted = want("hv1:gold", "hv2:gold", "hv3:gold")
    converge(hosts, wanted)
    execute(hosts, ask(hosts, wanted, recalc=["gold"]), order, written)
    converge(hosts, wanted)
    assert len(set(cpus(hosts))) == 1
    assert generations(hosts) == ([1] * 3 if written == 0 else [2] * 3)


def test_an_unfinished_generation_that_cannot_be_proven_is_reported_and_left() -> None:
    hosts = fleet(AVX, AVX)
    wanted = want("hv1:gold", "hv2:gold")
    converge(hosts, wanted)
    execute(hosts, ask(hosts, wanted, recalc=["gold"]), only=1)
    hosts[1].more = frozenset()
    answer = ask(hosts, wanted)
    assert codes(answer) == {("incomplete_generation", "hv2", "gold")}
    assert writes(answer) == []
    assert converge(hosts, wanted, recalc=["gold"])["feasible"]
    assert generations(hosts) == [3, 3]


def test_an_unfinished_generation_waits_for_a_silent_member() -> None:
    hosts = fleet(AVX, AVX, AVX)
    wanted = want("hv1:gold", "hv2:gold", "hv3:gold")
    execute(hosts, ask(hosts, wanted), only=1)
    answer = ask(hosts[:2], wanted[:2], unavailable=["hv3"])
    assert codes(answer) == {("member_unavailable", None, "gold"), ("member_unavailable", "hv2", "gold")}
    assert writes(answer) == []


def test_records_of_one_generation_that_disagree_need_a_recalculation() -> None:
    hosts = fleet(AVX, AVX)
    wanted = want("hv1:gold", "hv2:gold")
    converge(hosts, wanted)
    other = copies(hosts)
    execute(hosts, ask(hosts, wanted, recalc=["gold"]), only=1)
    execute(other, ask(other, want("hv1:gold", "hv2:gold", definition="x86-64-v2-amd")), order=(1, 0), only=1)
    torn = [hosts[0], other[1]]
    assert generations(torn) == [2, 2]
    assert codes(ask(torn, wanted)) == {("incomplete_generation", None, "gold")}
    assert converge(torn, wanted, recalc=["gold"])["feasible"]
    assert generations(torn) == [3, 3]


def test_a_move_that_was_cut_off_after_the_mover_leaves_no_trace_in_the_old_pool() -> None:
    hosts = fleet(AVX, AVX)
    converge(hosts, want("hv1:gold", "hv2:gold"))
    wanted = want("hv1:gold", "hv2:iron")
    execute(hosts, ask(hosts, wanted), order=(1, 0), only=1)
    assert pools(hosts) == {"gold": ["hv1"], "iron": ["hv2"]}
    assert converge(hosts, wanted)["feasible"]
    assert [member["name"] for member in (hosts[0].record or {})["members"]] == ["hv1"]


def test_a_harmless_change_of_versions_is_recorded_without_a_new_generation() -> None:
    hosts = fleet(AVX, AVX)
    wanted = want("hv1:gold", "hv2:gold")
    converge(hosts, wanted)
    hosts[0].versions["kernel"] = "6.13.0"
    answer = converge(hosts, wanted)
    assert [item["name"] for item in writes(answer)] == ["hv1"]
    assert of(answer, "hv1")["drift"]["versions"] == [{"name": "kernel", "before": "6.12.0", "after": "6.13.0"}]
    assert (generations(hosts), writes(converge(hosts, wanted))) == ([1, 1], [])


def test_drift_stops_changes_of_the_pool_until_it_is_recalculated_or_the_host_leaves() -> None:
    hosts = fleet(AVX, AVX, AVX)
    converge(hosts, want("hv1:gold", "hv2:gold", "-hv3"), recalc=["gold"])
    hosts[1].more = frozenset()
    answer = ask(hosts, want("hv1:gold", "hv2:gold", "hv3:gold"))
    assert codes(answer) == {("drift", "hv2", "gold"), ("drift", "hv3", "gold")}
    assert (of(answer, "hv2")["drift"]["pool_lost"], writes(answer)) == (["avx", "xsave"], [])
    assert ask(hosts, want("hv1:gold", "-hv2", "hv3:gold"))["feasible"]
    lowered = ask(hosts, want("hv1:gold", "hv2:gold", "hv3:gold"), recalc=["gold"])
    assert (lowered["feasible"], one(lowered, "gold")["lost"]) == (True, ["avx", "xsave"])


def test_vms_that_run_with_more_than_a_lowered_pool_are_named() -> None:
    hosts = fleet(AVX, frozenset())
    converge(hosts, want("hv1:gold", "-hv2", definition="baseline"))
    hosts[0].vms = [vm("db", {"sse2", "avx"}), vm("off", {"avx"}, state="shutoff"), vm("web", {"sse2"})]
    answer = converge(hosts, want("hv1:gold", "hv2:gold", definition="baseline"))
    assert answer["restart_required"] == [
        {
            "vm": "db",
            "uuid": "uuid-db",
            "host": "hv1",
            "pool": "gold",
            "features": ["avx"],
            "address_bits": None,
            "saved": False,
            "lost": [],
        }
    ]
    assert answer["feasible"]


def test_every_member_is_proven_again_in_every_run() -> None:
    hosts = fleet(AVX, AVX)
    converge(hosts, want("hv1:gold", "hv2:gold"))
    answer = _pool.plan({"wanted": want("hv1:gold", "hv2:gold")}, snapshot(hosts))
    assert answer["stage"] == "proof"
    assert {item["name"]: item["prove"]["digest"] for item in answer["hosts"]} == dict.fromkeys(
        ("hv1", "hv2"), one(answer, "gold")["cpu"]["digest"]
    )
    assert all(item["record"] is None for item in answer["hosts"])


def test_a_candidate_of_other_hosts_is_not_used() -> None:
    hosts = fleet(AVX, frozenset())
    asked = {"wanted": want("hv1:gold", "hv2:gold", definition="baseline")}
    first = one(_pool.plan(asked, snapshot(hosts)), "gold")
    candidate = {"pool": "gold", "compute_id": "b0", "cpu": {"model": "kvm64"}, "features": ["sse2"]}
    assert _pool.plan({**asked, "candidates": [candidate]}, snapshot(hosts))["stage"] == "baseline"
    fitting = {**candidate, "compute_id": first["compute_id"]}
    assert _pool.plan({**asked, "candidates": [fitting]}, snapshot(hosts))["stage"] == "proof"


def test_a_new_pool_is_said_to_be_new_as_far_as_known_while_hosts_are_silent() -> None:
    answer = ask(fleet(AVX), want("hv1:gold"), unavailable=["hv9"])
    assert "Pool gold is new as far as known; hv9 could not be asked." in answer["notes"]


def test_kept_hosts_have_no_opinion_about_the_pool_of_the_others() -> None:
    hosts = fleet(AVX, AVX, AVX, AVX)
    wanted = want("hv1:gold", "hv2:gold", definition="baseline")
    converge(hosts, [*wanted, *want("hv3:iron", "-hv4")])
    hosts[0].more |= {"avx2"}
    answer = converge(hosts, [*wanted[:1], *kept("hv2", "hv3", "hv4")])
    assert answer["feasible"]
    assert pools(hosts) == {"gold": ["hv1", "hv2"], "iron": ["hv3"]}
    assert (one(answer, "gold")["definition"], of(answer, "hv4")["action"]) == ("baseline", "none")
    assert writes(converge(hosts, kept("hv1", "hv2", "hv3", "hv4"))) == []


@pytest.mark.parametrize("ignored", [{"state": "absent"}, {"pool": "iron"}, {"definition": "x"}, {"address_bits": "1"}])
def test_what_else_is_said_of_a_kept_host_is_ignored(ignored: Data) -> None:
    hosts = fleet(AVX)
    converge(hosts, want("hv1:gold"))
    answer = ask(hosts, [{**kept("hv1")[0], **ignored}])
    assert (answer["feasible"], of(answer, "hv1")["pool"], writes(answer)) == (True, "gold", [])


def test_a_kept_member_of_a_default_pool_stays_there_even_if_it_no_longer_gives_its_cpu() -> None:
    hosts = fleet(AVX, AVX)
    converge(hosts, want("hv1", "hv2"))
    hosts[0].less = frozenset({"aes"})
    answer = converge(hosts, [*kept("hv1"), *want("hv2")])
    assert codes(answer) == {("drift", "hv1", "default_amd0")}
    assert (pools(hosts), writes(answer)) == ({"default_amd0": ["hv1", "hv2"]}, [])


def test_a_kept_host_whose_pool_does_not_count_it_joins_it_or_is_refused() -> None:
    hosts = fleet(AVX, AVX)
    converge(hosts, want("hv1:gold", "hv2:gold"))
    converge(hosts[:1], want("hv1:gold"))
    weak = copies(hosts)
    weak[1].extra = ARAT
    wanted = [*want("hv1:gold"), *kept("hv2")]
    assert codes(ask(weak, wanted)) == {("proof", "hv2", "gold")}
    assert one(ask(hosts, wanted), "gold")["joined"] == ["hv2"]


def test_a_kept_host_with_a_record_that_cannot_be_used_is_refused() -> None:
    host = Sim("hv1", error={"code": "bad_record", "msg": "the file cannot be used"})
    assert codes(ask([host], kept("hv1"))) == {("bad_record", "hv1", None)}


def returning(weak: bool, fields: Data) -> tuple[list[Sim], list[Data]]:
    """Let hv3 be away with generation 9 of gold while the others leave, and hv4 and hv5 form another gold."""
    hosts = fleet(AVX, AVX, AVX, AVX, AVX)
    converge(hosts[:3], want("hv1:gold", "hv2:gold", "hv3:gold", definition="baseline"))
    for host in hosts[:3]:
        host.record = {**(host.record or {}), "generation": 9}
    converge(hosts[:2], want("hv1:iron", "hv2:iron"), unavailable=["hv9"])
    for host in hosts[3:] if weak else ():
        host.less = frozenset({"sse4.2"})
    wanted = [*want("hv1:iron", "hv2:iron"), *want("hv4:gold", "hv5:gold", **fields)]
    converge([*hosts[:2], *hosts[3:]], wanted)
    assert generations(hosts)[2:] == [9, 1, 1]
    return hosts, [*wanted, *want("hv3:gold", **fields)]


def test_a_host_that_comes_back_with_a_pool_that_is_no_more_joins_the_one_that_is() -> None:
    hosts, wanted = returning(False, {})
    answer = converge(hosts, wanted)
    assert (one(answer, "gold")["joined"], one(answer, "gold")["definition"]) == (["hv3"], "basic")
    assert generations(hosts)[2:] == [10, 10, 10]
    assert "avx" not in (hosts[3].record or {})["cpu"]["features"]


def test_a_host_that_comes_back_with_a_pool_that_is_no_more_may_be_refused_and_changes_nothing() -> None:
    hosts, wanted = returning(True, {"definition": "baseline"})
    hosts[2].vms = [vm("db", {"sse4.2"})]
    answer = converge(hosts, wanted)
    assert codes(answer) == {("running_vms", "hv3", "gold")}
    assert (writes(answer), generations(hosts)[2:]) == ([], [9, 1, 1])


def test_an_unfinished_generation_goes_on_if_it_knows_a_member_of_the_pool() -> None:
    hosts = fleet(AVX, AVX, AVX)
    converge(hosts, want("hv1:gold", "-hv2", "-hv3"))
    wanted = want("-hv1", "hv2:gold", "hv3:gold")
    execute(hosts, ask(hosts, want("hv1:gold", "hv2:gold", "-hv3")), order=(1, 0, 2), only=1)
    assert generations(hosts) == [1, 2, None]
    assert one(_stat(hosts), "gold")["generation"] == 2
    converge(hosts, wanted)
    assert (pools(hosts), generations(hosts)) == ({"gold": ["hv2", "hv3"]}, [None, 3, 3])


def _stat(hosts: list[Sim]) -> Data:
    return _pool.plan({"question": "stat"}, snapshot(hosts))


def founded_apart(*definitions: str | None) -> list[Sim]:
    """Return hv1 and hv2, each of which has formed gold while the other was silent."""
    hosts = fleet(AVX, frozenset())
    for host, definition in zip(hosts, definitions, strict=True):
        other = next(item.name for item in hosts if item is not host)
        converge([host], want(f"{host.name}:gold", definition=definition), unavailable=[other])
    assert generations(hosts) == [1, 1]
    return hosts


def test_two_pools_of_one_name_that_were_founded_apart_need_a_recalculation() -> None:
    hosts = founded_apart("baseline", "baseline")
    wanted = want("hv1:gold", "hv2:gold")
    answer = ask(hosts, wanted)
    assert codes(answer) == {("incomplete_generation", None, "gold"), ("incomplete_generation", "hv2", "gold")}
    assert "Recalculate the pool, or take hv2 out of it in one run" in answer["refusals"][0]["msg"]
    assert (one(_stat(hosts), "gold")["status"], writes(answer)) == ("incomplete", [])
    apart = copies(hosts)
    converge(apart, want("hv1:gold", "-hv2"))
    assert ask(apart, want("hv1:gold", "-hv2"))["feasible"]
    assert converge(hosts, wanted, recalc=["gold"])["feasible"]
    assert generations(hosts) == [2, 2]


def test_two_pools_of_one_name_with_the_same_cpu_become_one() -> None:
    hosts = founded_apart(None, None)
    assert converge(hosts, want("hv1:gold", "hv2:gold"))["feasible"]
    assert (pools(hosts), generations(hosts)) == ({"gold": ["hv1", "hv2"]}, [2, 2])


def test_what_all_members_hold_or_have_passed_is_the_pool_while_later_records_disagree() -> None:
    hosts = fleet(AVX, AVX, AVX)
    wanted = want("hv1:gold", "hv2:gold", "hv3:gold")
    converge(hosts, wanted)
    other = copies(hosts)
    execute(hosts, ask(hosts, wanted, recalc=["gold"]), only=1)
    tier = want("hv1:gold", "hv2:gold", "hv3:gold", definition="x86-64-v2-amd")
    execute(other, ask(other, tier), order=(1, 0, 2), only=1)
    torn = [hosts[0], other[1], hosts[2]]
    assert generations(torn) == [2, 2, 1]
    assert (one(_stat(torn), "gold")["generation"], one(_stat(torn), "gold")["definition"]) == (1, "basic")


def test_of_records_that_disagree_and_were_never_finished_the_one_with_most_members_is_shown() -> None:
    hosts = fleet(AVX, AVX, AVX, AVX)
    few, many = want("hv1:gold", "hv2:gold"), want("hv2:gold", "hv3:gold", "hv4:gold")
    execute(hosts, ask(hosts, few), order=(0, 1, 2, 3), only=1)
    other = copies(hosts)
    other[0].record = None
    execute(other, ask(other[1:], many), only=1)
    torn = [hosts[0], *other[1:]]
    assert generations(torn) == [1, 1, None, None]
    assert one(_stat(torn), "gold")["members"] == ["hv2"]


def test_a_pool_is_not_created_while_the_record_of_a_host_that_wants_to_be_in_it_cannot_be_read() -> None:
    error = {"code": "bad_record", "msg": "the file cannot be used"}
    hosts = [Sim("hv1", error=error), Sim("hv2"), Sim("hv3")]
    answer = converge(hosts, want("hv1:gold", "hv2:gold", "hv3:iron"))
    assert codes(answer) == {("bad_record", "hv1", None), ("member_unavailable", "hv2", "gold")}
    assert "the records of hv1 cannot be read" in answer["refusals"][1]["msg"]
    assert (one(answer, "gold")["status"], pools(hosts)) == ("refused", {"iron": ["hv3"]})
    assert "Pool iron is new as far as known; hv1 could not be asked." in answer["notes"]
    assert codes(ask(hosts, [*want("hv1:gold"), *kept("hv2", "hv3")])) == {("bad_record", "hv1", None)}
