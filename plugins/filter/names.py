# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names that a playbook takes as a list or, on a command line, as a text with commas."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError


def split_names(names: Any) -> list[str]:
    """Return the names of a text with commas, of a list of such texts, or of nothing (``None``), in their order."""
    texts = [] if names is None else [names] if isinstance(names, str) else names
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise AnsibleFilterError(
            f"split_names needs names as a list of texts or as one text with commas, not {names!r}."
            " Write them as in ['hv1', 'hv2'] or 'hv1,hv2'."
        )
    found = (name.strip() for text in texts for name in text.split(","))
    return [name for name in found if name]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[[Any], Any]]:
        """Return the filters by name."""
        return {"split_names": split_names}
