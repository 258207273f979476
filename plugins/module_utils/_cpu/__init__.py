# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""CPU descriptions of hosts and guests as values."""

from __future__ import annotations

from ._capabilities import ON_REQUEST, CpuModel, DomainCapabilities, from_domain_capabilities, host_cpu_xml
from ._compare import CpuDifference, difference, missing, required, same_cpu
from ._describe import (
    AddressBits,
    CpuDescription,
    CpuTopology,
    Feature,
    Signature,
    TscCounter,
    cpu_from_element,
    parse_cpu,
)
from ._host_mask import HIDEABLE, hideable
from ._limits import Limit, by_host_data, gain_without, limits, limits_data, masked
from ._nested import NESTED, is_nested
from ._options import CpuOptions
from ._pool import PoolCpu
from ._preset import Preset
from ._presets import PRESETS, basic_preset, default_pools, is_default_name, strongest, tiers
from ._warnings import cpu_warnings
from ._xsave import XsaveDifference, components_of, layout_differences

__all__ = [
    "HIDEABLE",
    "NESTED",
    "ON_REQUEST",
    "PRESETS",
    "AddressBits",
    "CpuDescription",
    "CpuDifference",
    "CpuModel",
    "CpuOptions",
    "CpuTopology",
    "DomainCapabilities",
    "Feature",
    "Limit",
    "PoolCpu",
    "Preset",
    "Signature",
    "TscCounter",
    "XsaveDifference",
    "basic_preset",
    "by_host_data",
    "components_of",
    "cpu_from_element",
    "cpu_warnings",
    "default_pools",
    "difference",
    "from_domain_capabilities",
    "gain_without",
    "hideable",
    "host_cpu_xml",
    "is_default_name",
    "is_nested",
    "layout_differences",
    "limits",
    "limits_data",
    "masked",
    "missing",
    "parse_cpu",
    "required",
    "same_cpu",
    "strongest",
    "tiers",
]
