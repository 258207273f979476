# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands for the binding libvirt-python, which unit tests do without."""

from __future__ import annotations

from types import SimpleNamespace

INTERNAL_ERROR, NO_DOMAIN = 1, 42


class LibvirtError(Exception):
    def __init__(self, words: str, code: int = INTERNAL_ERROR) -> None:
        super().__init__(words)
        self.code = code

    def get_error_code(self) -> int:
        return self.code

    def get_error_message(self) -> str:
        return str(self)


class Libvirt(SimpleNamespace):
    """The module ``libvirt``: all flags are 0 and all other errors -1, but for what a test tells apart."""

    def __init__(self, **known: object) -> None:
        super().__init__(**{"libvirtError": LibvirtError, "VIR_ERR_NO_DOMAIN": NO_DOMAIN, **known})

    def __getattr__(self, name: str) -> int:
        return -1 if name.startswith("VIR_ERR") else 0
