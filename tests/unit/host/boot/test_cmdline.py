# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules of the kernel command line: what the kernel reads, what stays as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot import cmdline
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot.cmdline import (
    Argument,
    append,
    arguments,
    cut,
    difference,
    for_kernel,
    format_line,
    parse,
    same_name,
    split,
)
from hypothesis import assume, given
from hypothesis import strategies as st

# Characters that mean something, and a few that do not.
LINES = st.text(alphabet="ab=-_\" \t,\n'\\$", max_size=40)
WORDS = st.from_regex(r'[a-z][a-z_.-]{0,6}(=([a-z0-9,:-]{0,8}|"[a-z0-9 ]{0,8}"))?', fullmatch=True)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("", []),
        ("  \n", []),
        ("quiet", [("quiet", None)]),
        ("a= b", [("a", ""), ("b", None)]),
        ("isolcpus=managed_irq,domain,2-7\n", [("isolcpus", "managed_irq,domain,2-7")]),
        ("root=UUID=1 x", [("root", "UUID=1"), ("x", None)]),
        ('dyndbg="file a.c +p" quiet', [("dyndbg", "file a.c +p"), ("quiet", None)]),
        ('"dyndbg=file a.c +p" quiet', [("dyndbg", "file a.c +p"), ("quiet", None)]),
        ('a=b"c d"e f', [("a", 'b"c d"e'), ("f", None)]),
        ('a="b c', [("a", "b c")]),
        ("a='b c'", [("a", "'b"), ("c'", None)]),
        ("=a", [("=a", None)]),
        ("==a", [("=", "a")]),
        ('"a b"', [("a b", None)]),
        ("a\tb\nc", [("a", None), ("b", None), ("c", None)]),
    ],
)
def test_a_line_is_divided_as_the_kernel_divides_it(line: str, found: list[tuple[str, Optional[str]]]) -> None:
    assert parse(line) == tuple(Argument(*item) for item in found)


@given(LINES)
def test_a_line_that_is_read_and_written_reads_the_same(line: str) -> None:
    found = parse(line)
    # Quotes inside a name or a value may stand for blanks that only their place on the line explains.
    assume(not any('"' in argument.name + (argument.value or "") for argument in found))
    assert parse(format_line(found)) == found


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        (Argument("quiet"), "quiet"),
        (Argument("x", ""), "x="),
        (Argument("a", "b c"), 'a="b c"'),
        (Argument("a b"), '"a b"'),
        (Argument("a", 'b"c d"e'), 'a=b"c d"e'),
    ],
)
def test_quotes_are_written_only_where_the_kernel_needs_them(argument: Argument, text: str) -> None:
    assert argument.text == text


@pytest.mark.parametrize("text", ["", "a b", "--", 'a="b" c'])
def test_a_text_that_is_not_one_argument_is_refused(text: str) -> None:
    with pytest.raises(FleetError, match="is not one kernel argument") as caught:
        arguments([text])
    assert (caught.value.code, caught.value.facts) == ("bad_argument", {"argument": text})


def test_dash_and_underscore_are_equal_in_names() -> None:
    assert same_name("transparent_hugepage", "transparent-hugepage")
    assert not same_name("nohz", "nohz_full")


def test_what_follows_two_dashes_is_for_init() -> None:
    assert for_kernel(parse("a -- b")) == parse("a")
    assert for_kernel(parse("a --b")) == parse("a --b")


@pytest.mark.parametrize(
    ("wanted", "now", "names"),
    [
        ("isolcpus=2-3 quiet", "BOOT_IMAGE=/x isolcpus=2-3", ()),
        ("isolcpus=2-3", "isolcpus=2", ("isolcpus",)),
        ("", "isolcpus=2 nohz_full=2", ("isolcpus", "nohz_full")),
        ("nohz-full=2", "nohz_full=2", ()),
        ("hugepages=1 hugepages=2", "hugepages=2 hugepages=1", ("hugepages",)),
        ("isolcpus=2", "-- isolcpus=2", ("isolcpus",)),
        ("nohz_full", "nohz_full=", ("nohz_full",)),
    ],
)
def test_a_reboot_is_needed_for_names_whose_values_or_order_differ(
    wanted: str, now: str, names: tuple[str, ...]
) -> None:
    assert difference(parse(wanted), parse(now), ("isolcpus", "nohz_full", "hugepages")) == names


def test_the_running_kernels_arguments_are_those_somebody_gave(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cmdline").write_text("BOOT_IMAGE=/boot/vmlinuz-6 root=/dev/vda ro initrd=\\a.img quiet\n")
    assert cmdline.running(tmp_path) == parse("root=/dev/vda ro quiet")


@given(LINES, st.lists(WORDS, max_size=4))
def test_arguments_that_are_appended_and_cut_leave_every_line_as_it_was(line: str, words: list[str]) -> None:
    ours = arguments(words)
    # Behind an open quote nothing can be added; write() sees that it did not arrive.
    if line.count('"') % 2 == 0:
        assert for_kernel(parse(append(line, ours))) == for_kernel(parse(line)) + ours
        assert cut(append(line, ours), ours) == line


@pytest.mark.parametrize(
    ("line", "ours", "left"),
    [
        # Somebody's own stays, even if it is the same.
        ("a=1 b a=1 c", "a=1", "a=1 b c"),
        ("x  y=2 z", "y=2", "x  z"),
        ("y=2 z", "y=2", "z"),
        ("x y=2", "y=3", "x y=2"),
        ("x z y", "y z", "x"),
        ("x  y", "y", "x "),
        ("x\ty\tz", "y", "x\t\tz"),
    ],
)
def test_ours_are_cut_wherever_others_have_moved_them(line: str, ours: str, left: str) -> None:
    assert cut(line, parse(ours)) == left


def test_what_is_for_init_stays_behind_ours() -> None:
    assert append("a -- b", parse("x y=1")) == "a x y=1 -- b"
    assert cut("a x y=1 -- b", parse("x y=1")) == "a -- b"


def test_a_line_is_split_into_the_others_and_the_last_of_ours() -> None:
    line = parse("a=1 b a=1 c d")
    assert split(line, parse("d a=1 e")) == (parse("a=1 b c"), parse("a=1 d"))
