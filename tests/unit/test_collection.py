# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules about the collection as a whole that no single plugin can keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.tools.sync import ROOT

MODULES = sorted(path for path in (ROOT / "plugins" / "modules").glob("[!_]*.py"))
MODULE_UTILS = sorted(path for path in (ROOT / "plugins" / "module_utils").rglob("*.py") if path.stat().st_size)
PLUGINS = sorted(path for path in (ROOT / "plugins").rglob("*.py") if path.stat().st_size)
ROLES = sorted(path.parent.parent for path in (ROOT / "roles").glob("*/tasks/main.yml"))


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def without(text: str, paths: list[Path]) -> list[str]:
    """Return the files that do not contain the text."""
    return [str(path.relative_to(ROOT)) for path in paths if text not in path.read_text(encoding="utf-8")]


def test_the_action_group_lists_every_module_in_order() -> None:
    assert load(ROOT / "meta" / "runtime.yml")["action_groups"] == {"kvm_fleet": [path.stem for path in MODULES]}


def test_every_module_states_the_shared_attributes() -> None:
    assert without("- virtops.kvm_fleet.attributes", MODULES) == []


def test_every_plugin_names_its_licence() -> None:
    assert without("# SPDX-License-Identifier: GPL-3.0-or-later\n", PLUGINS) == []


def test_what_modules_share_is_marked_private_to_the_collection() -> None:
    assert without("rivate to the virtops.kvm_fleet collection", MODULE_UTILS) == []


def test_what_modules_share_has_a_private_name() -> None:
    base = ROOT / "plugins" / "module_utils"
    assert [path for path in MODULE_UTILS if not path.relative_to(base).parts[0].startswith("_")] == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_role_specifies_its_arguments_with_its_name_as_prefix(role: Path) -> None:
    specs = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    options = [name for spec in specs.values() for name in spec.get("options", {})]
    assert "main" in specs
    assert [name for name in options if name != role.name and not name.startswith(f"{role.name}_")] == []
