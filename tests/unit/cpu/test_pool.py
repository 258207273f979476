# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _xml
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._cpu import PoolCpu, same_cpu
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from hypothesis import given
from hypothesis import strategies as st

BASELINE = """<cpu mode='custom' match='exact'>
  <model fallback='allow'>SandyBridge</model>
  <vendor>Intel</vendor>
  <maxphysaddr mode='passthrough' limit='46'/>
  <feature policy='require' name='vme'/>
  <feature policy='disable' name='xsaveopt'/>
  <feature policy='disable' name='arat'/>
</cpu>"""
CPU = PoolCpu("SandyBridge", "Intel", ("vme",), ("arat", "xsaveopt"), 46)
XML = (
    '<cpu mode="custom" match="exact" check="partial">\n'
    '  <model fallback="forbid">SandyBridge</model>\n'
    "  <vendor>Intel</vendor>\n"
    '  <maxphysaddr mode="emulate" bits="46"/>\n'
    '  <feature policy="disable" name="arat"/>\n'
    '  <feature policy="require" name="vme"/>\n'
    '  <feature policy="disable" name="xsaveopt"/>\n'
    "</cpu>"
)

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,6}", fullmatch=True)


@st.composite
def pool_cpus(draw: st.DrawFn) -> PoolCpu:
    features = draw(st.lists(names, unique=True))
    cut = draw(st.integers(0, len(features)))
    bits = draw(st.none() | st.integers(32, 52))
    return PoolCpu(draw(names), draw(st.none() | names), tuple(features[:cut]), tuple(features[cut:]), bits)


def test_a_baseline_becomes_an_exact_cpu_that_is_checked() -> None:
    assert PoolCpu.from_xml(BASELINE) == CPU
    assert CPU.xml() == PoolCpu.from_xml(BASELINE).xml() == XML


def test_a_cpu_without_vendor_and_width_has_neither_in_its_xml() -> None:
    assert PoolCpu("kvm64").xml() == (
        '<cpu mode="custom" match="exact" check="partial">\n  <model fallback="forbid">kvm64</model>\n</cpu>'
    )


@given(pool_cpus())
def test_a_pool_cpu_survives_xml_and_json(cpu: PoolCpu) -> None:
    assert PoolCpu.from_xml(cpu.xml()) == cpu
    assert PoolCpu.from_data(cpu.as_data()) == cpu
    assert same_cpu(cpu.xml(), PoolCpu.from_xml(cpu.xml()).xml())


@given(pool_cpus(), pool_cpus())
def test_equal_cpus_and_only_they_have_equal_digests(a: PoolCpu, b: PoolCpu) -> None:
    assert (a.digest() == b.digest()) == (a == b)


def test_a_digest_never_changes_because_records_keep_it() -> None:
    assert PoolCpu("kvm64", "AMD", ("aes",), ("vme",), 40).digest() == "c92d970ac2f8a"


def test_order_and_repetition_of_features_do_not_count() -> None:
    assert PoolCpu("a", None, ("x", "b", "x"), ("d", "c")) == PoolCpu("a", None, ("b", "x"), ("c", "d", "d"))


def test_data_is_what_json_carries() -> None:
    data = {"model": "SandyBridge", "vendor": "Intel", "require": ["vme"], "disable": ["arat", "xsaveopt"]}

    assert CPU.as_data() == {**data, "address_bits": 46}
    assert PoolCpu.from_data({**data, "address_bits": 46, "xml": "…", "features": []}) == CPU
    assert PoolCpu.from_data({"model": "a"}) == PoolCpu("a")


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"model": None},
        {"model": 3},
        {"model": ""},
        {"model": "a b"},
        {"model": "a'/><x"},
        {"model": "a", "vendor": "Genuine Intel"},
        {"model": "a", "vendor": ["AMD"]},
        {"model": "a", "require": "aes"},
        {"model": "a", "require": [1]},
        {"model": "a", "require": ["aes\n"]},
        {"model": "a", "disable": {"aes": True}},
        {"model": "a", "require": ["aes"], "disable": ["aes"]},
        {"model": "a", "address_bits": "40"},
        {"model": "a", "address_bits": True},
        {"model": "a", "address_bits": 31},
        {"model": "a", "address_bits": 53},
    ],
)
def test_data_that_is_no_cpu_is_refused(data: Any) -> None:
    with pytest.raises(FleetError) as caught:
        PoolCpu.from_data(data)

    assert caught.value.code == "bad_cpu"


def test_a_feature_that_is_required_and_disabled_is_named() -> None:
    with pytest.raises(FleetError, match="both requires and disables aes, avx") as caught:
        PoolCpu("a", None, ("aes", "avx", "b"), ("avx", "aes"))

    assert caught.value.facts == {"features": ["aes", "avx"]}


def test_features_can_be_dropped_and_disabled() -> None:
    cpu = PoolCpu("a", None, ("b", "c"), ("d", "e"), 40)

    assert cpu.without(["b", "e", "z"]) == PoolCpu("a", None, ("c",), ("d",), 40)
    assert cpu.with_disabled(["b", "d", "z"]) == PoolCpu("a", None, ("b", "c"), ("d", "e", "z"), 40)
    assert cpu.without([]) == cpu.with_disabled([]) == cpu


@given(pool_cpus(), st.frozensets(names))
def test_disabling_takes_nothing_away_and_can_be_undone(cpu: PoolCpu, features: frozenset[str]) -> None:
    more = cpu.with_disabled(features)

    assert more.require == cpu.require
    assert set(more.disable) == set(cpu.disable) | (features - set(cpu.require))
    assert more.without(features) == cpu.without(features)


def test_what_belongs_to_a_host_or_vm_is_not_taken_over() -> None:
    host = (
        "<cpu><arch>x86_64</arch><model vendor_id='Other'>Nehalem</model><microcode version='1'/>"
        "<topology sockets='1' cores='2' threads='1'/><maxphysaddr bits='46'/><feature name='vme'/><numa/></cpu>"
    )

    assert PoolCpu.from_xml(host) == PoolCpu("Nehalem", None, ("vme",))


@pytest.mark.parametrize(
    ("address", "bits"),
    [
        ("", None),
        ("<maxphysaddr mode='emulate' bits='42'/>", 42),
        ("<maxphysaddr mode='passthrough' limit='39'/>", 39),
        ("<maxphysaddr mode='passthrough'/>", None),
    ],
)
def test_the_width_of_addresses_is_that_which_guests_see(address: str, bits: int | None) -> None:
    assert PoolCpu.from_xml(f"<cpu><model>a</model>{address}</cpu>").address_bits == bits


@pytest.mark.parametrize("policy", ["force", "optional", "forbid"])
def test_policies_that_members_would_not_keep_are_refused(policy: str) -> None:
    with pytest.raises(FleetError, match=rf"Feature avx has policy '{policy}'") as caught:
        PoolCpu.from_xml(f"<cpu><model>a</model><feature policy='{policy}' name='avx'/></cpu>")

    assert caught.value.code == "cpu_policy"
    assert caught.value.facts == {"feature": "avx", "policy": policy}


def test_a_baseline_without_model_is_refused() -> None:
    with pytest.raises(FleetError, match="names no CPU model") as caught:
        PoolCpu.from_xml("<cpu mode='host-passthrough'/>")

    assert caught.value.code == "no_cpu"


def test_a_cpu_is_planned_with_where_lxml_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_xml, "LXML_IMPORT_ERROR", "missing")

    assert PoolCpu.from_data(CPU.as_data()).xml() == XML
    with pytest.raises(FleetError, match="lxml is missing"):
        PoolCpu.from_xml(XML)
