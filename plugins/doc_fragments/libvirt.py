# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """The connection to the hypervisor; fits C(_argspec.LIBVIRT)."""

    DOCUMENTATION = r"""
options:
  uri:
    description:
      - The libvirt connection URI, as seen from the host on which the module runs.
    type: str
    default: qemu:///system
requirements:
  - python3-libvirt on the managed host
  - python3-lxml on the managed host
"""
