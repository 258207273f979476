# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may not join a pool, and why: one table for each rule, with the code, the names and the next step."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _pool

from tests.unit.pool.sim import XSAVE, Data, Sim, ask, codes, converge, one, pools, snapshot, vm, want, writes

AVX = frozenset({"avx", "xsave"})
AVX512 = frozenset({"avx", "xsave", "avx512f"})
OTHER = [[2, 256, 576], [5, 64, 832]]
OLD_TYPE = "pc-q35-9.0"


def joining(member: Sim, newcomer: Sim, definition: str | None = None, **options: Any) -> Data:
    """Let one host form a pool, and another one join it; return the answer."""
    first = want("hv1:gold", "-hv2", definition=definition)
    assert converge([member, newcomer], first, running_vms="report")["feasible"]
    return converge([member, newcomer], want("hv1:gold", "hv2:gold", definition=definition), **options)


def refusal(answer: Data, host: str) -> Data:
    return next(item for item in answer["refusals"] if item["host"] == host)


def clock(megahertz: float, scaling: bool | None = None) -> Data:
    return {"frequency_hz": int(megahertz * 1e6), "scaling": scaling}


def invtsc(name: str = "db", **fields: Any) -> list[Data]:
    return [vm(name, {"sse2", "invtsc"}, **fields)]


@pytest.mark.parametrize(
    ("newcomer", "code", "words"),
    [
        (Sim("hv2", vendor="Intel"), "vendor", "Intel"),
        (Sim("hv2", virt_type="qemu"), "virt_type", "kvm"),
        (Sim("hv2", vendor=None), "vendor", "does not tell the vendor"),
        (Sim("hv2", no_cpu=True), "no_cpu", "domcapabilities"),
        (Sim("hv2", less=frozenset({"aes"})), "lacks_features", "aes"),
        (Sim("hv2", bits=39), "address_bits", "39 physical address bits"),
        (Sim("hv2", vms=[vm("db", {"sse2", "avx2"})]), "running_vms", "db: avx2"),
        (Sim("hv2", vms=[vm("db", {"avx2"}, state="shutoff", saved=True)]), "running_vms", "db (saved): avx2"),
        (Sim("hv2", vms=[vm("db", {"avx2"}, address_bits=46)]), "running_vms", "db: avx2, 46 address bits"),
        (Sim("hv2", vms=[vm("db", address_bits=41)]), "running_vms", "(db: 41 address bits)"),
        (Sim("hv2", made_bits=39), "proof", "address bits 39 instead of 40"),
        (Sim("hv2", vms=[vm("db", {"sse2"}, machine_type=OLD_TYPE)]), "machine_type", f"{OLD_TYPE}: db"),
        (Sim("hv2", machine_types=[OLD_TYPE]), "machine_type", "pc-q35-10.0: web"),
        (Sim("hv2", extra=frozenset({"arat"})), "proof", "with arat"),
        (Sim("hv2", unknown=frozenset({"aes"})), "unknown_feature", "aes"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_newcomer_is_refused_with_the_reason_and_the_names(newcomer: Sim, code: str, words: str) -> None:
    member = Sim("hv1", vms=[vm("web", {"sse2"})])
    answer = joining(member, newcomer)
    assert codes(answer) == {(code, "hv2", "gold")}
    assert words in refusal(answer, "hv2")["msg"]
    assert pools([member, newcomer]) == {"gold": ["hv1"]}
    assert writes(answer) == []


def test_running_vms_can_be_reported_only() -> None:
    answer = joining(Sim("hv1"), Sim("hv2", vms=[vm("db", {"sse2", "avx2"})]), running_vms="report")
    assert answer["feasible"]
    assert [(item["vm"], item["host"], item["features"]) for item in answer["restart_required"]] == [
        ("db", "hv2", ["avx2"])
    ]


@pytest.mark.parametrize(
    ("option", "wish", "feasible"),
    [("refuse", "report", True), ("report", "refuse", False), ("report", None, True), ("refuse", None, False)],
)
@pytest.mark.parametrize("definition", [None, "baseline"])
def test_each_host_can_say_what_running_vms_mean(
    option: str, wish: str | None, feasible: bool, definition: str | None
) -> None:
    hosts = [Sim("hv1"), Sim("hv2", more=AVX, vms=[vm("db", {"avx"})])]
    joined = want("hv1:gold", definition=definition)
    converge(hosts, [*joined, *want("-hv2")])
    asked = [*joined, *want("hv2:gold", definition=definition, running_vms=wish)]
    answer = converge(hosts, asked, running_vms=option)
    assert codes(answer) == (set() if feasible else {("running_vms", "hv2", "gold")})


@pytest.mark.parametrize(("given", "wide"), [(40, False), (None, False), (41, True)])
def test_vms_may_have_the_address_width_of_the_pool_or_one_that_is_not_known(given: int | None, wide: bool) -> None:
    fields = {} if given is None else {"address_bits": given}
    answer = joining(Sim("hv1"), Sim("hv2", vms=[vm("db", {"sse2"}, **fields)]), running_vms="report")
    assert [item["address_bits"] for item in answer["restart_required"]] == ([41] if wide else [])
    answer = joining(Sim("hv1", bits=None), Sim("hv2", vms=[vm("db", **fields)]), "baseline")
    assert answer["feasible"]


def test_vms_that_do_not_run_or_have_no_more_than_the_pool_are_no_hindrance() -> None:
    stopped = vm("off", {"avx2"}, state="shutoff")
    assert joining(Sim("hv1"), Sim("hv2", vms=[stopped, vm("db", {"sse2", "hypervisor"})]))["feasible"]


def test_vms_are_compared_with_the_computed_cpu_of_a_baseline() -> None:
    answer = joining(Sim("hv1", more=AVX), Sim("hv2", more=AVX, vms=[vm("db", {"avx"})]), "baseline")
    assert answer["feasible"]
    answer = joining(Sim("hv1", more=AVX), Sim("hv2", more=frozenset({"avx2"}), vms=[vm("db", {"avx2"})]), "baseline")
    assert codes(answer) == {("running_vms", "hv2", "gold")}
    answer = joining(Sim("hv1", bits=44), Sim("hv2", vms=[vm("db", address_bits=46)]), "baseline")
    assert codes(answer) == {("running_vms", "hv2", "gold")}


def test_hosts_without_kvm_can_form_a_pool_and_it_is_said() -> None:
    hosts = [Sim("hv1", virt_type="qemu"), Sim("hv2", virt_type="qemu")]
    answer = converge(hosts, want("hv1:gold", "hv2:gold"))
    assert answer["feasible"]
    assert "Pool gold: guests on hv1, hv2 are emulated, for these hosts have no KVM." in answer["notes"]


@pytest.mark.parametrize(
    ("other", "code"), [(Sim("hv2", vendor="Intel"), "vendor"), (Sim("hv2", virt_type="qemu"), "virt_type")]
)
def test_a_new_pool_of_hosts_of_two_kinds_is_refused_to_all(other: Sim, code: str) -> None:
    answer = converge([Sim("hv1"), other], want("hv1:gold", "hv2:gold"))
    assert codes(answer) == {(code, "hv1", "gold"), (code, "hv2", "gold")}
    assert (one(answer, "gold")["status"], pools([other])) == ("refused", {})


def test_a_tier_decides_which_vendor_forms_a_new_pool() -> None:
    answer = converge(
        [Sim("hv1"), Sim("hv2", vendor="Intel")], want("hv1:gold", "hv2:gold", definition="x86-64-v2-intel")
    )
    assert codes(answer) == {("vendor", "hv1", "gold")}


def test_a_vendor_without_presets_needs_a_baseline() -> None:
    host = Sim("hv1", vendor="Hygon")
    assert codes(converge([host], want("hv1:gold"))) == {("vendor", "hv1", "gold")}
    assert converge([host], want("hv1:gold", definition="baseline"))["feasible"]


@pytest.mark.parametrize("definition", ["baseline", "basic", "x86-64-v2-amd"])
def test_hosts_whose_vendor_is_not_known_form_no_pool(definition: str) -> None:
    hosts = [Sim("hv1", vendor=None), Sim("hv2", vendor=None)]
    answer = converge(hosts, want("hv1:gold", "hv2:gold", definition=definition))
    assert codes(answer) == {("vendor", "hv1", "gold"), ("vendor", "hv2", "gold")}
    assert (one(answer, "gold")["status"], writes(answer)) == ("refused", [])


def test_state_of_the_cpu_in_other_places_is_refused_where_the_pool_uses_it() -> None:
    answer = joining(Sim("hv1", more=AVX512), Sim("hv2", more=AVX512, xsave=OTHER), "baseline")
    assert codes(answer) == {("xsave", "hv2", "gold")}
    assert (refusal(answer, "hv2")["member"], refusal(answer, "hv2")["components"]) == ("hv1", [5])
    assert "64 bytes at 832" in refusal(answer, "hv2")["msg"]


@pytest.mark.parametrize(
    ("changes", "definition"),
    [({}, None), ({"virt_type": "qemu"}, "baseline"), ({"xsave": None}, "baseline")],
    ids=["the pool does not use it", "emulated", "not known"],
)
def test_state_of_the_cpu_is_compared_only_where_it_matters_and_is_known(changes: Data, definition: str | None) -> None:
    kind = {key: value for key, value in changes.items() if key == "virt_type"}
    member = Sim("hv1", more=AVX512, **kind)
    answer = joining(member, Sim("hv2", more=AVX512, **{"xsave": OTHER, **changes}), definition)
    assert answer["feasible"]
    assert any("hv2" in item and "lay out" in item for item in answer["notes"]) == ("xsave" in changes)


def test_members_whose_layouts_turn_out_to_differ_stop_changes_of_the_pool_until_one_leaves() -> None:
    hosts = [Sim("hv1", more=AVX512), Sim("hv2", more=AVX512, xsave=None)]
    wanted = want("hv1:gold", "hv2:gold")
    converge(hosts, want("hv1:gold", "hv2:gold", definition="baseline"))
    assert ask(hosts, wanted)["feasible"]
    hosts[1].xsave = OTHER
    answer = converge(hosts, wanted)
    assert (codes(answer), writes(answer)) == ({("xsave", None, "gold")}, [])
    assert converge(hosts, want("hv1:gold", "-hv2"))["feasible"]


@pytest.mark.parametrize("known", [True, False])
def test_a_machine_type_that_a_member_lacks_by_now_is_said_with_the_vms(known: bool) -> None:
    hosts = [Sim("hv1"), Sim("hv2")]
    wanted = want("hv1:gold", "hv2:gold")
    converge(hosts, wanted)
    hosts[0].vms = [vm("db", machine_type="pc-q35-10.1"), vm("web")]
    data = snapshot(hosts)
    data["hosts"][0]["machine_types"].append("pc-q35-10.1")
    if not known:
        del data["hosts"][1]["machine_types"]
    said = [note for note in _pool.plan({"wanted": wanted}, data)["notes"] if "db on hv1 cannot move to hv2" in note]
    assert (len(said), "pc-q35-10.1" in "".join(said), "web" in "".join(said)) == (int(known), known, False)
    assert _pool.plan({"question": "stat"}, data)["notes"] == said


def test_a_recalculation_that_would_use_state_in_different_places_is_refused() -> None:
    hosts = [Sim("hv1", more=AVX512), Sim("hv2", more=AVX512, xsave=OTHER)]
    assert converge(hosts, want("hv1:gold", "hv2:gold"))["feasible"]
    answer = converge(hosts, want("hv1:gold", "hv2:gold"), recalc=["gold"])
    assert codes(answer) == {("xsave", None, "gold")}
    assert writes(answer) == []


@pytest.mark.parametrize(
    ("member", "newcomer", "member_vms", "newcomer_vms", "fits"),
    [
        (2000, 3000, [], [], True),
        (2000, 3000, invtsc(), [], False),
        (2000, 3000, [], invtsc(), False),
        (2000, 2000.5, invtsc(), [], True),
        (2000, 2000.51, invtsc(), [], False),
        (2000, 3000, invtsc(state="shutoff"), [], False),
        (2000, 3000, invtsc(state="running", persistent=False), [], False),
        (2000, None, invtsc(), [], True),
    ],
)
def test_clocks_are_compared_where_a_vm_has_invtsc(
    member: float, newcomer: float | None, member_vms: list[Data], newcomer_vms: list[Data], fits: bool
) -> None:
    one_host = Sim("hv1", tsc=clock(member), vms=member_vms)
    other = Sim("hv2", tsc=None if newcomer is None else clock(newcomer), vms=newcomer_vms)
    answer = joining(one_host, other, running_vms="report")
    assert codes(answer) == (set() if fits else {("tsc", "hv2", "gold")})
    assert any("the clock of hv2" in item for item in answer["notes"]) == (newcomer is None)


@pytest.mark.parametrize(
    ("scaling", "vms_on", "fits"), [("hv2", "hv1", True), ("hv1", "hv1", False), ("hv1", "hv2", True)]
)
def test_a_host_that_can_scale_its_clock_takes_vms_with_invtsc(scaling: str, vms_on: str, fits: bool) -> None:
    hosts = [
        Sim(name, tsc=clock(speed, name == scaling), vms=invtsc() if name == vms_on else [])
        for name, speed in (("hv1", 2000), ("hv2", 3000))
    ]
    assert joining(hosts[0], hosts[1], running_vms="report")["feasible"] == fits


@pytest.mark.parametrize(
    ("vms", "fits"),
    [
        ([vm("off", machine_type=OLD_TYPE, state="shutoff")], False),
        ([vm("gone", machine_type=OLD_TYPE, state="shutoff", persistent=False)], True),
    ],
)
def test_the_machine_types_of_stopped_vms_count_if_they_are_persistent(vms: list[Data], fits: bool) -> None:
    assert joining(Sim("hv1"), Sim("hv2", vms=vms))["feasible"] == fits


def test_one_odd_host_does_not_keep_the_others_out_of_a_new_pool() -> None:
    hosts = [Sim(f"hv{number}", more=AVX512, xsave=XSAVE) for number in range(1, 5)]
    hosts[0].xsave = OTHER
    wanted = want("hv1:gold", "hv2:gold", "hv3:gold", "hv4:gold", definition="baseline")
    assert codes(converge(hosts, wanted)) == {("xsave", "hv1", "gold")}
    assert pools(hosts) == {"gold": ["hv2", "hv3", "hv4"]}


def test_of_probes_that_differ_the_odd_one_is_refused() -> None:
    hosts = [Sim("hv1", extra=frozenset({"arat"})), Sim("hv2"), Sim("hv3")]
    answer = converge(hosts, want("hv1:gold", "hv2:gold", "hv3:gold"))
    assert codes(answer) == {("proof", "hv1", "gold")}
    assert "another CPU than on hv2: with arat" in refusal(answer, "hv1")["msg"]
    assert refusal(answer, "hv1")["beyond"] == ["arat"]


def test_a_member_that_proves_otherwise_than_before_has_drifted() -> None:
    hosts = [Sim("hv1"), Sim("hv2")]
    wanted = want("hv1:gold", "hv2:gold")
    converge(hosts, wanted)
    hosts[0].extra = frozenset({"arat"})
    answer = converge(hosts, wanted)
    assert codes(answer) == {("drift", "hv1", "gold")}
    assert refusal(answer, "hv1")["because"] == "proof"


def test_features_that_a_libvirt_does_not_know_are_not_disabled_by_name_and_it_is_said() -> None:
    hosts = [Sim("hv1", more=frozenset({"avx2"})), Sim("hv2", unknown=frozenset({"avx2"}))]
    answer = converge(hosts, want("hv1:gold", "hv2:gold", definition="baseline"))
    assert answer["feasible"]
    assert "avx2" not in one(answer, "gold")["cpu"]["disable"]
    assert "Pool gold: avx2 is not disabled by name, for libvirt on hv2 does not know it." in answer["notes"]
    assert writes(converge(hosts, want("hv1:gold", "hv2:gold", definition="baseline"))) == []


def test_a_default_pool_does_not_change_even_its_words_for_a_libvirt_that_does_not_know_them() -> None:
    hosts = [Sim("hv1"), Sim("hv2", unknown=frozenset({"vme"}))]
    converge(hosts[:1], want("hv1"))
    answer = converge(hosts, want("hv1", "hv2"))
    assert answer["feasible"]
    assert pools(hosts) == {"default_amd0": ["hv1"], "default_amd1": ["hv2"]}


def test_a_baseline_hides_nested_virtualisation_and_what_only_some_have() -> None:
    hosts = [Sim("hv1", more=AVX | {"svm", "npt"}), Sim("hv2", more=frozenset({"svm", "avx2"}))]
    gold = one(ask(hosts, want("hv1:gold", "hv2:gold", definition="baseline")), "gold")
    assert gold["cpu"]["disable"] == ["avx", "avx2", "npt", "svm", "xsave"]
    assert "svm" not in gold["cpu"]["require"]
    assert gold["limits"] == [
        {"feature": "avx", "hosts": ["hv2"]},
        {"feature": "avx2", "hosts": ["hv1"]},
        {"feature": "xsave", "hosts": ["hv2"]},
    ]
    assert gold["gain_without"] == [
        {"host": "hv1", "features": ["avx2"]},
        {"host": "hv2", "features": ["avx", "xsave"]},
    ]
    assert {item["host"]: item["features"] for item in gold["masked"]}["hv2"] == ["avx2", "svm"]


def test_the_newest_libvirt_computes_then_the_newest_qemu_then_the_first_name() -> None:
    hosts = [Sim(f"hv{number}") for number in range(1, 5)]
    wanted = want("hv1:gold", "hv2:gold", "hv3:gold", "hv4:gold", definition="baseline")
    from_answer = []
    for number, versions in ((3, {"qemu": "10.1.0"}), (2, {"libvirt": "11.10.0"}), (0, {"libvirt": "11.10.0"})):
        hosts[number].versions |= versions
        from_answer.append(_first(hosts, wanted)["compute_on"])
    assert from_answer == ["hv4", "hv3", "hv1"]
    assert [item["name"] for item in _first(hosts, wanted)["compute_of"]] == ["hv1"]


def _first(hosts: list[Sim], wanted: list[Data]) -> Data:
    return one(_pool.plan({"wanted": wanted}, snapshot(hosts)), "gold")
