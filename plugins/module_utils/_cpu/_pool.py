# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The guest CPU of a pool, from libvirt's baseline."""

from __future__ import annotations

from copy import deepcopy

from .. import _xml
from .._errors import FleetError
from ._describe import cpu_from_element


def pool_cpu(baseline_xml: str) -> str:
    """Return the ``<cpu>`` that member VMs get, from the result of a baseline call.

    It is ``custom``, ``match='exact'``, and has ``check='partial'`` written out, because with TCG libvirt's default is
    ``none``, which drops missing features silently. Features are ``require`` or ``disable``, sorted; the vendor and the
    address width are kept. Raises ``FleetError``: ``cpu_policy`` for other feature policies (QEMU drops ``force`` and
    ``optional`` silently, ``forbid`` shuts out better hosts), ``no_cpu`` without a model, ``bad_xml``.
    """
    baseline = _xml.parse_as(baseline_xml, "cpu")
    described = cpu_from_element(baseline)
    if described.model is None:
        raise FleetError(
            "The baseline names no CPU model, so it cannot become a pool CPU. Take the baseline of at least one host.",
            code="no_cpu",
        )
    _refuse_policies(baseline)
    cpu = _xml.new("cpu", mode="custom", match="exact", check="partial")
    cpu.append(_xml.new("model", described.model, fallback="forbid", vendor_id=described.vendor_id))
    if described.vendor is not None:
        cpu.append(_xml.new("vendor", described.vendor))
    address = baseline.find("maxphysaddr")
    if address is not None and address.get("mode") is not None:
        cpu.append(_bare(address))
    for feature in sorted(described.features, key=lambda feature: feature.name):
        cpu.append(_xml.new("feature", policy=feature.policy or "require", name=feature.name))
    return _xml.serialise(_xml.indented(cpu))


def _refuse_policies(cpu: _xml.Element) -> None:
    for feature in cpu.findall("feature"):
        policy = feature.get("policy", "require")
        if policy not in ("require", "disable"):
            name = feature.get("name", "")
            raise FleetError(
                f"Feature {name} has policy '{policy}', which a pool CPU must not have: every member has to give the "
                "guest exactly the same. Use 'require' or 'disable'.",
                code="cpu_policy",
                feature=name,
                policy=policy,
            )


def _bare(element: _xml.Element) -> _xml.Element:
    copy = deepcopy(element)
    copy.tail = None
    return copy
