# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The pins of all VMs of one host: read everything, let ``_pinning`` decide, apply all or nothing, and verify.

Read ``reading``, ``wishes``, ``steps``, ``applying``, ``verifying`` and ``report``, in this order.
"""
