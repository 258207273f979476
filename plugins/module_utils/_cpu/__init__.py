# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""CPU descriptions of hosts and guests as values."""

from __future__ import annotations

from ._capabilities import CpuModel, DomainCapabilities, from_domain_capabilities, host_cpu_xml
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
from ._pool import pool_cpu

__all__ = [
    "AddressBits",
    "CpuDescription",
    "CpuDifference",
    "CpuModel",
    "CpuTopology",
    "DomainCapabilities",
    "Feature",
    "Signature",
    "TscCounter",
    "cpu_from_element",
    "difference",
    "from_domain_capabilities",
    "host_cpu_xml",
    "missing",
    "parse_cpu",
    "pool_cpu",
    "required",
    "same_cpu",
]
