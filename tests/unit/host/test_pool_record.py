# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of a host's pool: one file that setup can read, trusted only if every field is what it must be."""

from __future__ import annotations

import copy
import json
import os
import stat
from contextlib import suppress
from dataclasses import replace
from typing import Any, Dict, Iterator, Tuple

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._cpu import PoolCpu
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host import files, pool_record
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.paths import HostPaths
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.pool_record import (
    Member,
    PoolRecord,
    Proven,
    Tsc,
)
from hypothesis import given
from hypothesis import strategies as st

HV1, HV2 = Member("hv1", "0b-1"), Member("hv2", "0a-2")
CPU = PoolCpu("kvm64", "AMD", ("aes", "sse4.2"), ("svm",), 40)
PROVEN = Proven(
    versions={"qemu": "10.0.3", "libvirt": "11.3.0", "kernel": "6.12.57", "microcode": "0xb002"},
    virt_type="kvm",
    features=("aes", "avx", "sse4.2"),
    address_bits=48,
    xsave=((2, 256, 576), (11, 16, 0)),
    tsc=Tsc(2400000000, True),
)
RECORD = PoolRecord("gold", "AMD", "basic", 3, (HV2, HV1), CPU, ("aes", "hypervisor", "sse4.2"), HV1, PROVEN)
EMULATED = replace(RECORD, proven=Proven({"libvirt": "9.0.0"}, "qemu", ("aes",)))


@pytest.fixture
def paths(paths: HostPaths) -> HostPaths:
    (paths.root / "etc/ansible/facts.d").mkdir(parents=True)
    return paths


def put(paths: HostPaths, value: Any) -> None:
    paths.pool_record.write_text(value if isinstance(value, str) else json.dumps(value))


def changed(path: str, value: Any) -> Dict[str, Any]:
    """The data of a good record with one field replaced, or taken out with ``...``."""
    data = copy.deepcopy(RECORD.to_data())
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    owner: Any = data
    for key in parents:
        owner = owner[key]
    if value is ...:
        del owner[last]
    else:
        owner[last] = value
    return data


# The shape


def test_the_file_has_the_documented_shape() -> None:
    assert RECORD.to_data() == {
        "version": 1,
        "pool": "gold",
        "vendor": "AMD",
        "definition": "basic",
        "generation": 3,
        "members": [{"name": "hv2", "uuid": "0a-2"}, {"name": "hv1", "uuid": "0b-1"}],
        "cpu": {
            "model": "kvm64",
            "vendor": "AMD",
            "require": ["aes", "sse4.2"],
            "disable": ["svm"],
            "address_bits": 40,
            "xml": CPU.xml(),
            "features": ["aes", "hypervisor", "sse4.2"],
        },
        "host": {"name": "hv1", "uuid": "0b-1"},
        "proven": {
            "versions": {"kernel": "6.12.57", "libvirt": "11.3.0", "microcode": "0xb002", "qemu": "10.0.3"},
            "virt_type": "kvm",
            "features": ["aes", "avx", "sse4.2"],
            "address_bits": 48,
            "xsave": [[2, 256, 576], [11, 16, 0]],
            "tsc": {"frequency_hz": 2400000000, "scaling": True},
        },
    }


def test_what_nobody_tells_is_null() -> None:
    proven = EMULATED.to_data()["proven"]
    assert [proven[key] for key in ("address_bits", "xsave", "tsc")] == [None] * 3


def test_the_order_in_which_things_were_found_does_not_show() -> None:
    shuffled = replace(
        RECORD,
        members=(HV1, HV2),
        features=RECORD.features[::-1],
        proven=replace(PROVEN, features=PROVEN.features[::-1], versions=dict(reversed(PROVEN.versions.items()))),
    )
    assert json.dumps(shuffled.to_data()) == json.dumps(RECORD.to_data())


# The file


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        EMULATED,
        replace(RECORD, cpu=PoolCpu("EPYC", None, (), (), None)),
        replace(RECORD, proven=replace(PROVEN, xsave=(), tsc=Tsc(1, None))),
        replace(RECORD, pool="default_amd0", definition="default_amd0", members=(HV1,)),
    ],
)
def test_a_record_is_read_as_it_was_written(paths: HostPaths, record: PoolRecord) -> None:
    pool_record.write(paths, record)
    assert pool_record.read_data(paths.pool_record) == record.to_data()
    found = pool_record.read(paths)
    assert found is not None
    assert found.to_data() == record.to_data()
    assert found.cpu == record.cpu


def test_a_host_without_a_record_is_in_no_pool(paths: HostPaths) -> None:
    assert pool_record.read(paths) is None


@pytest.fixture
def strict_umask() -> Iterator[None]:
    """The umask of an administrator who hides files from others."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("strict_umask")
def test_the_directory_of_facts_is_made_readable_for_all_and_the_file_is_not_executable(paths: HostPaths) -> None:
    paths.pool_record.parent.rmdir()
    paths.pool_record.parent.parent.rmdir()
    pool_record.write(paths, RECORD)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (paths.pool_record, *list(paths.pool_record.parents)[:2])]
    assert modes == [0o644, 0o755, 0o755]


def test_setup_finds_no_second_fact_while_the_record_is_written(
    paths: HostPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    sync = files.os.fsync
    monkeypatch.setattr(
        files.os, "fsync", lambda handle: (seen.append(list(paths.pool_record.parent.glob("*.fact"))), sync(handle))
    )
    pool_record.write(paths, RECORD)
    assert seen[0] == []


def test_a_removed_record_is_gone_and_a_missing_one_is_no_error(paths: HostPaths) -> None:
    pool_record.write(paths, RECORD)
    for _again in range(2):
        pool_record.remove(paths)
        assert pool_record.read(paths) is None


def test_keys_of_nobody_are_ignored_by_readers_and_still_seen_as_a_difference(paths: HostPaths) -> None:
    put(paths, {**RECORD.to_data(), "note": "by hand"})
    found = pool_record.read(paths)
    assert found is not None
    assert found.to_data() == RECORD.to_data()
    assert pool_record.read_data(paths.pool_record) != RECORD.to_data()


# Files that cannot be used

NUMBERS = ("3", 3.0, True, 0, -1, None, ...)
TEXTS = (1, "", None, [], ...)
WRONG: Dict[str, Tuple[Any, ...]] = {
    "version": ("1", None, True, 0, 1.0, ...),
    "pool": (*TEXTS, "-gold", "go ld", "a" * 64, "../gold"),
    "vendor": TEXTS,
    "definition": TEXTS,
    "generation": NUMBERS,
    "members": ([], {}, None, ["hv1"], ...),
    "members.0.name": TEXTS,
    "members.1.uuid": TEXTS,
    "host": (None, [], "hv1", ...),
    "host.uuid": TEXTS,
    "cpu": (None, [], "<cpu/>", ...),
    "cpu.require": (None, "aes", [1], ...),
    "cpu.disable": (None, {}, [""], ...),
    "cpu.features": (None, "aes", [1], [""], ...),
    "proven": (None, [], ...),
    "proven.versions": (None, [], ...),
    "proven.versions.qemu": (1, "", None),
    "proven.virt_type": TEXTS,
    "proven.features": (None, "aes", [1], ...),
    "proven.address_bits": ("48", 0, 48.5, True),
    "proven.xsave": ({}, [2], [[2, 256]], [[2, 256, -1]], [["2", 256, 576]], [[2, 256, True]]),
    "proven.tsc": ([], 2400000000),
    "proven.tsc.frequency_hz": NUMBERS,
    "proven.tsc.scaling": ("yes", 1),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_wrong_field_is_named_with_its_file(paths: HostPaths, field: str, value: Any) -> None:
    put(paths, changed(field, value))
    with pytest.raises(FleetError) as caught:
        pool_record.read(paths)
    name = field.replace(".0.", "[0].").replace(".1.", "[1].")
    assert caught.value.code == "bad_record"
    assert (caught.value.facts["path"], caught.value.facts["field"]) == (str(paths.pool_record), name)
    assert f"{paths.pool_record} cannot be used: its field {name} must be " in caught.value.msg


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cpu.model", 1),
        ("cpu.model", ...),
        ("cpu.vendor", 1),
        ("cpu.require", ["'/>"]),
        ("cpu.disable", ["aes"]),
        ("cpu.address_bits", "40"),
    ],
)
def test_a_cpu_that_no_pool_can_have_is_named_with_its_file(paths: HostPaths, field: str, value: Any) -> None:
    put(paths, changed(field, value))
    with pytest.raises(FleetError) as caught:
        pool_record.read(paths)
    assert caught.value.code == "bad_record"
    assert (caught.value.facts["path"], caught.value.facts["field"]) == (str(paths.pool_record), "cpu")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "pool=gold"])
def test_what_is_no_record_at_all_is_refused(paths: HostPaths, text: str) -> None:
    put(paths, text)
    with pytest.raises(FleetError) as caught:
        pool_record.read(paths)
    assert (caught.value.code, caught.value.facts["path"]) == ("bad_record", str(paths.pool_record))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    ),
    st.sampled_from(sorted(WRONG)),
)
def test_no_content_makes_the_reader_fall_over(value: Any, field: str) -> None:
    paths = HostPaths()
    # What is not refused can be written again.
    with suppress(FleetError):
        found = pool_record.from_data(changed(field, value), paths.pool_record)
        assert json.loads(json.dumps(found.to_data()))["version"] == 1


def test_an_executable_record_is_refused_because_setup_would_run_it(paths: HostPaths) -> None:
    pool_record.write(paths, RECORD)
    paths.pool_record.chmod(0o755)
    with pytest.raises(FleetError) as caught:
        pool_record.read(paths)
    assert caught.value.code == "bad_record"
    assert f"chmod 0644 {paths.pool_record}" in caught.value.msg


@pytest.mark.parametrize("extra", [{}, {"pool": 1, "members": None}])
def test_a_record_of_a_newer_release_is_refused_whatever_else_it_says(paths: HostPaths, extra: Dict[str, Any]) -> None:
    put(paths, {**RECORD.to_data(), **extra, "version": 2})
    with pytest.raises(FleetError) as caught:
        pool_record.read(paths)
    assert (caught.value.code, caught.value.facts["version"]) == ("record_version", 2)
    assert "use that one here too" in caught.value.msg
