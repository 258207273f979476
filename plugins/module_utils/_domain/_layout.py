# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Where the children of a domain stand, so that a changed definition reads as libvirt prints it."""

from __future__ import annotations

from .. import _xml

# The order in which libvirt prints the children of <domain> (virDomainDefFormatInternal); it reads any order.
_ORDER = (
    "name",
    "uuid",
    "genid",
    "title",
    "description",
    "metadata",
    "maxMemory",
    "memory",
    "currentMemory",
    "blkiotune",
    "memtune",
    "memoryBacking",
    "vcpu",
    "vcpus",
    "iothreads",
    "iothreadids",
    "defaultiothread",
    "cputune",
    "numatune",
    "resource",
    "sysinfo",
    "bootloader",
    "bootloader_args",
    "os",
    "idmap",
    "features",
    "cpu",
    "clock",
    "on_poweroff",
    "on_reboot",
    "on_crash",
    "on_lockfailure",
    "pm",
    "perf",
    "devices",
    "seclabel",
    "launchSecurity",
)


def place(root: _xml.Element, element: _xml.Element) -> None:
    """Insert a child of ``<domain>`` where libvirt would print it."""
    rank = _ORDER.index(element.tag)
    later = [child for child in root if child.tag in _ORDER and _ORDER.index(child.tag) > rank]
    _xml.insert(root, root.index(later[0]) if later else len(root), element)


def child(root: _xml.Element, tag: str) -> _xml.Element:
    """Return a child of ``<domain>``, made and placed if it is missing."""
    found = root.find(tag)
    if found is None:
        found = _xml.new(tag)
        place(root, found)
    return found


def drop_if_empty(parent: _xml.Element) -> None:
    """Remove an element that has neither children nor text, with its attributes."""
    if len(parent) == 0 and not (parent.text or "").strip():
        _xml.remove(parent)
