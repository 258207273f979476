# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._cpu import (
    CpuOptions,
    Feature,
    PoolCpu,
    cpu_warnings,
    parse_cpu,
    same_cpu,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from hypothesis import given
from hypothesis import strategies as st


def test_a_custom_cpu_says_what_libvirt_would_else_decide() -> None:
    assert CpuOptions(model="Haswell").xml() == (
        '<cpu mode="custom" match="exact" check="partial">\n  <model fallback="forbid">Haswell</model>\n</cpu>'
    )


def test_every_option_has_its_place() -> None:
    options = CpuOptions.from_data(
        {
            "mode": "custom",
            "model": "EPYC-Rome",
            "match": "strict",
            "check": "full",
            "vendor": "AMD",
            "fallback": "allow",
            "features": [{"name": "svm", "policy": "disable"}, {"name": "aes"}, {"name": "avx", "policy": None}],
            "address_bits": 42,
            "migratable": None,
        }
    )

    assert options.features == (Feature("svm", "disable"), Feature("aes", "require"), Feature("avx", "require"))
    assert options.xml() == (
        '<cpu mode="custom" match="strict" check="full">\n'
        '  <model fallback="allow">EPYC-Rome</model>\n'
        "  <vendor>AMD</vendor>\n"
        '  <maxphysaddr mode="emulate" bits="42"/>\n'
        '  <feature policy="disable" name="svm"/>\n'
        '  <feature policy="require" name="aes"/>\n'
        '  <feature policy="require" name="avx"/>\n'
        "</cpu>"
    )


@pytest.mark.parametrize(
    ("options", "xml"),
    [
        ({"mode": "host-model"}, '<cpu mode="host-model"/>'),
        ({"mode": "host-model", "check": "partial"}, '<cpu mode="host-model" check="partial"/>'),
        (
            {"mode": "host-model", "fallback": "forbid"},
            '<cpu mode="host-model">\n  <model fallback="forbid"/>\n</cpu>',
        ),
        ({"mode": "host-passthrough", "migratable": "off"}, '<cpu mode="host-passthrough" migratable="off"/>'),
        ({"mode": "maximum", "migratable": "on"}, '<cpu mode="maximum" migratable="on"/>'),
        (
            {"mode": "maximum", "features": [{"name": "vmx", "policy": "disable"}]},
            '<cpu mode="maximum">\n  <feature policy="disable" name="vmx"/>\n</cpu>',
        ),
    ],
)
def test_other_modes_say_only_what_was_said(options: dict[str, Any], xml: str) -> None:
    assert CpuOptions.from_data(options).xml() == xml


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({}, "model"),
        ({"mode": "custom"}, "model"),
        ({"mode": "passthrough"}, "mode"),
        ({"model": "a", "match": "at-least"}, "match"),
        ({"model": "a", "check": "some"}, "check"),
        ({"model": "a", "fallback": "no"}, "fallback"),
        ({"mode": "host-model", "model": "a"}, "model"),
        ({"mode": "host-model", "match": "exact"}, "match"),
        ({"mode": "host-passthrough", "match": "minimum"}, "match"),
        ({"mode": "maximum", "vendor": "AMD"}, "vendor"),
        ({"mode": "maximum", "fallback": "forbid"}, "fallback"),
        ({"model": "a", "migratable": "on"}, "migratable"),
        ({"mode": "maximum", "migratable": "yes"}, "migratable"),
        ({"mode": "host-model", "migratable": "off"}, "migratable"),
        ({"model": "a", "topology": {}}, "topology"),
        ({"model": "a", "features": [{"name": "b", "policy": "maybe"}]}, "features"),
        ({"model": "a", "features": [{"name": "b"}, {"name": "b", "policy": "disable"}]}, "features"),
        ({"model": "a", "features": [{"name": "b", "value": 1}]}, "features"),
        ({"model": "a", "features": ["b"]}, "features"),
    ],
)
def test_what_libvirt_would_refuse_or_ignore_is_refused(options: dict[str, Any], option: str) -> None:
    with pytest.raises(FleetError) as caught:
        CpuOptions.from_data(options)

    assert caught.value.code == "bad_cpu"
    assert caught.value.facts["option"] == option


@pytest.mark.parametrize(
    "options",
    [
        {"model": "Sandy Bridge"},
        {"model": "a", "vendor": "Genuine<Intel>"},
        {"model": "a", "features": [{"name": "a'b"}]},
        {"model": "a", "features": [{"name": ""}]},
        {"model": "a", "address_bits": 64},
        {"model": "a", "address_bits": 0},
    ],
)
def test_names_and_widths_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(FleetError) as caught:
        CpuOptions.from_data(options)

    assert caught.value.code == "bad_cpu"


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,6}", fullmatch=True)
policies = st.sampled_from(["require", "disable", "force", "optional", "forbid"])


@given(names, st.dictionaries(names, policies), st.sampled_from(["exact", "minimum", "strict"]))
def test_the_xml_says_what_the_options_say(model: str, features: dict[str, str], match: str) -> None:
    listed = tuple(Feature(name, policy) for name, policy in features.items())
    cpu = parse_cpu(CpuOptions(model=model, match=match, features=listed).xml())

    assert (cpu.model, cpu.match, cpu.check, cpu.fallback, cpu.features) == (model, match, "partial", "forbid", listed)


def test_the_options_of_a_pool_cpu_give_the_pool_cpu() -> None:
    pool = PoolCpu("Haswell-noTSX", "Intel", ("abm",), ("arat",), 40)
    features = (Feature("arat", "disable"), Feature("abm", "require"))

    assert same_cpu(
        CpuOptions(model="Haswell-noTSX", vendor="Intel", features=features, address_bits=40).xml(), pool.xml()
    )


def test_a_pool_cpu_has_no_warnings() -> None:
    assert cpu_warnings(PoolCpu("Haswell-noTSX", "Intel", ("abm",), ("arat", "invtsc"), 40).xml()) == ()
    assert cpu_warnings(CpuOptions(model="Haswell").xml()) == ()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "host-model"}, ["mode host-model", "at every start", "no pool"]),
        ({"mode": "host-passthrough"}, ["mode host-passthrough", "microcode", "no pool"]),
        ({"mode": "maximum"}, ["mode maximum", "no pool"]),
        ({"model": "a", "match": "minimum"}, ["match minimum", "everything the host has", "exact"]),
        ({"model": "a", "match": "strict"}, ["match strict", "beyond this CPU"]),
        ({"model": "a", "check": "none"}, ["check none", "silently", "partial"]),
        ({"model": "a", "check": "full"}, ["check full", "does not start", "hypervisor"]),
        ({"model": "a", "fallback": "allow"}, ["model a", "takes another", "forbid"]),
        ({"model": "a", "features": [{"name": "x", "policy": "force"}]}, ["force of x", "drops it silently"]),
        (
            {"model": "a", "features": [{"name": "y", "policy": "optional"}, {"name": "x", "policy": "optional"}]},
            ["optional of x, y", "drops it silently", "a migration requires it of the destination"],
        ),
        ({"model": "a", "features": [{"name": "x", "policy": "forbid"}]}, ["forbid of x", "better ones"]),
        ({"model": "a", "features": [{"name": "invtsc"}]}, ["invtsc", "migrating", "frequency"]),
    ],
)
def test_what_happens_without_a_word_is_said(options: dict[str, Any], words: list[str]) -> None:
    (warning,) = cpu_warnings(CpuOptions.from_data(options).xml())

    assert all(word in warning for word in words)


def test_a_definition_without_check_and_fallback_leaves_both_to_libvirt() -> None:
    warnings = cpu_warnings("<cpu><model>a</model></cpu>")

    assert len(warnings) == 2
    assert "Without check libvirt takes none where guests are emulated" in warnings[0]
    assert "libvirt takes another" in warnings[1]


TIMED = "<domain><clock>{}</clock><cpu mode='host-passthrough'><feature policy='require' name='invtsc'/></cpu></domain>"


@pytest.mark.parametrize(
    ("clock", "warned"),
    [
        ("<timer name='tsc' frequency='2400000000'/>", False),
        ("<timer name='tsc' mode='native'/>", True),
        ("<timer name='kvmclock' frequency='1'/>", True),
        ("", True),
    ],
)
def test_a_fixed_frequency_lets_invtsc_migrate(clock: str, warned: bool) -> None:
    assert any("invtsc" in warning for warning in cpu_warnings(TIMED.format(clock))) == warned


def test_a_domain_without_cpu_has_nothing_to_warn_about() -> None:
    assert cpu_warnings("<domain/>") == ()


def test_warnings_need_a_cpu_or_a_domain() -> None:
    with pytest.raises(FleetError) as caught:
        cpu_warnings("<network/>")

    assert caught.value.code == "bad_xml"
