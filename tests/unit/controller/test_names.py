# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.virtops.kvm_fleet.plugins.filter.names import FilterModule

split_names = FilterModule().filters()["split_names"]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (None, []),
        ("", []),
        ("hv1", ["hv1"]),
        (" hv2, hv1,,hv2 ", ["hv2", "hv1", "hv2"]),
        ([], []),
        (["hv1", "hv3, hv2", " "], ["hv1", "hv3", "hv2"]),
        (("hv1",), ["hv1"]),
    ],
)
def test_names_are_read_from_lists_and_texts(given: Any, names: list[str]) -> None:
    assert split_names(given) == names


@pytest.mark.parametrize("given", [5, True, {"hv1": 1}, ["hv1", 5], ["hv1", ["hv2"]], ["hv1", None]])
def test_anything_else_is_refused_with_the_value(given: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="split_names") as caught:
        split_names(given)
    assert repr(given) in str(caught.value)
