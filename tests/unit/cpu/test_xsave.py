# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._cpu import (
    XsaveDifference,
    components_of,
    layout_differences,
)
from hypothesis import given
from hypothesis import strategies as st

# A server of Intel that keeps room for MPX, one of AMD that has none; [component, size, offset].
SKYLAKE = [[2, 256, 576], [3, 64, 960], [4, 64, 1024], [5, 64, 1088], [6, 512, 1152], [7, 1024, 1664], [9, 8, 2688]]
ZEN5 = [[2, 256, 576], [5, 64, 832], [6, 512, 896], [7, 1024, 1408], [9, 8, 2432], [11, 16, 0], [12, 24, 0]]

FEATURES = ["avx", "avx2", "mpx", "avx512f", "avx512bw", "pku", "amx-tile", "amx-int8", "shstk", "aes", "xsave"]
features = st.frozensets(st.sampled_from(FEATURES))
layouts = st.dictionaries(
    st.integers(2, 20), st.tuples(st.sampled_from([8, 64, 256]), st.sampled_from([0, 576, 832, 1088]))
).map(lambda places: [[number, *place] for number, place in places.items()])


@pytest.mark.parametrize(
    ("given_features", "components"),
    [
        ([], []),
        (["aes", "sse4.2", "xsave"], []),
        (["avx"], [2]),
        (["mpx"], [3, 4]),
        (["avx512f"], [5, 6, 7]),
        (["avx512bw"], []),
        (["pku"], [9]),
        (["ospke"], []),
        (["shstk"], [11, 12]),
        (["ibt"], [11, 12]),
        (["amx-tile"], [17, 18]),
        (["avx", "avx2", "avx512f", "pku"], [2, 5, 6, 7, 9]),
    ],
)
def test_features_use_components(given_features: list[str], components: list[int]) -> None:
    assert components_of(given_features) == set(components)


def test_avx_lies_at_one_place_everywhere() -> None:
    assert layout_differences(SKYLAKE, ZEN5, ["avx", "avx2", "xsave"]) == ()


def test_other_components_lie_where_the_maker_wants() -> None:
    found = layout_differences(SKYLAKE, ZEN5, ["avx", "avx512f"])

    assert [item.component for item in found] == [5, 6, 7]
    assert found[0] == XsaveDifference(5, "AVX-512 opmask", (64, 1088), (64, 832))
    assert str(found[0]) == "AVX-512 opmask (component 5): 64 bytes at 1088 and 64 bytes at 832"


def test_a_component_that_one_host_lacks_is_a_difference() -> None:
    found = layout_differences(SKYLAKE, ZEN5, ["mpx"])

    assert [(item.component, item.a, item.b) for item in found] == [(3, (64, 960), None), (4, (64, 1024), None)]
    assert str(found[0]).endswith("64 bytes at 960 and nothing")


@given(layouts, features)
def test_a_layout_does_not_differ_from_itself_in_any_order(layout: list[list[int]], used: frozenset[str]) -> None:
    assert layout_differences(layout, list(reversed(layout)), used) == ()


@given(layouts, layouts, features)
def test_differences_look_the_same_from_both_sides(
    a: list[list[int]], b: list[list[int]], used: frozenset[str]
) -> None:
    there = layout_differences(a, b, used)
    back = layout_differences(b, a, used)

    assert [(item.component, item.b, item.a) for item in there] == [(item.component, item.a, item.b) for item in back]


@given(layouts, layouts, features, features)
def test_a_smaller_cpu_never_has_more_differences(
    a: list[list[int]], b: list[list[int]], used: frozenset[str], more: frozenset[str]
) -> None:
    assert set(layout_differences(a, b, used)) <= set(layout_differences(a, b, used | more))
