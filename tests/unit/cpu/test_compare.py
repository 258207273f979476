# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._cpu import (
    difference,
    missing,
    parse_cpu,
    required,
    same_cpu,
)
from hypothesis import given
from hypothesis import strategies as st

POOL = (
    "<cpu mode='custom' match='exact' check='partial'><model fallback='forbid'>Haswell</model><vendor>Intel</vendor>"
    "<maxphysaddr mode='passthrough' limit='46'/>"
    "<feature policy='require' name='aes'/><feature policy='disable' name='arat'/></cpu>"
)


def test_features_required_are_those_a_guest_will_see() -> None:
    cpu = parse_cpu(
        "<cpu><feature name='a'/><feature policy='require' name='b'/><feature policy='force' name='c'/>"
        "<feature policy='optional' name='d'/><feature policy='disable' name='e'/>"
        "<feature policy='forbid' name='f'/></cpu>"
    )

    assert required(cpu) == {"a", "b", "c"}


def test_missing_features_are_sorted() -> None:
    assert missing(["z", "a", "m"], {"m"}) == ("a", "z")
    assert missing([], {"m"}) == ()


@pytest.mark.parametrize(
    ("stored", "written"),
    [
        (POOL, POOL.replace("'", '"').replace("><", ">\n  <")),
        (
            POOL,
            POOL.replace("<feature policy='require' name='aes'/><feature policy='disable' name='arat'/>", "").replace(
                "</cpu>", "<feature policy='disable' name='arat'/><feature policy='require' name='aes'/></cpu>"
            ),
        ),
        (
            POOL.replace("</cpu>", "<topology sockets='1' cores='4' threads='1'/><numa/><cache mode='emulate'/></cpu>"),
            POOL,
        ),
        (
            "<cpu mode='custom' match='exact' check='none'><model fallback='allow'>a</model></cpu>",
            "<cpu><model>a</model></cpu>",
        ),
        (
            "<cpu mode='custom' match='exact' check='partial'><model fallback='allow'>a</model></cpu>",
            "<cpu><model>a</model></cpu>",
        ),
        (
            "<cpu><model>a</model><feature policy='require' name='f'/></cpu>",
            "<cpu><model>a</model><feature name='f'/></cpu>",
        ),
        ("<cpu mode='host-model' check='partial'/>", "<cpu mode='host-model'/>"),
        ("<cpu mode='host-model' check='partial'><model fallback='allow'/></cpu>", "<cpu mode='host-model'/>"),
        ("<cpu mode='host-passthrough' check='none' migratable='on'/>", "<cpu mode='host-passthrough'/>"),
        ("<cpu mode='maximum' check='none' migratable='on'/>", "<cpu mode='maximum'/>"),
    ],
    ids=[
        "spelling",
        "order of features",
        "what belongs to the VM",
        "defaults of a custom CPU with TCG",
        "defaults of a custom CPU with KVM",
        "default policy of a feature",
        "host-model's check",
        "host-model's empty model",
        "host-passthrough's defaults",
        "maximum's defaults",
    ],
)
def test_what_libvirt_fills_in_or_reorders_is_no_difference(stored: str, written: str) -> None:
    assert same_cpu(stored, written)
    assert same_cpu(written, stored)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mode='custom'", "mode='host-model'"),
        ("match='exact'", "match='minimum'"),
        ("check='partial'", "check='full'"),
        ("check='partial'", "check='none'"),
        ("fallback='forbid'", "fallback='allow'"),
        (">Haswell<", ">Broadwell<"),
        ("<vendor>Intel</vendor>", ""),
        ("<vendor>Intel</vendor>", "<vendor>AMD</vendor>"),
        ("limit='46'", "limit='39'"),
        ("<maxphysaddr mode='passthrough' limit='46'/>", ""),
        ("policy='require' name='aes'", "policy='disable' name='aes'"),
        ("<feature policy='disable' name='arat'/>", ""),
        ("name='aes'/>", "name='aes'/><feature policy='require' name='avx'/>"),
        (" name='aes'", " name='avx'"),
        ("fallback='forbid'>", "fallback='forbid' vendor_id='AuthenticAMD'>"),
    ],
)
def test_every_owned_part_counts(old: str, new: str) -> None:
    assert old in POOL
    assert not same_cpu(POOL, POOL.replace(old, new))
    assert not same_cpu(POOL.replace(old, new), POOL)


def test_a_stated_check_differs_from_one_libvirt_would_not_fill_in() -> None:
    assert not same_cpu("<cpu><model>a</model></cpu>", "<cpu check='full'><model>a</model></cpu>")
    assert not same_cpu("<cpu mode='host-passthrough'/>", "<cpu mode='host-passthrough' check='partial'/>")
    assert not same_cpu("<cpu mode='host-passthrough'/>", "<cpu mode='host-passthrough' migratable='off'/>")


def test_domains_are_compared_by_their_cpu() -> None:
    assert same_cpu(f"<domain><name>a</name>{POOL}</domain>", POOL)


def test_a_difference_names_features_and_attributes() -> None:
    after = (
        POOL.replace("name='aes'", "name='avx'")
        .replace("Haswell", "Broadwell")
        .replace("<feature policy='disable' name='arat'/>", "<feature policy='require' name='arat'/>")
    )

    assert difference(parse_cpu(POOL), parse_cpu(after)).as_dict() == {
        "added": ["arat", "avx"],
        "removed": ["aes"],
        "changed": [
            {"name": "model", "before": "Haswell", "after": "Broadwell"},
            {"name": "feature arat", "before": "disable", "after": "require"},
        ],
    }


def test_no_difference_is_false() -> None:
    assert not difference(parse_cpu(POOL), parse_cpu(POOL))


CPUS = st.builds(
    lambda features, check: (
        f"<cpu mode='custom' match='exact'{check}><model>m</model>"
        + "".join(f"<feature policy='{policy}' name='{name}'/>" for name, policy in features.items())
        + "</cpu>"
    ),
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["require", "disable", "force", "optional"])),
    st.sampled_from(["", " check='partial'", " check='full'"]),
)


@given(CPUS, CPUS)
def test_equality_is_symmetric_and_follows_from_no_difference(a: str, b: str) -> None:
    assert same_cpu(a, a)
    assert same_cpu(a, b) == same_cpu(b, a)
    forward, back = difference(parse_cpu(a), parse_cpu(b)), difference(parse_cpu(b), parse_cpu(a))
    assert (forward.added, forward.removed) == (back.removed, back.added)
