# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Machine types: what their names say, which ones a host has, and which of them is the newest of its kind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Collection, Dict, List, Mapping, Optional, Tuple

from .. import _xml
from .._errors import FleetError

# Aliases of boards that may be all that a definition says, and pc-1.3 and older, which are i440fx boards.
_BOARDS = {"pc": "pc-i440fx", "q35": "pc-q35", "ubuntu": "pc-i440fx", "ubuntu-q35": "pc-q35"}
# pc-q35-10.0, pc-i440fx-rhel7.6.0, pseries-2.12-sxxm
_VERSIONED = re.compile(r"(?P<board>[a-z][\w-]*?)-(?P<vendor>[a-z]*)(?P<version>\d+(?:\.\d+)+)(?P<variant>-[\w-]+)?")
# Ubuntu names releases of a board, not versions: pc-q35-jammy, pc-i440fx-bionic-hpb, pc-q35-noble-v2.
_NAMED = re.compile(
    r"(?P<board>pc-i440fx|pc-q35|pseries|s390-ccw-virtio|virt)-[a-z]+(?:-v\d+)?(?P<variant>-sxxm|(?:-hpb)?(?:-maxcpus)?)"
)
_CODE_NAMES = "code name"


@dataclass(frozen=True)
class MachineName:
    """What the name of a machine type says.

    VMs stay on their ``board``: another one has other devices at other addresses. ``line`` is who counts the versions
    and which variant it is ("" for QEMU's own): versions of different lines say nothing about each other. Types
    without ``version`` have no order.
    """

    board: str
    line: str = ""
    version: Optional[Tuple[int, ...]] = None

    @property
    def family(self) -> Tuple[str, str]:
        """What the types have in common that can replace each other without a surprise."""
        return self.board, self.line

    @property
    def is_code_name(self) -> bool:
        """Whether a release of a distribution takes the place of the version."""
        return self.line.startswith(_CODE_NAMES)


def parse_machine(name: str) -> MachineName:
    """Return what a name says; one that follows no known scheme is a board of its own."""
    found = _VERSIONED.fullmatch(name)
    if found:
        version = tuple(int(part) for part in found["version"].split("."))
        return MachineName(_board(found["board"]), found["vendor"] + (found["variant"] or ""), version)
    found = _NAMED.fullmatch(name)
    if found:
        return MachineName(_board(found["board"]), _CODE_NAMES + found["variant"])
    return MachineName(_board(name))


def _board(name: str) -> str:
    return _BOARDS.get(name, name)


@dataclass(frozen=True)
class MachineType:
    """A machine type of a host by its canonical name."""

    name: str
    max_vcpus: Optional[int] = None
    deprecated: bool = False


@dataclass(frozen=True)
class MachineTypes:
    """What a host has for one architecture: ``types`` by canonical name, ``aliases`` with what they stand for."""

    types: Mapping[str, MachineType]
    aliases: Mapping[str, str]

    @property
    def names(self) -> List[str]:
        """The canonical names, sorted."""
        return sorted(self.types)

    def resolve(self, name: str) -> Optional[str]:
        """Return the canonical name of a type or an alias; ``None`` if the host has no such type."""
        # A name of its own counts more than an alias, as in QEMU.
        return name if name in self.types else self.aliases.get(name)

    def newest(self, name: str, among: Optional[Collection[str]] = None) -> Optional[str]:
        """Return the newest type of the family of a canonical name that is not deprecated, ``None`` if there is none.

        With ``among`` it is one of these. Of code names the newest is the one that an alias stands for, which is what
        the distribution gives to new VMs.
        """
        wanted = parse_machine(name)
        names = {found: parse_machine(found) for found in self.types if parse_machine(found).family == wanted.family}
        candidates = [
            found
            for found in sorted(names)
            if not self.types[found].deprecated
            and (among is None or found in among)
            and (not wanted.is_code_name or found in self.aliases.values())
        ]
        if wanted.is_code_name and len(candidates) > 1:
            return None
        return max(candidates, key=lambda found: names[found].version or (), default=None)

    def newer(self, name: str, among: Optional[Collection[str]] = None) -> Optional[str]:
        """Return the newest type of the family, ``None`` if there is none that is newer than ``name``."""
        found = self.newest(name, among)
        if found is None or found == name:
            return None
        ours, theirs = parse_machine(name).version, parse_machine(found).version
        return None if ours is not None and theirs is not None and theirs <= ours else found


def machine_types_of(capabilities: str, arch: str) -> MachineTypes:
    """Return what a host's capabilities say of an architecture; nothing for one that it does not emulate."""
    types: Dict[str, MachineType] = {}
    aliases: Dict[str, str] = {}
    for guest in _xml.parse(capabilities).iterfind("guest/arch"):
        for element in guest.iterfind("machine") if guest.get("name") == arch else ():
            name, canonical = (element.text or "").strip(), element.get("canonical")
            found = _described(element, canonical or name)
            if canonical is None:
                types[name] = found
            else:
                aliases[name] = canonical
                # What an alias says of its type does not hide what the type says of itself.
                types.setdefault(canonical, found)
    return MachineTypes(types, aliases)


def _described(element: _xml.Element, name: str) -> MachineType:
    return MachineType(name, _xml.to_int(element.get("maxCpus")), element.get("deprecated") == "yes")


def with_machine(xml: str, machine: str) -> str:
    """Return the domain with another machine type; one that has it already is returned as it is.

    Raises ``FleetError``: ``bad_xml``, and ``machine_board`` for a type of another board.
    """
    root = _xml.parse_as(xml, "domain")
    element = root.find("os/type")
    if element is None:
        raise FleetError("The domain XML has no <os> with a <type>. Give the XML as libvirt prints it.", "bad_xml")
    found = element.get("machine", "")
    if found == machine:
        return xml
    before, after = parse_machine(found).board, parse_machine(machine).board
    if before != after:
        name = _xml.find_text(root, "name") or ""
        raise FleetError(
            f"VM {name} has the machine type {found}, and {machine} is another board: its controllers and addresses do "
            f"not carry over from {before} to {after}. Take a type of {before}, or define the VM anew.",
            "machine_board",
            vm=name,
            board=before,
            wanted_board=after,
        )
    element.set("machine", machine)
    return _xml.serialise(root)
