# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What keeps a VM that is off from moving: only its definition travels, what lies on the host's own disks does not."""

from __future__ import annotations

from typing import Callable, Iterator, Optional, Tuple

from .. import _xml
from ._blockers import unshared_disks

_SAVED = ("its memory is saved on this host; start it, or discard that with `virsh managedsave-remove`",)


def offline_blockers(xml: str, shared_path: Callable[[str], bool], saved: bool = False) -> Tuple[str, ...]:
    """Return what of a VM (persistent XML) would stay behind, or nothing.

    ``shared_path`` says of a path whether it is the same file on the destination, ``saved`` whether libvirt has saved
    its memory. libvirt itself looks at no file when it migrates a definition. Raises ``FleetError`` with code
    ``bad_xml``.
    """
    root = _xml.parse_as(xml, "domain")
    return (*(_SAVED if saved else ()), *unshared_disks(root, shared_path), *_state(root, shared_path))


def _state(root: _xml.Element, shared_path: Callable[[str], bool]) -> Iterator[str]:
    nvram = _nvram(root)
    if nvram is not None and not shared_path(nvram):
        yield f"its UEFI variables are on this host ({nvram})"
    for tpm in root.iterfind("devices/tpm/backend[@type='emulator']"):
        source = _xml.find_attribute(tpm, "source", "path")
        if source is None or not shared_path(source):
            yield "the state of its TPM is on this host"


def _nvram(root: _xml.Element) -> Optional[str]:
    nvram = root.find("os/nvram")
    if nvram is None:
        return None
    # Since 8.5 the path may be in a <source>; one on the network is no file of this host.
    return (nvram.text or "").strip() or _xml.find_attribute(nvram, "source", "file")
