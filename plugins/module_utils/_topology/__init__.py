# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Sets of CPUs, the host's sockets, cores and NUMA cells, and which CPUs are isolated, as values."""

from __future__ import annotations

from ._cells import Cell, PageSize, cells_from_data, distances_between
from ._cpuset import MAX_CPUS, canonical_cpuset, format_cpuset, parse_cpuset
from ._host import HostTopology, from_capabilities
from ._isolation import Isolation, IsolationRequest, isolate

__all__ = [
    "MAX_CPUS",
    "Cell",
    "HostTopology",
    "Isolation",
    "IsolationRequest",
    "PageSize",
    "canonical_cpuset",
    "cells_from_data",
    "distances_between",
    "format_cpuset",
    "from_capabilities",
    "isolate",
    "parse_cpuset",
]
