# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What matters of a VM when it is shut down and started: its guest agent, and the note that it is to start again.

The note is stored with the VM's definition in libvirt's domain metadata, in a namespace of its own: unlike a policy it
says what a maintenance has done, and goes when that is over.
"""

from __future__ import annotations

import re
from typing import Optional

from .. import _xml
from .._errors import FleetError

SHUTDOWN_URI = "urn:virtops:kvm_fleet:shutdown"
SHUTDOWN_KEY = "kvm_fleet_shutdown"
VERSION = "1"

_AGENT = "devices/channel/target[@type='virtio'][@name='org.qemu.guest_agent.0']"

# What XML does not keep as it is, at the ends or at all.
_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def check_maintenance(option: str, maintenance: str) -> None:
    """Raise ``bad_input`` if a maintenance cannot be stored under this name."""
    if not maintenance or maintenance != maintenance.strip() or _REFUSED.search(maintenance):
        raise FleetError(
            f"{option} has the name {maintenance!r}, but the name of a maintenance is not empty and has no control"
            " characters and no spaces at its ends. Give the id of the maintenance.",
            "bad_input",
            option=option,
        )


def shutdown_to_xml(maintenance: str) -> str:
    """Return the element for ``virDomainSetMetadata`` with ``SHUTDOWN_KEY`` and ``SHUTDOWN_URI``."""
    return _xml.serialise(_xml.new("shutdown", version=VERSION, maintenance=maintenance))


def shutdown_from_xml(text: str, vm: str) -> str:
    """Return for which maintenance a VM was shut down, from its element as ``virDomainGetMetadata`` gives it.

    Raises ``FleetError``: ``note_version`` when a newer release wrote it, ``bad_note`` or ``bad_xml`` where broken.
    """
    element = _xml.parse(text)
    version, maintenance = element.get("version"), element.get("maintenance")
    if version != VERSION:
        raise FleetError(
            f"The note that VM {vm} was shut down has version {version}, but this release knows version {VERSION} only."
            " Upgrade virtops.kvm_fleet on the controller.",
            "note_version",
            vm=vm,
            version=version,
        )
    if not maintenance:
        raise FleetError(
            f"The note that VM {vm} was shut down names no maintenance. Look at it with virsh metadata {vm}"
            f" {SHUTDOWN_URI} --config, start the VM if it is to run, and remove the note with --remove.",
            "bad_note",
            vm=vm,
        )
    return str(maintenance)


def agent_is_connected(xml: str) -> Optional[bool]:
    """Return whether a guest agent is connected to a running VM (live XML); ``None`` if it has no channel for one."""
    target = _xml.parse_as(xml, "domain").find(_AGENT)
    return None if target is None else target.get("state") == "connected"
