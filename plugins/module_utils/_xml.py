# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""XML in and out: the only importer of lxml.

Everything else works on the elements ``parse`` returns. Documents come from libvirt or from a user's file, so entities,
document type definitions, external files and the network are all off.
"""

from __future__ import annotations

import traceback
from copy import deepcopy
from typing import Any, Optional

from ._errors import FleetError

LXML_IMPORT_ERROR: Optional[str] = None
try:
    from lxml import etree
except ImportError:
    LXML_IMPORT_ERROR = traceback.format_exc()

# lxml ships no type hints, and its stubs are not installed everywhere.
Element = Any


def parse(text: str) -> Element:
    """Return the root element of an XML document.

    Raises ``FleetError`` with code ``library_missing`` without lxml, or ``bad_xml`` (fact ``line``) for text that is
    not well-formed or carries a document type definition.
    """
    _require_lxml()
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, strip_cdata=False
    )
    try:
        # Bytes, because lxml refuses text that also declares an encoding.
        root: Element = etree.fromstring(_without_declaration(text).encode("utf-8", "surrogatepass"), parser)
    except etree.XMLSyntaxError as error:
        raise FleetError(
            f"The XML cannot be read: line {error.lineno}: {error.msg}. Correct the XML at that line.",
            code="bad_xml",
            line=error.lineno,
        ) from error
    if root.getroottree().docinfo.doctype:
        raise FleetError(
            "The XML is refused: it has a document type definition, which libvirt never writes. Remove the DOCTYPE.",
            code="bad_xml",
            line=1,
        )
    return root


def parse_as(text: str, tag: str) -> Element:
    """Return the root element of a document that must be ``<tag>``; another root is ``bad_xml``."""
    root = parse(text)
    if root.tag != tag:
        raise FleetError(
            f"The XML is a <{root.tag}>, but a <{tag}> is needed here. Give the XML of a <{tag}>.",
            code="bad_xml",
            line=root.sourceline,
        )
    return root


def serialise(element: Element) -> str:
    """Return an element as XML text without declaration; a root keeps the comments around it."""
    _require_lxml()
    if element.getparent() is None:
        return str(etree.tostring(element.getroottree(), encoding="unicode"))
    # A copy declares the namespaces it uses; the part itself would declare all of its document.
    return str(etree.tostring(deepcopy(element), encoding="unicode", with_tail=False))


def new(tag: str, text: Optional[str] = None, **attributes: Optional[object]) -> Element:
    """Return a new element; attributes that are ``None`` are left out."""
    _require_lxml()
    element = etree.Element(tag, {name: str(value) for name, value in attributes.items() if value is not None})
    element.text = text
    return element


def namespaced(element: Element, uri: str, prefix: str) -> Element:
    """Return a copy of an element with it and all below in one namespace, declared once."""
    _require_lxml()
    copy = etree.Element(f"{{{uri}}}{element.tag}", dict(element.attrib), nsmap={prefix: uri})
    copy.text, copy.tail = element.text, element.tail
    for child in element:
        copy.append(namespaced(child, uri, prefix))
    return copy


def find_text(element: Element, path: str) -> Optional[str]:
    """Return the stripped text of the first element at ``path``; ``None`` when it is missing or empty."""
    text = element.findtext(path)
    return (text.strip() or None) if text else None


def find_attribute(element: Element, path: str, name: str) -> Optional[str]:
    """Return an attribute of the first element at ``path``; ``None`` when either is missing."""
    found = element.find(path)
    return None if found is None else found.get(name)


def to_int(text: Optional[str]) -> Optional[int]:
    """Return decimal or ``0x`` text as a number; ``None`` for anything else."""
    try:
        return None if text is None else int(text.strip(), 0)
    except ValueError:
        return None


def int_attribute(element: Element, name: str, default: int) -> int:
    """Return an attribute as a number, or the default when it is missing or no number."""
    value = to_int(element.get(name))
    return default if value is None else value


def local_name(element: Element) -> str:
    """Return the name without namespace; empty for comments and processing instructions."""
    return str(etree.QName(element).localname) if isinstance(element.tag, str) else ""


def remove(element: Element) -> None:
    """Take an element out of its parent and keep the text that follows it.

    Whitespace after it goes with it, so that no empty line stays behind; lxml alone would drop other text too.
    """
    parent, tail = element.getparent(), element.tail or ""
    if tail.strip():
        previous = element.getprevious()
        if previous is None:
            parent.text = (parent.text or "") + tail
        else:
            previous.tail = (previous.tail or "") + tail
    elif element.getnext() is None:
        _indent_end(element, tail)
    parent.remove(element)


def _indent_end(element: Element, tail: str) -> None:
    """Give the whitespace before the parent's end tag to the element that is now last."""
    previous = element.getprevious()
    if previous is not None and not (previous.tail or "").strip():
        previous.tail = tail


def insert(parent: Element, index: int, element: Element) -> None:
    """Put an element before the child at ``index`` (or last) and indent it as its neighbours are."""
    depth = sum(1 for _ancestor in parent.iterancestors()) + 1
    etree.indent(element, space="  ", level=depth)
    siblings = len(parent)
    index = min(index, siblings)
    if index < siblings:
        element.tail = "\n" + "  " * depth
    elif siblings:
        element.tail = parent[-1].tail
        if not (parent[-1].tail or "").strip():
            parent[-1].tail = "\n" + "  " * depth
    else:
        element.tail = "\n" + "  " * (depth - 1)
        if not (parent.text or "").strip():
            parent.text = "\n" + "  " * depth
    parent.insert(index, element)


def indented(element: Element) -> Element:
    """Indent a free-standing element by two spaces a level, and return it."""
    etree.indent(element, space="  ")
    return element


def _without_declaration(text: str) -> str:
    text = text.lstrip("\ufeff \t\r\n")
    if not text.startswith("<?xml"):
        return text
    head, closing, rest = text.partition("?>")
    # Keep the line count, so that errors name the line of the original text.
    return "\n" * head.count("\n") + rest if closing else text


def _require_lxml() -> None:
    if LXML_IMPORT_ERROR is not None:
        raise FleetError(
            "python3-lxml is missing on this host. Install it from the distribution (package python3-lxml).",
            code="library_missing",
            library="lxml",
            exception=LXML_IMPORT_ERROR,
        )
