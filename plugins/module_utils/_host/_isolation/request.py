# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""The options of ``host_isolation`` as settings for a host."""

from __future__ import annotations

from typing import Any, FrozenSet, Mapping, Optional, Tuple

from ..._errors import FleetError
from ..._topology import HostTopology, Isolation, IsolationRequest, isolate, parse_cpuset
from .._boot import Argument, arguments
from ..cpus import HostCpus
from .settings import KERNEL, TUNED, CpuSettings, Settings, parse_huge_pages, parse_size_kib


def settings_from(params: Mapping[str, Any], topology: HostTopology, cpus: HostCpus) -> Settings:
    """Return the settings that options ask for on a host.

    Raises ``bad_options``, ``bad_cpuset``, ``bad_argument``, and the refusals of ``_topology.isolate``.
    """
    pages, size, masked = params["huge_pages"], params["default_huge_page_size"], params["clearcpuid"]
    if size is not None and pages is None:
        raise FleetError("default_huge_page_size is set together with huge_pages; give both.", "bad_options")
    return Settings(
        cpus=_cpu_settings(params, topology, cpus),
        huge_pages=None if pages is None else parse_huge_pages(pages),
        default_huge_page_kib=None if size is None else parse_size_kib(size),
        clearcpuid=None if masked is None else tuple(masked),
        arguments=tuple((_argument(item), item["state"] == "present") for item in params["kernel_arguments"]),
    )


def _cpu_settings(params: Mapping[str, Any], topology: HostTopology, cpus: HostCpus) -> Optional[CpuSettings]:
    request = IsolationRequest(
        isolated=_cpuset(params["isolated"]),
        housekeeping=_cpuset(params["housekeeping"]),
        housekeeping_cores_per_cell=params["housekeeping_cores_per_cell"],
        keep_siblings=params["keep_siblings"],
        housekeeping_in_each_cell=params["housekeeping_in_each_cell"],
        force=params["force"],
    )
    if (request.isolated, request.housekeeping, request.housekeeping_cores_per_cell) == (None, None, None):
        return None
    isolation = isolate(request, topology, cpus.present, cpus.online)
    return CpuSettings(
        isolation,
        methods=_methods(params["methods"], isolation),
        isolcpus_flags=tuple(params["isolcpus_flags"]),
        nohz_full=params["nohz_full"],
        rcu_nocbs=params["rcu_nocbs"],
        irqaffinity=params["irqaffinity"],
        machine_cpus=_machine_cpus(params["machine_cpus"], isolation),
    )


def _cpuset(text: Optional[str]) -> Optional[FrozenSet[int]]:
    return None if text is None else parse_cpuset(text)


def _methods(names: Any, isolation: Isolation) -> Tuple[str, ...]:
    if not isolation.isolated:
        return ()
    if not names:
        raise FleetError("methods is empty, so nothing would isolate the CPUs; name at least one.", "bad_options")
    if KERNEL in names and TUNED in names:
        raise FleetError("The methods kernel and tuned both write the command line; give one of them.", "bad_options")
    return tuple(names)


def _machine_cpus(text: Optional[str], isolation: Isolation) -> Optional[FrozenSet[int]]:
    if text is None:
        return None
    cpus = parse_cpuset(text)
    if not cpus or cpus - isolation.isolated - isolation.housekeeping:
        raise FleetError(
            f"machine_cpus is {text!r}, which is empty or names CPUs that are not online; name CPUs for the VMs.",
            "bad_options",
        )
    return cpus


def _argument(item: Mapping[str, Any]) -> Argument:
    argument = Argument(item["name"], item["value"])
    # Read back as the kernel would: a name with a blank in it would be two arguments.
    if arguments([argument.text]) != (argument,):
        raise FleetError(
            f"{item['name']!r} with the value {item['value']!r} is not one kernel argument; correct its name or value.",
            "bad_options",
            argument=item["name"],
        )
    return argument
