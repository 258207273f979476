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
        {"vm": "db", "uuid": "uuid-db", "host": "hv1", "pool": "gold", "features": ["avx"]}
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
