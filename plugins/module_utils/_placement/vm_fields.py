# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""A VM of a snapshot: JSON in, a value out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, FrozenSet, Mapping, Optional, TypeVar

from .._domain import (
    GROUP_NAME_RULE,
    PLACING,
    Following,
    Pinning,
    PinningPolicy,
    is_group_name,
    is_placing,
    threads_on,
)
from .._errors import FleetError
from .._pin_rules import is_given
from .._pinning import Guest, guest_from_data
from .._topology import format_cpuset
from .fields import Fields, named
from .model import Cpu, Home, Shape, Vm

MIGRATION_MODES = ("automatic", "manual", "pinned")

# What a VM does not have if its definition does not say so.
_ASKED = ("vcpus", "iothreads", "pinning", "huge_pages_kib", "policy")

_T = TypeVar("_T")


def cpu_of(fields: Fields, cpus: Mapping[str, Cpu]) -> Optional[Cpu]:
    cpu_id = fields.text("cpu")
    if cpu_id is None:
        return None
    if cpu_id not in cpus:
        raise fields.wrong("cpu", "the id of an entry in the snapshot's cpus")
    return cpus[cpu_id]


def shape_of(fields: Optional[Fields]) -> Optional[Shape]:
    if fields is None:
        return None
    counts = {key: fields.whole(key) or 1 for key in ("sockets", "dies", "cores", "threads")}
    return Shape(**counts)


def read_vm(item: Fields, cpus: Mapping[str, Cpu], isolation: Mapping[str, FrozenSet[int]]) -> Vm:
    """Return a VM in a snapshot; ``isolation`` has what each host's isolation leaves to VMs, by the host's name."""
    fields = named(item, "vm")
    host = fields.required_text("host")
    if host not in isolation:
        raise fields.wrong("host", "the name of a host in the snapshot")
    live = _vm(fields, host, cpus, isolation[host])
    defined = fields.child("defined")
    if defined is None or not live.active:
        return live
    return _with_definition(live, fields, defined, isolation[host])


def _vm(fields: Fields, host: str, cpus: Mapping[str, Cpu], isolation: FrozenSet[int]) -> Vm:
    vcpus, policy = fields.part("vcpus"), fields.part("policy")
    pinning = _pins(fields, "pinning") or Pinning()
    vm = Vm(
        name=fields.required_text("name"),
        host=host,
        uuid=fields.text("uuid"),
        state=fields.text("state") or "running",
        reason=fields.text("reason"),
        job=fields.text("job"),
        memory_kib=fields.whole("memory_kib", "KiB"),
        overhead_kib=fields.whole("overhead_kib", "KiB") or 0,
        vcpus=vcpus.whole("current"),
        shape=shape_of(vcpus.child("topology")),
        cpu=cpu_of(fields, cpus),
        pinning=pinning,
        stored=_stored(policy),
        following=_following(policy, pinning, isolation),
        huge_pages_kib=fields.whole("huge_pages_kib", "KiB"),
        machine_type=fields.text("machine_type"),
        networks=fields.distinct("networks") or frozenset(),
        storage=fields.distinct("storage") or frozenset(),
        migration=policy.choice("migration", MIGRATION_MODES) or "automatic",
        allowed_hosts=policy.texts("hosts") or (),
        home=_home(policy),
        keep_apart=_groups(policy, "keep_apart"),
        keep_together=_groups(policy, "keep_together"),
        priority=policy.integer("priority") or 0,
        dirty_mib_s=fields.number("dirty_mib_s"),
        blockers=fields.texts("blockers") or (),
    )
    mode = vm.migration if policy.text("migration") else _default_mode(fields, vm.own_pinning)
    return replace(vm, migration=mode, guest=_guest(fields)) if vm.tied or mode != vm.migration else vm


def _with_definition(live: Vm, fields: Fields, defined: Fields, isolation: FrozenSet[int]) -> Vm:
    """Return a running VM with all that it or its definition asks for; of a thread pinned in both, as it runs."""
    data = {key: value for key, value in fields.data.items() if key not in _ASKED}
    stated = Fields({**data, **defined.data}, defined.where, defined.code, defined.path)
    policy, vcpus = stated.part("policy"), stated.part("vcpus")
    pinning = _pins(stated, "pinning") or Pinning()
    first = replace(
        live,
        state="shutoff",
        memory_kib=stated.whole("memory_kib", "KiB"),
        vcpus=vcpus.whole("current"),
        pinning=pinning,
        stored=_stored(policy),
        following=_following(policy, pinning, isolation),
        huge_pages_kib=stated.whole("huge_pages_kib", "KiB"),
        guest=_guest(stated),
    )
    live = replace(live, guest=_guest(fields))
    return replace(
        live,
        stored=first.stored if _strictness(first) > _strictness(live) else live.stored,
        pinning=_both(live, first),
        huge_pages_kib=first.huge_pages_kib,
        guest=_guest_of_both(live, first, stated),
        states=(live, first),
    )


def _strictness(vm: Vm) -> int:
    return PLACING.index(vm.stored.policy) if vm.stored is not None and is_placing(vm.stored) else -1


def _both(live: Vm, first: Vm) -> Pinning:
    have, more = live.pinning, first.own_pinning
    own = live.own_pinning
    vcpus, iothreads = {pin.vcpu for pin in own.vcpus}, {pin.iothread for pin in own.iothreads}
    return replace(
        have,
        vcpus=(*own.vcpus, *(pin for pin in more.vcpus if pin.vcpu not in vcpus)),
        iothreads=(*own.iothreads, *(pin for pin in more.iothreads if pin.iothread not in iothreads)),
        emulator=own.emulator or more.emulator,
        memory=own.memory or more.memory,
        cells=own.cells or more.cells,
    )


def _guest_of_both(live: Vm, first: Vm, stated: Fields) -> Optional[Guest]:
    """Return every thread that a VM has in one of its states, with the cells and pages of its definition."""
    if live.guest is None or first.guest is None:
        return None
    vcpus = {
        **stated.data["vcpus"],
        "online": format_cpuset({*live.guest.vcpus, *first.guest.vcpus}),
        "maximum": max(live.guest.maximum, first.guest.maximum),
    }
    iothreads = sorted({*live.guest.iothreads, *first.guest.iothreads})
    both = {**stated.data, "vcpus": vcpus, "iothreads": iothreads}
    return _guest(Fields(both, stated.where, stated.code, stated.path))


def _stored(policy: Fields) -> Optional[PinningPolicy]:
    return _parsed(policy, "pinning", PinningPolicy.from_dict)


def _following(policy: Fields, pinning: Pinning, isolation: FrozenSet[int]) -> Optional[Following]:
    """Return the record of pins that follow the host; a set that the host's isolation leaves to VMs is none's own."""
    recorded = _parsed(policy, "following", Following.from_dict)
    if recorded is not None:
        return recorded
    cpus = pinning.cpuset
    given = is_given(cpus, isolation) and not is_placing(_stored(policy))
    return Following(cpus, None, threads_on(pinning, cpus)) if cpus and given else None


def _guest(fields: Fields) -> Optional[Guest]:
    """Return what a VM asks for, or ``None`` where not all of that is known."""
    if not _is_described(fields):
        return None
    try:
        guest = guest_from_data(fields.data)
    except FleetError as error:
        message = f"{fields.path} ({fields.where}): {error.msg}"
        raise FleetError(message, code=fields.code, object=fields.where, path=fields.path) from error
    if guest.huge_pages_kib is not None:
        return guest
    # The kernel takes what QEMU needs for itself from the same cells, and in base pages.
    first, *others = guest.cells
    own = replace(first, memory_kib=first.memory_kib + (fields.whole("overhead_kib", "KiB") or 0))
    return replace(guest, cells=(own, *others))


def _is_described(fields: Fields) -> bool:
    """Whether vCPUs and cells are known; everything that is read of them is looked at, so that an error names it."""
    vcpus = fields.part("vcpus")
    shape_of(vcpus.child("topology"))
    vcpus.whole("maximum")
    vcpus.cpuset("online")
    fields.wholes("iothreads")
    cells = [
        (cell.whole("id"), cell.cpuset("vcpus"), cell.whole("memory_kib", "KiB"))
        for cell in fields.part("pinning").children("cells")
    ]
    return bool(vcpus.whole("current")) and not any(None in cell for cell in cells)


def _default_mode(fields: Fields, pinning: Pinning) -> str:
    """Return the mode of a VM that stores none: as in oVirt, what could lose performance moves only on request."""
    pinned = bool(pinning.vcpus or pinning.memory or pinning.cells)
    return "manual" if pinned or fields.text("cpu_mode") == "host-passthrough" else "automatic"


def _home(policy: Fields) -> Optional[Home]:
    home = policy.data.get("home")
    if home is None:
        return None
    if isinstance(home, str):
        # A hand-written snapshot names the host; names and UUIDs cannot be mixed up, so both are tried.
        return Home(name=home) if home else None
    fields = policy.child("home")
    if fields is None:
        return None
    return Home(fields.text("uuid"), fields.text("name"), _pins(fields, "pins"))


def _groups(policy: Fields, key: str) -> FrozenSet[str]:
    names = policy.distinct(key) or frozenset()
    if not all(map(is_group_name, names)):
        raise policy.wrong(key, f"a list of names that are {GROUP_NAME_RULE}")
    return names


def _pins(fields: Fields, key: str) -> Optional[Pinning]:
    pins = fields.child(key)
    if pins is None:
        return None
    # Their parser takes these words as they are.
    pins.text("policy")
    for bound in (pins.child("memory"), *pins.children("cells")):
        if bound is not None:
            bound.text("mode")
    return _parsed(fields, key, Pinning.from_dict)


def _parsed(fields: Fields, key: str, read: Callable[[Mapping[str, Any]], _T]) -> Optional[_T]:
    """Return what another parser makes of the mapping in a field; it knows neither the field nor the VM."""
    value = fields.child(key)
    if value is None:
        return None
    try:
        return read(value.data)
    except FleetError as error:
        raise fields.refused(key, error.msg) from error
    except (AttributeError, TypeError, ValueError) as error:
        raise fields.refused(key, f"cannot be read: {type(error).__name__}: {error}.") from error
