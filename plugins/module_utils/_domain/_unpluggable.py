# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Which of the vCPUs that a VM starts with can be unplugged later."""

from __future__ import annotations

from typing import Dict

from .. import _xml
from ._layout import child
from ._parse import parse_domain


def with_unpluggable(xml: str, unpluggable: bool) -> str:
    """Return a definition whose vCPUs beyond the first core can be unplugged later, or only those plugged later.

    The first vCPU of a VM is never unplugged, and so the threads beside it are not either. libvirt takes a vCPU that it
    starts a VM with for fixed unless it is listed otherwise. Raises ``bad_xml``.
    """
    root, vcpus = _xml.parse_as(xml, "domain"), parse_domain(xml).vcpus
    wanted = [_line(number, number in vcpus.online, number >= vcpus.threads) for number in range(vcpus.maximum)]
    each = root.find("vcpus")
    if not unpluggable:
        if each is None:
            return xml
        _xml.remove(each)
        return _xml.serialise(root)
    found = [] if each is None else [{**vcpu.attrib} for vcpu in each.findall("vcpu")]
    if [{key: value for key, value in vcpu.items() if key != "order"} for vcpu in found] == wanted:
        return xml
    if each is None:
        vcpu = child(root, "vcpu")
        each = _xml.new("vcpus")
        _xml.insert(root, root.index(vcpu) + 1, each)
    for old in each.findall("vcpu"):
        _xml.remove(old)
    for number, attributes in enumerate(wanted):
        _xml.insert(each, number, _xml.new("vcpu", None, **attributes))
    return _xml.serialise(root)


def _line(number: int, enabled: bool, unpluggable: bool) -> Dict[str, str]:
    return {
        "id": str(number),
        "enabled": "yes" if enabled else "no",
        "hotpluggable": "yes" if unpluggable or not enabled else "no",
    }
