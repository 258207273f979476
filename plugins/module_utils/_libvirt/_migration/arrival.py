# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What a VM must have at its destination, put right and read back: definition, autostart, pins, one definition."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, FrozenSet, List, Optional

from ..._domain import PLACING, Domain, Home, Pinning, Policy, parse_domain
from ..._errors import FleetError
from ..._host.cpus import read_cpus
from ..._host.machine import read_machine
from ..._pin_rules import HostCpus, fitted, is_given, policy_of
from ..._topology import parse_cpuset
from ..api import libvirt, translated
from ..domains import define, definition, live_xml, read_policy, states_of, write_policy
from .sides import Sides


@dataclass(frozen=True)
class Departure:
    """What the source knew about a VM before it left: the definition (``None`` for a transient VM) and autostart."""

    definition: Optional[str]
    autostart: bool


def depart(domain: Any, host_uuid: str, host: str, record_home: bool) -> Departure:
    """Read what would be lost with the source and store the home with the VM, so that it travels."""
    persistent = bool(domain.isPersistent())
    autostart = persistent and bool(domain.autostart())
    if record_home:
        pins = pins_at_home(parse_domain(live_xml(domain)), _isolation())
        _record_home(domain, Home(host_uuid, host, autostart, pins))
    return Departure(definition(domain) if persistent else None, autostart)


def pins_at_home(live: Domain, isolation: FrozenSet[int]) -> Pinning:
    """Return the pins to be had when the VM comes back, without a ``cpuset`` that follows from the host.

    ``isolation`` are the CPUs that the host's isolation leaves to VMs, empty if it isolates none.
    """
    pins, following = live.own_pinning, live.policy.following if live.policy else None
    if policy_of(live).policy in PLACING:
        return replace(pins, cpuset=following.limit if following else None)
    given = following is None and is_given(pins.cpuset, isolation)
    return replace(pins, cpuset=None) if given else pins


def _isolation() -> FrozenSet[int]:
    kernel, machine = read_cpus(), read_machine().machine_cpus
    allowed = None if machine is None else parse_cpuset(machine)
    return HostCpus(kernel.isolated, machine=allowed).left(kernel.online)


def _record_home(domain: Any, here: Home) -> None:
    home = read_policy(domain).home
    if home is not None and home.uuid != here.uuid:
        return
    # A VM leaving its home takes along how it was there; elsewhere it keeps the home it has.
    for state in states_of(domain):
        # The pins of live state and definition may differ, and with them their records.
        policy = read_policy(domain, state)
        if policy.home != here:
            write_policy(domain, replace(policy, home=here), state)


def arrive(sides: Sides, departure: Optional[Departure]) -> List[str]:
    """Complete an arrived VM and return what had to be mended.

    ``departure`` is ``None`` if an earlier run began the move.
    """
    domain = sides.destination_domain()
    if domain is None:
        raise FleetError(f"VM {sides.move.vm} vanished from {sides.move.destination} after it arrived.", "vm_unknown")
    left_behind = sides.source_domain()
    mended = []
    if _persist(sides, domain, departure, left_behind):
        mended.append("definition")
    if _follow(sides, domain):
        mended.append("following")
    if _autostart(sides, domain, departure):
        mended.append("autostart")
    if _release(sides, left_behind):
        mended.append("source_definition")
    _check_pins(sides, domain)
    return mended


def is_unfinished(sides: Sides) -> bool:
    """Tell whether ``arrive`` would have something to mend after a move that an earlier run began."""
    domain = sides.destination_domain()
    home = read_policy(domain).home if domain is not None else None
    lacks_autostart = bool(home and home.autostart) and domain.isPersistent() and not domain.autostart()
    return lacks_autostart or _is_inactive(sides.source_domain())


def _persist(sides: Sides, domain: Any, departure: Optional[Departure], left_behind: Any) -> bool:
    xml = departure.definition if departure else (definition(left_behind) if _is_inactive(left_behind) else None)
    if xml is None or domain.isPersistent():
        return False
    define(sides.destination(), sides.move.with_pins(xml), sides.move.vm)
    return True


def _follow(sides: Sides, domain: Any) -> bool:
    """Record which pins are not the VM's own wherever the migration has left another record."""
    differing = []
    for state, parsed in _states(domain).items() if sides.move.pins is not None else ():
        policy, following = parsed.policy or Policy(), sides.move.following_of(parsed)
        if policy.following != following:
            write_policy(domain, replace(policy, following=following), state)
            differing.append(state)
    return bool(differing)


def _autostart(sides: Sides, domain: Any, departure: Optional[Departure]) -> bool:
    home = read_policy(domain).home
    wanted = departure.autostart if departure else bool(home and home.autostart)
    if not wanted or not domain.isPersistent() or domain.autostart():
        return False
    with translated(f"Setting autostart of VM {sides.move.vm} on {sides.move.destination}"):
        domain.setAutostart(1)
    return True


def _release(sides: Sides, left_behind: Any) -> bool:
    # A definition left on the source would start a second VM at the next boot or by hand.
    if not _is_inactive(left_behind):
        return False
    _undefine(left_behind, sides.move.vm, "the source")
    return True


def clear(sides: Sides) -> bool:
    """Remove the definition that a migration left at the destination of a VM that runs on its source."""
    left_behind = sides.destination_domain()
    if not _is_inactive(left_behind):
        return False
    _undefine(left_behind, sides.move.vm, sides.move.destination)
    return True


def _undefine(domain: Any, vm: str, host: str) -> None:
    keep = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | getattr(libvirt, "VIR_DOMAIN_UNDEFINE_KEEP_TPM", 0)
    with translated(f"Removing the definition of VM {vm} that the migration left on {host}"):
        domain.undefineFlags(keep)


def _is_inactive(domain: Any) -> bool:
    return domain is not None and not domain.isActive()


def _check_pins(sides: Sides, domain: Any) -> None:
    wanted = sides.move.pins
    if wanted is None:
        return
    names = {libvirt.VIR_DOMAIN_AFFECT_LIVE: "live", libvirt.VIR_DOMAIN_AFFECT_CONFIG: "persistent"}
    differing = {
        names[state]: found.pinning.as_dict()
        for state, found in _states(domain).items()
        if not arrived_with(wanted, found)
    }
    if differing:
        raise FleetError(
            f"VM {sides.move.vm} arrived on {sides.move.destination}, but not with the pins it should have there "
            f"({', '.join(differing)}); run vm_pinning there, or set them with virsh.",
            "pins_differ",
            wanted_pins=wanted.as_dict(),
            found_pins=differing,
        )


def _states(domain: Any) -> Dict[int, Domain]:
    """Return what a VM has of live state and definition, by the flag for each."""
    read = {libvirt.VIR_DOMAIN_AFFECT_LIVE: live_xml, libvirt.VIR_DOMAIN_AFFECT_CONFIG: definition}
    return {state: parse_domain(read[state](domain)) for state in states_of(domain)}


def arrived_with(wanted: Pinning, found: Domain) -> bool:
    """Whether a state of a VM has the pins of a move, as far as it has their threads and cells."""
    # Who chose the pins is not in the XML.
    return replace(fitted(found, wanted), policy=found.pinning.policy) == found.pinning
