# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lxml import etree

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="session")
def live() -> str:
    """A running, pinned VM as libvirt 11 prints it."""
    return (FIXTURES / "live.xml").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def plain() -> str:
    """A small hand-written definition without CPU, pins and metadata."""
    return (FIXTURES / "plain.xml").read_text(encoding="utf-8")


Nodes = list[tuple[str, str, dict[str, str], str]]


@pytest.fixture(scope="session")
def nodes() -> Callable[..., Nodes]:
    """Give every node of a document, comments too, except those at the given paths and below."""

    def collect(xml: str, *without: str, attributes: tuple[str, ...] = ()) -> Nodes:
        root = etree.fromstring(xml)
        for path in without:
            for element in root.findall(path):
                parent = element.getparent()
                assert parent is not None
                parent.remove(element)
        found: Nodes = []
        for node in root.iter():
            path = "/".join(str(each.tag) for each in reversed(list(node.iterancestors())))
            kept = {str(name): str(value) for name, value in node.attrib.items() if name not in attributes}
            found.append((path, str(node.tag), kept, (node.text or "").strip()))
        return found

    return collect
