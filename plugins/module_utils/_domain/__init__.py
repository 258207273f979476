# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Domain XML as a value: what the collection reads from a VM, changes in it and stores with it."""

from __future__ import annotations

from ._addresses import devices_of, differing_addresses, missing_addresses, moved_devices
from ._blockers import UNSHARED, migration_blockers
from ._change import with_cpu, with_pinning, with_policy
from ._devices import Disk
from ._following import Following, own_pins, threads_on
from ._given_pins import given_pins
from ._groups import GROUP_NAME_RULE, is_group_name
from ._machine_type import MachineName, MachineType, MachineTypes, machine_types_of, parse_machine, with_machine
from ._offline import offline_blockers
from ._overhead import overhead_kib
from ._parse import Domain, GuestCell, Vcpus, migration_mode, parse_domain
from ._pinning_policy import PLACING, PinningPolicy, is_placing
from ._pins import AUTO, IothreadPin, MemNode, NumaMemory, Pinning, VcpuPin, same_pins
from ._policy import (
    HOT_UNPLUG,
    METADATA_KEY,
    METADATA_URI,
    MIGRATION_MODES,
    Home,
    Policy,
    policy_from_xml,
    policy_of_domain,
    policy_to_xml,
)
from ._power import (
    SHUTDOWN_KEY,
    SHUTDOWN_URI,
    agent_is_connected,
    check_maintenance,
    shutdown_from_xml,
    shutdown_to_xml,
)
from ._resources import Resources, ResourceWish, Topology, resources_of
from ._resources_xml import resources_text, with_resources
from ._unpluggable import with_unpluggable

__all__ = [
    "AUTO",
    "GROUP_NAME_RULE",
    "HOT_UNPLUG",
    "METADATA_KEY",
    "METADATA_URI",
    "MIGRATION_MODES",
    "PLACING",
    "SHUTDOWN_KEY",
    "SHUTDOWN_URI",
    "UNSHARED",
    "Disk",
    "Domain",
    "Following",
    "GuestCell",
    "Home",
    "IothreadPin",
    "MachineName",
    "MachineType",
    "MachineTypes",
    "MemNode",
    "NumaMemory",
    "Pinning",
    "PinningPolicy",
    "Policy",
    "ResourceWish",
    "Resources",
    "Topology",
    "VcpuPin",
    "Vcpus",
    "agent_is_connected",
    "check_maintenance",
    "devices_of",
    "differing_addresses",
    "given_pins",
    "is_group_name",
    "is_placing",
    "machine_types_of",
    "migration_blockers",
    "migration_mode",
    "missing_addresses",
    "moved_devices",
    "offline_blockers",
    "overhead_kib",
    "own_pins",
    "parse_domain",
    "parse_machine",
    "policy_from_xml",
    "policy_of_domain",
    "policy_to_xml",
    "resources_of",
    "resources_text",
    "same_pins",
    "shutdown_from_xml",
    "shutdown_to_xml",
    "threads_on",
    "with_cpu",
    "with_machine",
    "with_pinning",
    "with_policy",
    "with_resources",
    "with_unpluggable",
]
