# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.unit.controller_module import run_module
from tests.unit.placement.fleet import fleet, host, vm

FLEET = fleet([host("hv1"), host("hv2")], [vm("db1", "hv1"), vm("web", "hv1")])
DRAIN = {"question": "drain", "hosts": ["hv1"]}


def run(directory: Path, check: bool = False, **options: Any) -> dict[str, Any]:
    return run_module("placement_plan", directory, check, **options)


def write(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def repeated(result: dict[str, Any]) -> Any:
    """What a result repeats of the request; newer ansible-core repeats options only when asked to."""
    return result.get("invocation", {}).get("module_args", {}).get("request")


def test_an_inline_request_gives_the_plan_and_is_not_repeated(tmp_path: Path) -> None:
    result = run(tmp_path, request={**DRAIN, "snapshot": FLEET})
    assert (result["changed"], result["feasible"]) == (False, True)
    counts = {"waves": 1, "steps": 1, "moves": 2, "shutdowns": 0, "unplaced": 0, "skipped": 0, "warnings": 3}
    assert result["counts"] == counts
    assert result["plan"]["question"] == "drain"
    assert repeated(result) is None


def test_a_failure_does_not_repeat_the_request_either(tmp_path: Path) -> None:
    result = run(tmp_path, request={"question": "drain", "hosts": ["hv9"], "snapshot": FLEET})
    assert (result["failed"], result["error"], result["host"]) == (True, "unknown_host", "hv9")
    assert repeated(result) is None


def test_a_plan_that_is_not_possible_is_an_answer(tmp_path: Path) -> None:
    result = run(tmp_path, request={"question": "drain", "hosts": ["hv1", "hv2"], "snapshot": FLEET})
    assert (result.get("failed", False), result["feasible"], result["counts"]["unplaced"]) == (False, False, 2)


def test_the_result_file_is_written_once_and_never_in_check_mode(tmp_path: Path) -> None:
    write(tmp_path / "fleet.json", FLEET)
    write(tmp_path / "request.json", {**DRAIN, "snapshot_path": "fleet.json"})
    options = {"request_path": "request.json", "result_path": "plan.json"}
    target = tmp_path / "plan.json"
    planned = run(tmp_path, check=True, **options)
    assert (planned["changed"], planned["planned"], target.exists()) == (True, True, False)
    done = run(tmp_path, **options)
    assert (done["changed"], "plan" in done, "diff" in done) == (True, False, True)
    assert json.loads(target.read_text(encoding="utf-8"))["feasible"] is True
    assert run(tmp_path, check=True, **options)["changed"] is False
    assert run(tmp_path, **options)["changed"] is False


def test_the_result_file_is_private_even_where_it_was_not(tmp_path: Path) -> None:
    target = write(tmp_path / "plan.json", {})
    target.chmod(0o644)
    run(tmp_path, request={**DRAIN, "snapshot": FLEET}, result_path="plan.json")
    assert target.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.json"]


def test_a_directory_of_parts_is_one_snapshot_and_paths_start_at_the_request_file(tmp_path: Path) -> None:
    parts = tmp_path / "asked" / "parts"
    parts.mkdir(parents=True)
    write(parts / "hv1.json", fleet([host("hv1")], FLEET["vms"]))
    write(parts / "hv2.json", fleet([host("hv2")], []))
    write(tmp_path / "asked" / "request.json", {**DRAIN, "snapshot_path": "parts"})
    assert run(tmp_path, request_path="asked/request.json")["counts"]["moves"] == 2


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for options, error in (
        ({"request_path": "none.json"}, "unreadable"),
        ({"request_path": "broken.json"}, "unreadable"),
        ({"request": {**DRAIN, "snapshot_path": "empty"}}, "unreadable"),
        ({"request": {**DRAIN, "snapshot_path": "broken.json"}}, "unreadable"),
        ({"request": {**DRAIN, "snapshot": FLEET}, "result_path": "no/such/plan.json"}, "unwritable"),
        ({"request": DRAIN}, "bad_request"),
        ({"request": {**DRAIN, "snapshot": FLEET, "snapshot_path": "x"}}, "bad_request"),
    ):
        result = run(tmp_path, **options)
        assert (result.get("failed"), result.get("error")) == (True, error), result
