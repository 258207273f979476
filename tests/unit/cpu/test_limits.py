# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from functools import reduce

from ansible_collections.virtops.kvm_fleet.plugins.module_utils._cpu import Limit, gain_without, limits, masked
from hypothesis import given
from hypothesis import strategies as st

HOSTS = {
    "hv1": frozenset({"aes", "avx", "avx2", "rdseed"}),
    "hv2": frozenset({"aes", "avx", "rdseed"}),
    "hv3": frozenset({"aes", "avx2"}),
}

feature_sets = st.frozensets(st.sampled_from("abcdef"))
fleets = st.dictionaries(st.sampled_from(["hv1", "hv2", "hv3", "hv4"]), feature_sets)


def common(sets: list[frozenset[str]]) -> frozenset[str]:
    return reduce(frozenset.intersection, sets) if sets else frozenset()


def test_who_limits_what_is_named() -> None:
    assert limits(HOSTS) == (Limit("avx", ("hv3",)), Limit("avx2", ("hv2",)), Limit("rdseed", ("hv3",)))


def test_a_feature_that_several_lack_names_them_all() -> None:
    assert limits({**HOSTS, "hv4": frozenset({"aes"})})[0] == Limit("avx", ("hv3", "hv4"))


def test_what_leaving_would_gain() -> None:
    assert gain_without(HOSTS) == {"hv1": (), "hv2": ("avx2",), "hv3": ("avx", "rdseed")}


def test_the_last_host_leaves_nobody_who_could_gain() -> None:
    assert gain_without({"hv1": frozenset({"aes"})}) == {"hv1": ()}
    assert gain_without({}) == {}
    assert limits({}) == ()


def test_what_a_pool_hides_from_each_host() -> None:
    assert masked(HOSTS, frozenset({"aes", "hypervisor"})) == {
        "hv1": ("avx", "avx2", "rdseed"),
        "hv2": ("avx", "rdseed"),
        "hv3": ("avx2",),
    }


@given(fleets)
def test_a_feature_is_either_common_or_limited(hosts: dict[str, frozenset[str]]) -> None:
    everything = frozenset().union(*hosts.values())
    limited = {limit.feature: limit.hosts for limit in limits(hosts)}

    assert set(limited) == everything - common(list(hosts.values()))
    for feature, lacking in limited.items():
        assert list(lacking) == sorted(name for name, features in hosts.items() if feature not in features)


@given(fleets)
def test_the_gain_is_what_the_others_have_more_in_common(hosts: dict[str, frozenset[str]]) -> None:
    gained = gain_without(hosts)

    assert list(gained) == sorted(hosts)
    for name, features in gained.items():
        others = common([hosts[other] for other in hosts if other != name])
        assert features == tuple(sorted(others - common(list(hosts.values()))))


@given(fleets, feature_sets)
def test_masked_and_seen_make_up_a_host(hosts: dict[str, frozenset[str]], pool: frozenset[str]) -> None:
    for name, hidden in masked(hosts, pool).items():
        assert set(hidden) | (hosts[name] & pool) == hosts[name]
        assert not set(hidden) & pool
