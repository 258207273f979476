# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What the hypervisor says about CPUs: its own model, expansion, baseline and comparison.

The arithmetic is libvirt's (``virConnectBaselineHypervisorCPU``, ``virConnectCompareHypervisorCPU``), which must run on
a host whose CPU is one of the input: it intersects with what that hypervisor offers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Callable, Collection, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from .._cpu import ON_REQUEST, CpuDescription, from_domain_capabilities, parse_cpu, required
from .._errors import FleetError
from .._xml import find_text, new, parse_as, remove, serialise
from .api import fleet_error, libvirt, translated

# REMOTE_CPU_BASELINE_MAX in libvirt's src/remote/remote_protocol.x.
MAX_CPUS_PER_CALL = 256

# Modes that name no CPU: libvirt calls every host a superset of them (seen with 11.3).
_WITHOUT_MODEL = ("host-model", "host-passthrough", "maximum")


@dataclass(frozen=True)
class Comparison:
    """How a hypervisor relates to a CPU: ``identical``, ``superset`` or ``incompatible`` with the features it lacks."""

    result: str
    missing: Tuple[str, ...] = ()
    reason: Optional[str] = None


def domain_capabilities(conn: Any) -> str:
    """Return the domain capabilities XML of the hypervisor's default emulator, machine and virtualisation type."""
    with translated("Reading the domain capabilities"):
        return str(conn.getDomainCapabilities(None, None, None, None, 0))


def own_cpu_xml(conn: Any) -> Optional[str]:
    """Return the largest CPU that this hypervisor can give to a guest (its host-model), if it has one."""
    return from_domain_capabilities(domain_capabilities(conn)).host_model_xml


def expand(conn: Any, cpu_xml: str) -> FrozenSet[str]:
    """Return the whole set of features that a guest started with this CPU now has on this host.

    Features of the model that the host lacks are left out; those that the CPU lists are not (seen with 11.3).
    """
    flags = libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES
    with translated("Expanding a CPU into its features"):
        return required(parse_cpu(conn.baselineHypervisorCPU(None, None, None, None, [cpu_xml], flags)))


def expand_foreign(conn: Any, cpu_xml: str) -> FrozenSet[str]:
    """Return the whole set of features of a CPU that may be another host's, ``require`` added, ``disable`` taken away.

    Only the model is expanded, with ``virConnectBaselineCPU``, which knows the models and not the host. For all 150
    models of libvirt 11.3 what it says, cut to this host's features, is what ``expand`` says. Features that this
    libvirt does not know count by their names. Raises ``bad_cpu``: a model that it does not know, or none.
    """
    described = parse_cpu(cpu_xml)
    model = require_model(described)
    flags = libvirt.VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES
    with translated(f"Expanding CPU model {model} into its features", "bad_cpu", model=model):
        features = required(parse_cpu(conn.baselineCPU([_host_cpu(conn, model, ())], flags)))
    without = {feature.name for feature in described.features if feature.policy in ("disable", "forbid")}
    return (features | required(described)) - without


def emulated_bits(cpu: CpuDescription) -> Optional[int]:
    """Return the width of physical addresses that a guest's CPU states, not one that it has from its host."""
    return cpu.address.bits if cpu.address is not None and cpu.address.mode == "emulate" else None


class Expander:
    """Expands CPUs of many VMs and asks libvirt once for each different one.

    As ``expand_foreign`` does: a VM may run with features that its host has lost since.
    """

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self._known: Dict[str, FrozenSet[str]] = {}

    def features(self, cpu_xml: str) -> FrozenSet[str]:
        """Return the features of ``cpu_xml``."""
        if cpu_xml not in self._known:
            self._known[cpu_xml] = expand_foreign(self._conn, cpu_xml)
        return self._known[cpu_xml]


def baseline(conn: Any, cpus: Sequence[str], migratable: bool = True, hosts: Sequence[str] = ()) -> str:
    """Return the largest CPU that all ``cpus`` have, as libvirt computes it on this member of the pool.

    Any number of CPUs may be given; ``hosts`` are the names for them in errors, in the same order. Raises ``bad_xml``,
    or ``no_baseline`` in libvirt's words with the hosts that brought a model or feature that it does not know.
    """
    if not cpus:
        raise FleetError("No CPU was given to compute a baseline of; pass those of the pool's hosts.", "bad_input")
    names = list(hosts) or [f"CPU {number}" for number in range(1, len(cpus) + 1)]
    for name, cpu_xml in zip(names, cpus):
        _require_cpu_xml(name, cpu_xml)
    flags = libvirt.VIR_CONNECT_BASELINE_CPU_MIGRATABLE if migratable else 0

    def call(chunk: List[str]) -> str:
        return str(conn.baselineHypervisorCPU(None, None, None, None, chunk, flags))

    try:
        return folded(call, cpus, MAX_CPUS_PER_CALL)
    except libvirt.libvirtError as error:
        doing = "Computing the CPU baseline"
        unknown = last_word(error)
        bringing = [name for name, cpu_xml in zip(names, cpus) if unknown in _words_of(cpu_xml)]
        if not bringing:
            raise fleet_error(error, doing, "no_baseline") from error
        found = fleet_error(error, doing, "no_baseline", unknown=unknown, hosts=bringing)
        advice = f"{found.msg} (from {', '.join(bringing)}). Compute it on the member with the newest libvirt."
        raise FleetError(advice, found.code, **found.facts) from error


def folded(call: Callable[[List[str]], str], cpus: Sequence[str], limit: int) -> str:
    """Return ``call`` of all different ``cpus``, with at most ``limit`` of them at once: a baseline of baselines."""
    level = sorted(set(cpus))
    while len(level) > limit:
        level = sorted({call(level[start : start + limit]) for start in range(0, len(level), limit)})
    return call(level)


def compare(conn: Any, cpu_xml: str) -> Comparison:
    """Compare a CPU with what this hypervisor can give a guest; ``bad_cpu`` for one that names no known model.

    libvirt (seen with 11.3) takes every model that QEMU calls usable, with no feature to require, without a look at the
    vendor or at features to disable. So the vendor is compared here; ``unknown_names`` finds unknown features. It also
    does not know that QEMU gives features which its host-model lacks (``on_request``), so it is asked again without.
    """
    # libvirt itself would read what an external entity names.
    parse_as(cpu_xml, "cpu")
    described = parse_cpu(cpu_xml)
    require_model(described)
    try:
        number = conn.compareHypervisorCPU(
            None, None, None, None, cpu_xml, libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_CPU_INCOMPATIBLE:
            raise fleet_error(error, "Comparing a CPU with this hypervisor", "bad_cpu") from error
        reason = error.get_error_message()
        lacks = missing_in_message(reason)
        given = _given_on_request(conn, lacks)
        if given:
            return compare(conn, _disabling(cpu_xml, given))
        return Comparison("incompatible", lacks, reason)
    if number == libvirt.VIR_CPU_COMPARE_INCOMPATIBLE:
        return Comparison("incompatible")
    own = own_cpu_xml(conn)
    vendor = parse_cpu(own).vendor if own else None
    if vendor and described.vendor and vendor != described.vendor:
        reason = f"host CPU vendor does not match required CPU vendor {described.vendor}"
        return Comparison("incompatible", reason=reason)
    return Comparison("identical" if number == libvirt.VIR_CPU_COMPARE_IDENTICAL else "superset")


@dataclass(frozen=True)
class Unknown:
    """Names that a libvirt does not know, with its words for each; an unknown model is named last."""

    model: Optional[str] = None
    features: Tuple[str, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)


def unknown_names(conn: Any, model: str, features: Sequence[str]) -> Unknown:
    """Return which of a model and its features, all different, this libvirt does not know.

    It names one at a time, so it is asked once more for each. With an unknown model the features are not looked at.
    """
    left = list(features)
    reasons: Dict[str, str] = {}
    while True:
        try:
            conn.baselineCPU([_host_cpu(conn, model, left)], 0)
            return Unknown(None, tuple(sorted(reasons)), reasons)
        except libvirt.libvirtError as error:
            name = last_word(error)
            if name not in (*left, model):
                raise fleet_error(error, f"Looking up the features of CPU model {model}", "bad_cpu") from error
            reasons[name] = error.get_error_message()
            if name not in left:
                return Unknown(model, tuple(sorted(set(reasons) - {model})), reasons)
            left.remove(name)


def _given_on_request(conn: Any, features: Sequence[str]) -> FrozenSet[str]:
    if not ON_REQUEST.intersection(features):
        # The capabilities are long, and most hosts that are asked lack something else.
        return frozenset()
    return from_domain_capabilities(domain_capabilities(conn)).on_request.intersection(features)


def without_features(cpu_xml: str, features: Collection[str]) -> str:
    """Return a CPU without the elements of these features; its model may have them nevertheless."""
    if not features:
        return cpu_xml
    cpu = parse_as(cpu_xml, "cpu")
    for feature in cpu.findall("feature"):
        if feature.get("name") in features:
            remove(feature)
    return serialise(cpu)


def _disabling(cpu_xml: str, features: Collection[str]) -> str:
    """Return a CPU that a host which lacks these features can have as well."""
    cpu = parse_as(without_features(cpu_xml, features), "cpu")
    cpu.extend(new("feature", policy="disable", name=name) for name in sorted(features))
    return serialise(cpu)


def missing_in_message(message: str) -> Tuple[str, ...]:
    """Return the features that libvirt's text for VIR_ERR_CPU_INCOMPATIBLE lists, sorted."""
    found = re.search(r"(?:required features|missing features): ([\w.,\- ]+)", message)
    if not found:
        return ()
    return tuple(sorted(name for name in re.split(r"[,\s]+", found.group(1)) if name))


def last_word(error: Exception) -> str:
    """Return the last word of libvirt's message: in every language it ends with the name that is not known."""
    words = (getattr(error, "get_error_message", lambda: None)() or str(error)).split()
    return words[-1] if words else ""


def require_model(described: CpuDescription) -> str:
    """Return the model of a CPU, or raise ``bad_cpu`` where every host makes another CPU of it."""
    if described.model is not None and described.mode not in _WITHOUT_MODEL:
        return described.model
    what = f"mode {described.mode}" if described.mode in _WITHOUT_MODEL else "no model"
    raise FleetError(
        f"A CPU with {what} cannot be compared: it is another one on every host. "
        "Give a CPU that names its model, such as that of a baseline or of a running VM.",
        "bad_cpu",
        mode=described.mode,
    )


def _host_cpu(conn: Any, model: str, features: Sequence[str]) -> str:
    """Return a CPU as ``virConnectBaselineCPU`` wants it: with the architecture and without policies."""
    with translated("Reading the architecture of the host"):
        # virNodeInfo.model is the name of the architecture.
        arch = str(conn.getInfo()[0])
    cpu = new("cpu")
    cpu.append(new("arch", arch))
    cpu.append(new("model", model))
    cpu.extend(new("feature", name=name) for name in features)
    return serialise(cpu)


def _words_of(cpu_xml: str) -> FrozenSet[Optional[str]]:
    described = parse_cpu(cpu_xml)
    return frozenset({described.model, described.vendor, *(feature.name for feature in described.features)})


def _require_cpu_xml(name: str, cpu_xml: str) -> None:
    try:
        cpu = parse_as(cpu_xml, "cpu")
    except FleetError as error:
        raise FleetError(f"{name}: {error.msg}", error.code, **{**error.facts, "host": name}) from error
    if find_text(cpu, "model") is None:
        raise FleetError(
            f"{name} names no CPU model, so there is no baseline with it. Pass what host_info returns as cpu_xml.",
            "bad_cpu",
            host=name,
        )
