# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Elements of our own XML namespaces in the metadata of VMs. ``flags`` name the running VM, its definition, or both."""

from __future__ import annotations

from typing import Any, Optional

from .api import is_error, libvirt


def read_element(domain: Any, uri: str, flags: int) -> Optional[str]:
    """Return the XML text of the element of a namespace, ``None`` if there is none."""
    try:
        return str(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, uri, flags))
    except libvirt.libvirtError as error:
        if is_error(error, "VIR_ERR_NO_DOMAIN_METADATA"):
            return None
        raise


def write_element(domain: Any, key: str, uri: str, text: Optional[str], flags: int) -> None:
    """Store the element of a namespace with ``key`` as its prefix, or remove it with ``None``."""
    try:
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, key, uri, flags)
    except libvirt.libvirtError as error:
        if text is not None or not is_error(error, "VIR_ERR_NO_DOMAIN_METADATA"):
            raise
