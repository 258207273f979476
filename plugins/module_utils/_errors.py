# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The one exception of the collection.

Libraries raise it, and only the edge of a module (``_result.run``) turns it into ``fail_json``.
"""

from __future__ import annotations

from typing import Any


class FleetError(Exception):
    """A failure a person can act on.

    ``msg`` names the object, the cause and the next step. ``code`` is a stable word for programs, returned as
    ``error``. ``facts`` are JSON values that belong to the failure (what was reached, who refused).
    """

    def __init__(self, msg: str, code: str = "failed", **facts: Any) -> None:
        super().__init__(msg)
        self.msg = msg
        self.code = code
        self.facts = facts
