# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What machine types are called, which ones hosts have, and which is the newest of its kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    MachineName,
    MachineType,
    MachineTypes,
    machine_types_of,
    parse_domain,
    parse_machine,
    with_machine,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from hypothesis import given
from hypothesis import strategies as st

# As libvirt prints them on Debian 13, RHEL 9 and Ubuntu 24.04, cut to what differs.
DEBIAN = """
<machine maxCpus='288'>pc-q35-2.12</machine>
<machine maxCpus='288'>pc-q35-9.2</machine>
<machine maxCpus='4096'>pc-q35-10.0</machine>
<machine canonical='pc-q35-10.0' maxCpus='4096'>q35</machine>
<machine maxCpus='255' deprecated='yes'>pc-i440fx-2.4</machine>
<machine maxCpus='255'>pc-i440fx-9.2</machine>
<machine maxCpus='255'>pc-i440fx-10.0</machine>
<machine canonical='pc-i440fx-10.0' maxCpus='255'>pc</machine>
<machine maxCpus='1'>isapc</machine>
<machine maxCpus='288'>microvm</machine>
"""
RHEL = """
<machine maxCpus='240' deprecated='yes'>pc-i440fx-rhel7.6.0</machine>
<machine canonical='pc-i440fx-rhel7.6.0' maxCpus='240' deprecated='yes'>pc</machine>
<machine maxCpus='512' deprecated='yes'>pc-q35-rhel8.6.0</machine>
<machine maxCpus='710'>pc-q35-rhel9.4.0</machine>
<machine maxCpus='4096'>pc-q35-rhel9.6.0</machine>
<machine canonical='pc-q35-rhel9.6.0' maxCpus='4096'>q35</machine>
"""
UBUNTU = """
<machine maxCpus='255'>pc-i440fx-xenial</machine>
<machine maxCpus='255'>pc-i440fx-noble-v2</machine>
<machine canonical='pc-i440fx-noble-v2' maxCpus='255'>ubuntu</machine>
<machine maxCpus='288'>pc-q35-mantic</machine>
<machine maxCpus='1024'>pc-q35-mantic-hpb-maxcpus</machine>
<machine maxCpus='288'>pc-q35-noble</machine>
<machine maxCpus='288'>pc-q35-noble-v2</machine>
<machine canonical='pc-q35-noble-v2' maxCpus='288'>ubuntu-q35</machine>
<machine maxCpus='288'>pc-q35-8.1</machine>
<machine maxCpus='288'>pc-q35-8.2</machine>
<machine canonical='pc-q35-8.2' maxCpus='288'>q35</machine>
"""


def host(machines: str, arch: str = "x86_64") -> MachineTypes:
    capabilities = (
        "<capabilities><host/><guest><os_type>hvm</os_type><arch name='i686'><machine>pc-i440fx-1.0</machine></arch>"
        f"</guest><guest><os_type>hvm</os_type><arch name='x86_64'><wordsize>64</wordsize>{machines}"
        "<domain type='qemu'/><domain type='kvm'/></arch></guest></capabilities>"
    )
    return machine_types_of(capabilities, arch)


# Names


@pytest.mark.parametrize(
    ("name", "board", "line", "version"),
    [
        ("pc-i440fx-2.12", "pc-i440fx", "", (2, 12)),
        ("pc-q35-4.0.1", "pc-q35", "", (4, 0, 1)),
        ("pc-1.3", "pc-i440fx", "", (1, 3)),
        ("virt-10.0", "virt", "", (10, 0)),
        ("s390-ccw-virtio-10.0", "s390-ccw-virtio", "", (10, 0)),
        ("pc-i440fx-rhel7.6.0", "pc-i440fx", "rhel", (7, 6, 0)),
        ("s390-ccw-virtio-rhel9.6.0", "s390-ccw-virtio", "rhel", (9, 6, 0)),
        ("pseries-2.12-sxxm", "pseries", "-sxxm", (2, 12)),
        ("pseries-rhel7.6.0-sxxm", "pseries", "rhel-sxxm", (7, 6, 0)),
        ("pc-q35-jammy", "pc-q35", "code name", None),
        ("pc-q35-noble-v2", "pc-q35", "code name", None),
        ("pc-i440fx-bionic-hpb", "pc-i440fx", "code name-hpb", None),
        ("pc-q35-mantic-hpb-maxcpus", "pc-q35", "code name-hpb-maxcpus", None),
        ("pc", "pc-i440fx", "", None),
        ("q35", "pc-q35", "", None),
        ("virt", "virt", "", None),
        ("isapc", "isapc", "", None),
        ("microvm", "microvm", "", None),
        ("sbsa-ref", "sbsa-ref", "", None),
        ("", "", "", None),
    ],
)
def test_a_name_says_board_line_and_version(name: str, board: str, line: str, version: tuple[int, ...] | None) -> None:
    assert parse_machine(name) == MachineName(board, line, version)


BOARDS, VENDORS = st.sampled_from(["pc-q35", "virt", "pseries"]), st.sampled_from(["", "rhel"])


@given(BOARDS, VENDORS, st.lists(st.integers(0, 99), min_size=2, max_size=3))
def test_versions_are_compared_as_numbers(board: str, vendor: str, version: list[int]) -> None:
    name = f"{board}-{vendor}{'.'.join(map(str, version))}"
    assert parse_machine(name) == MachineName(board, vendor, tuple(version))


# What hosts have


def test_an_alias_is_resolved_to_its_canonical_type() -> None:
    debian = host(DEBIAN)
    assert [debian.resolve(name) for name in ("q35", "pc", "pc-q35-9.2", "pc-q35-9.3", "")] == [
        "pc-q35-10.0", "pc-i440fx-10.0", "pc-q35-9.2", None, None,
    ]  # fmt: skip
    assert host(UBUNTU).resolve("ubuntu") == "pc-i440fx-noble-v2"


def test_names_are_canonical_and_of_one_architecture() -> None:
    assert host(RHEL).names == ["pc-i440fx-rhel7.6.0", "pc-q35-rhel8.6.0", "pc-q35-rhel9.4.0", "pc-q35-rhel9.6.0"]
    assert host(RHEL, "i686").names == ["pc-i440fx-1.0"]
    assert host(RHEL, "aarch64").names == []


def test_a_type_says_how_many_vcpus_it_has_and_whether_it_is_deprecated() -> None:
    types = host(DEBIAN).types
    assert types["pc-i440fx-2.4"] == MachineType("pc-i440fx-2.4", 255, deprecated=True)
    assert types["pc-q35-10.0"] == MachineType("pc-q35-10.0", 4096, deprecated=False)


def test_a_type_that_only_an_alias_names_is_there() -> None:
    found = host("<machine canonical='pc-q35-10.0' maxCpus='9'>q35</machine>")
    assert (found.types["pc-q35-10.0"].max_vcpus, found.resolve("pc-q35-10.0")) == (9, "pc-q35-10.0")


def test_what_a_type_says_of_itself_counts_more_than_what_its_alias_says() -> None:
    alias = "<machine canonical='pc-q35-10.0' maxCpus='9'>q35</machine>"
    own = "<machine maxCpus='8' deprecated='yes'>pc-q35-10.0</machine>"
    for machines in (alias + own, own + alias):
        assert host(machines).types["pc-q35-10.0"] == MachineType("pc-q35-10.0", 8, deprecated=True)


# The newest


@pytest.mark.parametrize(
    ("machines", "name", "newest"),
    [
        (DEBIAN, "pc-q35-2.12", "pc-q35-10.0"),
        (DEBIAN, "pc-i440fx-2.4", "pc-i440fx-10.0"),
        # It need not be there any more.
        (DEBIAN, "pc-1.3", "pc-i440fx-10.0"),
        (DEBIAN, "microvm", "microvm"),
        # Versions of others say nothing about it.
        (DEBIAN, "pc-q35-rhel9.6.0", None),
        (RHEL, "pc-q35-10.0", None),
        (RHEL, "pc-q35-rhel8.6.0", "pc-q35-rhel9.6.0"),
        # The only one is deprecated.
        (RHEL, "pc-i440fx-rhel7.6.0", None),
        # Names have no order, but new VMs get what the alias stands for.
        (UBUNTU, "pc-q35-mantic", "pc-q35-noble-v2"),
        (UBUNTU, "pc-i440fx-xenial", "pc-i440fx-noble-v2"),
        (UBUNTU, "pc-q35-mantic-hpb-maxcpus", None),
        (UBUNTU, "pc-q35-8.1", "pc-q35-8.2"),
    ],
)
def test_the_newest_is_of_the_same_board_and_line(machines: str, name: str, newest: str | None) -> None:
    assert host(machines).newest(name) == newest


def test_the_newest_among_those_that_others_have_may_be_older() -> None:
    debian = host(DEBIAN)
    assert debian.newest("pc-q35-10.0", {"pc-q35-2.12", "pc-q35-9.2", "pc-q35-10.1"}) == "pc-q35-9.2"
    assert debian.newest("pc-q35-10.0", {"pc-i440fx-10.0"}) is None
    assert host(UBUNTU).newest("pc-q35-mantic", {"pc-q35-mantic", "pc-q35-noble"}) is None


def test_of_two_code_names_with_aliases_nobody_knows_the_newer() -> None:
    found = host(UBUNTU + "<machine canonical='pc-q35-mantic'>ubuntu-next</machine>")
    assert found.newest("pc-q35-noble") is None


@pytest.mark.parametrize(
    ("machines", "name", "among", "newer"),
    [
        (DEBIAN, "pc-q35-9.2", None, "pc-q35-10.0"),
        (DEBIAN, "pc-q35-10.0", None, None),
        (DEBIAN, "pc-q35-10.0", {"pc-q35-9.2"}, None),
        (DEBIAN, "pc-q35-2.12", {"pc-q35-9.2"}, "pc-q35-9.2"),
        # Nobody has the VM's own any more.
        (DEBIAN, "pc-q35-99.0", None, None),
        (UBUNTU, "pc-q35-noble", None, "pc-q35-noble-v2"),
        (UBUNTU, "pc-q35-noble-v2", None, None),
        (DEBIAN, "isapc", None, None),
    ],
)
def test_newer_is_never_older(machines: str, name: str, among: set[str] | None, newer: str | None) -> None:
    assert host(machines).newer(name, among) == newer


VERSIONS = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 12)), min_size=1, max_size=8, unique=True)


@given(VERSIONS, VERSIONS, st.booleans())
def test_the_newest_has_no_newer_one_in_its_family(
    ours: list[tuple[int, int]], theirs: list[tuple[int, int]], deprecated: bool
) -> None:
    names = [f"virt-{major}.{minor}" for major, minor in ours]
    others = [f"virt-rhel{major}.{minor}.0" for major, minor in theirs]
    types = {name: MachineType(name, None, deprecated and name == names[0]) for name in names + others}
    found = MachineTypes(types, {})

    newest = found.newest(names[-1])

    allowed = ours[1:] if deprecated else ours
    assert newest == (f"virt-{max(allowed)[0]}.{max(allowed)[1]}" if allowed else None)
    assert newest is None or found.newer(newest) is None


# Definitions


def test_the_machine_type_is_replaced_and_all_else_stays(live: str, nodes: Callable[..., Any]) -> None:
    written = with_machine(live, "pc-q35-9.2")

    assert parse_domain(written).machine == "pc-q35-9.2"
    assert nodes(written, attributes=("machine",)) == nodes(live, attributes=("machine",))
    assert with_machine(live, "pc-q35-10.0") is live


@pytest.mark.parametrize("machine", ["pc-q35-rhel9.6.0", "pc-q35-jammy", "q35"])
def test_a_type_of_another_line_is_of_the_same_board(plain: str, machine: str) -> None:
    assert parse_domain(with_machine(plain, machine)).machine == machine


@pytest.mark.parametrize("machine", ["pc-i440fx-10.0", "pc", "microvm", "virt-10.0"])
def test_another_board_is_refused(plain: str, machine: str) -> None:
    with pytest.raises(FleetError, match=r"VM web1 has the machine type pc-q35-10\.0, and") as raised:
        with_machine(plain, machine)
    assert (raised.value.code, raised.value.facts["vm"], raised.value.facts["board"]) == (
        "machine_board", "web1", "pc-q35",
    )  # fmt: skip


def test_a_domain_without_a_machine_is_no_definition() -> None:
    with pytest.raises(FleetError) as raised:
        with_machine("<domain><name>a</name></domain>", "pc")
    assert raised.value.code == "bad_xml"
