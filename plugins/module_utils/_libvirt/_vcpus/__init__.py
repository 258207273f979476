# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""vCPUs of running VMs: what a VM and its guest have, and how vCPUs come and go.

Read ``look``, ``standing``, ``plugging`` and ``pins``, in this order.
"""
