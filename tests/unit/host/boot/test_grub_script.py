# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""GRUB's words, and what a real grub.cfg says."""

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot.cmdline import Argument, format_line, parse
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot.grub_script import entries, quote, words
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.host.boot.fakes import DATA

VALUES = st.text(alphabet="ab0,:=/*?$;{}|&<>#!()[] -_.", max_size=12)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a  b", ["a", "b"]),
        ("'a b' \"c d\"e", ["a b", "c de"]),
        (r"a\ b \$x \"", ["a b", "$x", '"']),
        (r'"\$x \a \\"', ["$x \\a \\"]),
        ("a; b", ["a"]),
        ("a #b", ["a"]),
        ("a#b", ["a#b"]),
        ("a {", ["a"]),
        ("$one ${two} $three", ["1", "2", "3", "$three"]),
        ('x$two"$two"y', ["x2", "32 3y"]),
        ("$empty a", ["a"]),
        ("'' a", ["", "a"]),
        ("'open", ["open"]),
    ],
)
def test_a_command_is_divided_as_grub_divides_it(text: str, found: list[str]) -> None:
    assert words(text, {"one": "1", "two": "2 3", "empty": ""}) == found


@given(st.one_of(st.none(), VALUES))
def test_a_quoted_argument_is_one_word_again(value: str | None) -> None:
    argument = Argument("name", value)
    assert words(f"x {quote(argument)} y", {"a": "1"}) == ["x", "name" if value is None else f"name={value}", "y"]


@pytest.mark.parametrize("value", ['a"b', "it's", "a\\b"])
def test_what_grub_would_change_on_the_way_to_the_kernel_is_refused(value: str) -> None:
    with pytest.raises(FleetError, match="GRUB cannot give the kernel") as caught:
        quote(Argument("x", value))
    assert caught.value.code == "bad_argument"


def test_the_entries_of_debian_are_read_and_recovery_is_known() -> None:
    found = entries((DATA / "debian13_grub.cfg").read_text(), "")
    normal = "root=/dev/vda ro console=tty0 console=ttyS0,115200"
    assert [format_line(entry.arguments) for entry in found if not entry.recovery] == [normal] * 3
    recovery = "root=/dev/vda ro single dis_ucode_ldr"
    assert [format_line(entry.arguments) for entry in found if entry.recovery] == [recovery] * 2
    assert {entry.section for entry in found} == {"/etc/grub.d/10_linux"}
    assert found[1].title == "Debian GNU/Linux, with Linux 6.12.41+deb13-amd64"


def test_the_variables_of_tuned_are_replaced() -> None:
    found = entries((DATA / "debian13_tuned_grub.cfg").read_text(), "")
    assert "nohz_full=1 rcu_nocbs=1" in format_line(found[0].arguments)


def test_a_variable_may_come_from_the_environment_and_an_empty_one_is_nothing() -> None:
    config = "linux /vmlinuz ro $kernelopts $tuned_params"
    environment = "# GRUB Environment Block\nkernelopts=root=/dev/a x=1\ntuned_params=\n####"
    assert entries(config, environment)[0].arguments == parse("ro root=/dev/a x=1")


def test_words_with_blanks_reach_the_kernel_in_quotes() -> None:
    config = "\tlinuxefi /vmlinuz 'dyndbg=file a.c +p' b=\"c d\""
    assert entries(config, "")[0].arguments == (Argument("dyndbg", "file a.c +p"), Argument("b", "c d"))
