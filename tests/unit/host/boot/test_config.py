# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules for arguments that somebody else sets too, and for what is verified."""

from __future__ import annotations

import json

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot import record
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot.cmdline import parse
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot.config import (
    BootConfig,
    Conflict,
    conflicts,
    from_lines,
    missing,
    verify,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.paths import HostPaths

OURS, KNOWN = parse("a=1 b"), parse("a=1 b old=1 shared")
FILE = "/etc/default/grub"


def config(others: str, elsewhere: str = "") -> BootConfig:
    sources = {argument.name: FILE for argument in parse(others) + parse(elsewhere)}
    return BootConfig("grub", parse(others), (), sources, parse(elsewhere))


@pytest.mark.parametrize(
    ("others", "elsewhere", "wanted", "found"),
    [
        ("quiet", "", "isolcpus=2", []),
        ("isolcpus=2", "", "isolcpus=2", []),
        ("isolcpus=3", "", "isolcpus=2", [Conflict("isolcpus", "isolcpus=3", "isolcpus=2", FILE)]),
        # The kernel takes both names for one.
        ("nohz-full=3", "", "nohz_full=2", [Conflict("nohz_full", "nohz-full=3", "nohz_full=2", FILE)]),
        ("x", "", "x=1", [Conflict("x", "x", "x=1", FILE)]),
        ("quiet", "isolcpus=3", "isolcpus=2", [Conflict("isolcpus", "isolcpus=3", "isolcpus=2", FILE)]),
        ("a=1 a=2", "", "a=1 a=3", [Conflict("a", "a=2", "a=1 a=3", FILE)]),
        ("console=tty0", "", "console=ttyS0", []),
    ],
)
def test_another_value_of_somebody_else_is_a_conflict(
    others: str, elsewhere: str, wanted: str, found: list[Conflict]
) -> None:
    assert conflicts(config(others, elsewhere), parse(wanted), shared=("console",)) == tuple(found)


@pytest.mark.parametrize(
    ("others", "wanted", "ours"),
    [
        ("quiet isolcpus=2", "isolcpus=2 nohz_full=2", "nohz_full=2"),
        ("-- isolcpus=2", "isolcpus=2", "isolcpus=2"),
        # A number of pages means nothing without its size.
        ("hugepages=4", "hugepagesz=1G hugepages=4", "hugepagesz=1G hugepages=4"),
        ("hugepagesz=1G hugepages=4", "hugepagesz=1G hugepages=4", ""),
    ],
)
def test_what_others_set_to_the_same_value_is_not_written_twice(others: str, wanted: str, ours: str) -> None:
    assert missing(config(others), parse(wanted)) == parse(ours)


def test_the_first_line_is_the_next_boots_and_ours_are_those_that_every_kernel_gets() -> None:
    lines = [("1.conf", parse("x a b c")), ("2.conf", parse("c y x a"))]
    found = from_lines("grub", lines, parse("a b c"), dict.fromkeys(parse("z y"), FILE))
    assert (found.others, found.ours, found.elsewhere) == (parse("x"), parse("a c"), parse("y z"))
    assert found.sources == {"x": "1.conf", "y": FILE, "z": FILE}


@pytest.mark.parametrize(
    ("line", "problem", "absent", "left"),
    [
        ("x a=1", "it lacks b", ["b"], []),
        ("a=1 b -- c", "", [], []),
        ("a=1 -- b", "it lacks b", ["b"], []),
        ("a=1 b old=1", "it still has old=1", [], ["old=1"]),
        ("a=1 b shared", "", [], []),
        ("b a=1", "it has them in another order: b a=1", [], []),
    ],
)
def test_a_line_holds_exactly_ours_in_their_order(line: str, problem: str, absent: list[str], left: list[str]) -> None:
    if not problem:
        verify("x.conf", parse(line), OURS, KNOWN, parse("shared"))
        return
    with pytest.raises(FleetError, match=f"command line of x.conf is not as written: {problem}") as caught:
        verify("x.conf", parse(line), OURS, KNOWN, parse("shared"))
    assert caught.value.code == "not_applied"
    assert caught.value.facts == {"place": "x.conf", "missing": absent, "left": left}


def test_between_two_writes_the_record_knows_old_and_new(paths: HostPaths) -> None:
    with record.changing(paths, "grub", parse("a=1 b b")):
        pass
    stopped = record.changing(paths, "grub", parse("b c"))
    change = stopped.__enter__()
    assert (change.old, change.known) == (parse("a=1 b b"), parse("a=1 b b c"))
    assert record.read(paths).arguments == parse("a=1 b b c")
    with record.changing(paths, "grub", ()) as change:
        assert change.old == parse("a=1 b b c")
    assert not paths.kernel_arguments.exists()


def test_a_record_is_readable_by_people(paths: HostPaths) -> None:
    with record.changing(paths, "grub", parse('a="b c"')):
        pass
    assert json.loads(paths.kernel_arguments.read_text()) == {
        "version": 1,
        "backend": "grub",
        "arguments": ['a="b c"'],
        "created": {},
    }


@pytest.mark.parametrize("text", ["{}", '{"version": 2, "arguments": [], "created": {}}', "["])
def test_a_record_of_another_kind_is_refused(paths: HostPaths, text: str) -> None:
    paths.kernel_arguments.write_text(text)
    with pytest.raises(FleetError, match=r"kernel_arguments\.json cannot be used") as caught:
        record.read(paths)
    assert caught.value.code == "bad_record"
