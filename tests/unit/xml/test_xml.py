# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _xml
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError


def test_a_document_comes_back_as_it_was() -> None:
    text = '<domain type="kvm"><!-- mine --><name>a &amp; b</name><x><![CDATA[<raw>]]></x><?keep this?></domain>'

    assert _xml.serialise(_xml.parse(text)) == text


def test_comments_around_the_root_stay() -> None:
    written = _xml.serialise(_xml.parse("<!-- before --><domain/><!-- after -->"))

    assert "<!-- before -->" in written
    assert "<!-- after -->" in written


def test_a_declaration_of_another_encoding_is_harmless() -> None:
    root = _xml.parse("<?xml version='1.0' encoding='ISO-8859-1'?>\n<name>Zürich</name>")

    assert root.text == "Zürich"


@pytest.mark.parametrize(
    ("text", "line"), [("", 1), ("no xml", 1), ("<a>\n  <b>\n</a>", 3), ("<?xml version='1.0'\n?><a>\n</b>", 3)]
)
def test_broken_text_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(FleetError) as caught:
        _xml.parse(text)

    assert caught.value.code == "bad_xml"
    assert caught.value.facts["line"] == line
    assert f"line {line}" in caught.value.msg


@pytest.mark.parametrize("text", ["<a>\x00</a>", "<a>\ud800</a>", "<a>\x0b</a>"])
def test_characters_that_xml_forbids_are_refused(text: str) -> None:
    with pytest.raises(FleetError) as caught:
        _xml.parse(text)

    assert caught.value.code == "bad_xml"


ENTITIES = "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 13))
BILLION_LAUGHS = f"<!DOCTYPE a [<!ENTITY l0 'ha'>{ENTITIES}]><a>&l12;</a>"


@pytest.mark.parametrize(
    "text",
    [
        BILLION_LAUGHS,
        "<!DOCTYPE a [<!ENTITY f SYSTEM 'file:///etc/passwd'>]><a>&f;</a>",
        "<!DOCTYPE a SYSTEM 'http://127.0.0.1:9/evil.dtd'><a/>",
        "<!DOCTYPE a [<!ENTITY % p SYSTEM 'file:///etc/passwd'> %p;]><a/>",
        "<!DOCTYPE a><a/>",
    ],
    ids=["entity bomb", "external file", "external definition", "parameter entity", "harmless but not libvirt's"],
)
def test_entities_and_document_types_are_refused_at_once(text: str) -> None:
    started = time.monotonic()

    with pytest.raises(FleetError) as caught:
        _xml.parse(text)

    assert caught.value.code == "bad_xml"
    assert "root:" not in caught.value.msg
    assert time.monotonic() - started < 1


def test_external_files_are_not_even_looked_for() -> None:
    with pytest.raises(FleetError, match="document type definition"):
        _xml.parse("<!DOCTYPE a [<!ENTITY f SYSTEM 'file:///nonexistent/file'>]><a>&f;</a>")


def test_an_xinclude_is_not_followed() -> None:
    text = '<a xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="/etc/passwd" parse="text"/></a>'

    assert "root:" not in _xml.serialise(_xml.parse(text))


def test_another_root_is_refused_by_name() -> None:
    with pytest.raises(FleetError, match=r"is a <network>.*a <domain> is needed") as caught:
        _xml.parse_as("<network/>", "domain")

    assert caught.value.code == "bad_xml"


def test_a_part_declares_only_the_namespaces_it_uses() -> None:
    root = _xml.parse("<d xmlns:qemu='urn:q'><cpu mode='custom'/><qemu:arg/></d>")

    assert _xml.serialise(root.find("cpu")) == '<cpu mode="custom"/>'


def test_without_lxml_the_first_use_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_xml, "LXML_IMPORT_ERROR", "Traceback …")

    for use in (lambda: _xml.parse("<a/>"), lambda: _xml.new("a")):
        with pytest.raises(FleetError, match="Install it") as caught:
            use()
        assert caught.value.code == "library_missing"


def test_removing_an_element_keeps_the_text_after_it() -> None:
    root = _xml.parse("<a>one<b/>two<c/>three</a>")

    _xml.remove(root.find("c"))
    _xml.remove(root.find("b"))

    assert _xml.serialise(root) == "<a>onetwothree</a>"


def test_inserting_and_removing_keeps_the_indentation() -> None:
    text = "<a>\n  <b>\n    <c/>\n  </b>\n</a>"
    root = _xml.parse(text)

    for index in (0, 1, 2):
        _xml.insert(root.find("b"), index, _xml.new("n", number=index))
    assert _xml.serialise(root) == (
        '<a>\n  <b>\n    <n number="0"/>\n    <n number="1"/>\n    <n number="2"/>\n    <c/>\n  </b>\n</a>'
    )

    for element in root.findall("b/n"):
        _xml.remove(element)
    assert _xml.serialise(root) == text


def test_the_last_child_leaves_no_gap() -> None:
    root = _xml.parse("<a>\n  <b/>\n  <c/>\n</a>")

    _xml.remove(root.find("c"))

    assert _xml.serialise(root) == "<a>\n  <b/>\n</a>"


def test_a_first_child_is_indented() -> None:
    root = _xml.parse("<a>\n  <b/>\n</a>")

    _xml.insert(root.find("b"), 0, _xml.new("c"))

    assert _xml.serialise(root) == "<a>\n  <b>\n    <c/>\n  </b>\n</a>"


@pytest.mark.parametrize(
    ("text", "number"), [("7", 7), (" 0x1f ", 31), ("", None), (None, None), ("many", None), ("-1", -1)]
)
def test_numbers_are_decimal_or_hexadecimal(text: str | None, number: int | None) -> None:
    assert _xml.to_int(text) == number
