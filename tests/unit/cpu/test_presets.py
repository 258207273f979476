# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What presets promise, checked against libvirt 11.3's CPU map and QEMU 10.0's models (fixtures/cpu_map.json)."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._cpu import (
    NESTED,
    PRESETS,
    Preset,
    basic_preset,
    components_of,
    default_pools,
    is_default_name,
    is_nested,
    strongest,
    tiers,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError

MAP = json.loads((Path(__file__).parent / "fixtures" / "cpu_map.json").read_text(encoding="utf-8"))
FEATURES = frozenset(MAP["features"].split())
MODELS = MAP["models"]
VENDORS = ("Intel", "AMD")
TIERS = [preset for vendor in VENDORS for preset in tiers(vendor)]
BASES = [preset for preset in TIERS if preset.base is None]
TWINS = [preset for preset in TIERS if preset.base is not None]
NAMED = [preset for preset in TIERS if not preset.name.startswith("x86-64-")]

# The immutable part of the contract: inventories and records name them.
INTEL_NAMES = [
    "x86-64-v2-intel",
    "intel-nehalem",
    "intel-westmere",
    "intel-sandybridge",
    "intel-ivybridge",
    "x86-64-v3-intel",
    "intel-haswell",
    "intel-broadwell",
    "intel-skylake-client",
    "x86-64-v4-intel",
    "intel-skylake-server",
    "intel-cascadelake",
    "intel-icelake-server",
    "intel-sapphire-rapids",
]
AMD_NAMES = [
    "x86-64-v2-amd",
    "amd-opteron-g4",
    "amd-opteron-g5",
    "x86-64-v3-amd",
    "amd-epyc",
    "amd-epyc-rome",
    "amd-epyc-milan",
    "x86-64-v4-amd",
    "amd-epyc-genoa",
]

# Where a generation of CPUs lost something, or says it in another way than the one before it.
LOST = {
    "amd-epyc": ["fma4", "tbm", "xop"],
    "amd-epyc-secure": ["fma4", "tbm", "xop"],
    "intel-cascadelake-secure": ["md-clear"],
    "amd-epyc-rome-secure": ["virt-ssbd"],
}


def named(preset: Preset) -> str:
    return preset.name


def seen(preset: Preset) -> frozenset[str]:
    """What a guest sees: all that QEMU's model and libvirt's bring, unless it is disabled, and what is required."""
    model = MODELS[preset.cpu.model]
    brought = set(model["libvirt"].split()) | set(model["qemu"].split())
    return frozenset((brought - set(preset.cpu.disable)) | set(preset.cpu.require))


def test_names_are_in_the_order_of_strength() -> None:
    assert [preset.name for preset in tiers("Intel") if preset.base is None] == INTEL_NAMES
    assert [preset.name for preset in tiers("AMD") if preset.base is None] == AMD_NAMES


def test_every_tier_has_a_secure_twin_right_after_it() -> None:
    for base, twin in zip(TIERS[::2], TIERS[1::2], strict=True):
        assert (base.base, twin.base, twin.name) == (None, base.name, f"{base.name}-secure")


def test_presets_are_found_by_their_names() -> None:
    assert all(preset.name == name for name, preset in PRESETS.items())
    assert set(PRESETS.values()) == {*TIERS, *default_pools("Intel"), *default_pools("AMD")}
    assert len({preset.cpu.digest() for preset in PRESETS.values()}) == len(PRESETS)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=named)
def test_libvirt_knows_every_name(preset: Preset) -> None:
    assert preset.cpu.model in MODELS
    assert not {*preset.cpu.require, *preset.cpu.disable} - FEATURES
    assert preset.cpu.vendor == preset.vendor
    assert MODELS[preset.cpu.model]["vendor"] in (None, preset.vendor)
    assert preset.source
    assert preset.title


@pytest.mark.parametrize("preset", PRESETS.values(), ids=named)
def test_what_qemu_adds_without_libvirt_knowing_is_said(preset: Preset) -> None:
    assert not set(MODELS[preset.cpu.model]["qemu"].split()) - {*preset.cpu.require, *preset.cpu.disable}


@pytest.mark.parametrize("preset", PRESETS.values(), ids=named)
def test_no_guest_sees_what_comes_and_goes(preset: Preset) -> None:
    never = {"hle", "rtm", "mpx", "monitor", "xsaves", "pku", "invtsc", "vme", "taa-no", "tsx-ldtrk", "intel-pt"}

    assert not seen(preset) & never
    assert not [name for name in seen(preset) if is_nested(name)]


@pytest.mark.parametrize("preset", NAMED, ids=named)
def test_named_tiers_disable_what_a_model_of_any_release_could_bring(preset: Preset) -> None:
    own = {"Intel": {"hle", "rtm", "mpx"}, "AMD": {"svm", "npt", "nrip-save"}}[preset.vendor]

    assert {"monitor", "xsaves", "pku", "invtsc", "vme"} | own <= set(preset.cpu.disable)


@pytest.mark.parametrize("family", [INTEL_NAMES, AMD_NAMES], ids=VENDORS)
@pytest.mark.parametrize("kind", ["levels", "named"])
@pytest.mark.parametrize("suffix", ["", "-secure"])
def test_a_tier_has_all_of_the_one_before_it(family: list[str], kind: str, suffix: str) -> None:
    chain = [PRESETS[name + suffix] for name in family if name.startswith("x86-64-") == (kind == "levels")]

    for weaker, stronger in pairwise(chain):
        assert sorted(seen(weaker) - seen(stronger)) == LOST.get(stronger.name, []), stronger.name


@pytest.mark.parametrize("level", [name for name in PRESETS if name.startswith("x86-64-")])
def test_a_level_stands_before_the_first_named_tier_that_has_all_of_it(level: str) -> None:
    preset = PRESETS[level]
    chain = [item for item in tiers(preset.vendor) if (item.base is None) == (preset.base is None)]
    said_otherwise = {"md-clear", "virt-ssbd"}
    having = [item for item in chain if item in NAMED and seen(preset) - said_otherwise <= seen(item)]

    assert having[0] == chain[chain.index(preset) + 1]


@pytest.mark.parametrize("twin", TWINS, ids=named)
def test_a_secure_twin_requires_its_mitigations_by_name(twin: Preset) -> None:
    base = PRESETS[twin.base or ""]
    more = set(twin.cpu.require) - set(base.cpu.require)

    assert more & {"spec-ctrl", "arch-capabilities", "ibpb"}
    assert set(base.cpu.require) <= set(twin.cpu.require)
    assert twin.cpu.disable == base.cpu.disable


@pytest.mark.parametrize("vendor", VENDORS)
def test_default_pools_get_weaker_with_their_number(vendor: str) -> None:
    pools = default_pools(vendor)

    assert [pool.name for pool in pools] == [f"default_{vendor.lower()}{level}" for level in (0, 1, 2)]
    assert [pool.default_level for pool in pools] == [0, 1, 2]
    assert [pool.cpu.address_bits for pool in pools] == [40, 39, 36]
    assert all(pool.cpu.model == "kvm64" and pool.cpu.vendor == vendor for pool in pools)
    v2 = {"cx16", "lahf_lm", "pni", "popcnt", "sse4.1", "sse4.2", "ssse3"}
    assert [set(pool.cpu.require) for pool in pools] == [v2 | {"aes"}, v2, set()]


def test_new_pools_get_the_cpu_of_the_first_default_pool() -> None:
    assert basic_preset("AMD") == default_pools("AMD")[0]
    assert basic_preset("Intel") == default_pools("Intel")[0]


@pytest.mark.parametrize("vendor", ["Hygon", "intel", None])
def test_a_vendor_without_presets_has_no_pools(vendor: str | None) -> None:
    assert default_pools(vendor) == tiers(vendor) == ()
    with pytest.raises(FleetError, match="no preset CPUs for the vendor") as caught:
        basic_preset(vendor)
    assert caught.value.code == "vendor"


@pytest.mark.parametrize("name", ["default_intel0", "default_amd17", "Default_AMD0", "default_hygon0"])
def test_names_of_default_pools_are_kept_for_them(name: str) -> None:
    assert is_default_name(name)


@pytest.mark.parametrize("name", ["default", "default_intel", "my_default_intel0", "default_intel0b", "gold", ""])
def test_other_names_are_free(name: str) -> None:
    assert not is_default_name(name)


def test_the_strongest_tier_of_a_host_is_found() -> None:
    given = ["default_intel0", "intel-haswell-secure", "x86-64-v3-intel", "intel-nehalem", "amd-epyc-genoa"]

    found = strongest("Intel", given)
    assert found is not None
    assert found.name == "x86-64-v3-intel"
    assert strongest("Intel", ["default_intel0", "amd-epyc"]) is None


def test_basic_pools_use_no_part_of_the_xsave_area_that_differs() -> None:
    for preset in PRESETS.values():
        if preset.default_level is not None:
            assert components_of(seen(preset)) == frozenset()


def test_nested_virtualisation_has_names_that_libvirt_knows() -> None:
    assert NESTED <= FEATURES
    assert {name for name in FEATURES if name.startswith("vmx-")} == {
        name for name in FEATURES if is_nested(name) and name not in NESTED
    }
    assert not is_nested("vme")
    assert not is_nested("svmx")
