# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the planner reads: errors name the object and the field, and the module reads files."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _pool
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pool.reading import load

from tests.unit.controller_module import run_module
from tests.unit.pool.sim import Data, Sim, converge, snapshot, want


def settled() -> Data:
    hosts = [Sim("hv1")]
    converge(hosts, want("hv1:gold"))
    return snapshot(hosts)


def put(data: Data, path: str, value: Any) -> Data:
    """Return a copy with one value replaced; numbers in the path are positions."""
    data = deepcopy(data)
    *steps, last = path.split(".")
    where: Any = data
    for step in steps:
        where = where[int(step) if step.isdigit() else step]
    where[int(last) if last.isdigit() else last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("hosts.0.cpu", "c9", "host hv1: cpu must be the id"),
        ("hosts.0.virt_type", 1, "host hv1: virt_type must be"),
        ("hosts.0.xsave", [[1, 2]], "host hv1: xsave must be a list of"),
        ("hosts.0.versions", "x", "host hv1: versions must be a mapping"),
        ("hosts.0.cpu_presets", "x", "host hv1: cpu_presets must be a list"),
        ("hosts.0.cpu_pool.generation", 0, "host hv1: cpu_pool: generation must be"),
        ("hosts.0.cpu_pool.members", [{"name": "hv1"}], "uuid is missing"),
        ("hosts.0.cpu_pool.cpu", None, "host hv1: cpu_pool: cpu must be"),
        ("hosts.0.cpu_pool.cpu.model", "<x>", "host hv1: cpu_pool: cpu: "),
        ("hosts.0.cpu_pool.proven", [], "host hv1: cpu_pool: proven must be"),
        ("hosts.0.cpu_pool_error", {"code": "bad_record"}, "msg is missing"),
        ("hosts", {}, "snapshot: hosts must be"),
        ("vms", [{"name": "db"}], "vm db: host is missing"),
        ("vms", [{"name": "db", "host": "hv1", "saved": 1}], "vm db: saved must be"),
    ],
)
def test_a_snapshot_that_is_wrong_is_refused_with_the_field(path: str, value: Any, words: str) -> None:
    with pytest.raises(FleetError) as caught:
        _pool.plan({"question": "stat"}, put(settled(), path, value))
    assert caught.value.code == "bad_snapshot"
    assert words in caught.value.msg


def test_a_snapshot_of_another_version_is_refused() -> None:
    with pytest.raises(FleetError) as caught:
        _pool.plan({"question": "stat"}, {"version": 2})
    assert caught.value.code == "unsupported_version"


@pytest.mark.parametrize("twin", [{"name": "hv1", "uuid": "x"}, {"name": "hv2", "uuid": "uuid-hv1"}])
def test_two_hosts_of_one_name_or_uuid_are_refused(twin: Data) -> None:
    data = settled()
    data["hosts"].append(twin)
    with pytest.raises(FleetError) as caught:
        _pool.plan({"question": "stat"}, data)
    assert caught.value.code == "duplicate_host"


PROOF = {"host": "hv1", "digest": "c0", "result": "identical"}


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"question": "what"}, "question must be one of"),
        ({"wanted": [{"pool": "gold"}]}, "name is missing"),
        ({"wanted": [{"name": "hv1", "state": "gone"}]}, "wanted hv1: state must be one of"),
        ({"wanted": [{"name": "hv1", "pol": "gold"}]}, "wanted hv1: pol not known"),
        ({"wanted": [{"name": "hv1", "kept": "yes"}]}, "wanted hv1: kept must be"),
        ({"wanted": [{"name": "hv1", "running_vms": "ignore"}]}, "wanted hv1: running_vms must be one of"),
        ({"wanted": [{"name": "hv1", "pool": 1}]}, "wanted hv1: pool must be text"),
        ({"wanted": [{"name": "hv1", "address_bits": "31"}]}, "a number of bits from 32 to 52, or none"),
        ({"wanted": [{"name": "hv1", "address_bits": True}]}, "a number of bits"),
        ({"wanted": [{"name": "hv1"}, {"name": "hv1"}]}, "hv1 is in wanted twice"),
        ({"wanted": [{"name": "hv2"}]}, "hv2 is in wanted, but not in the snapshot"),
        ({"unavailable": "hv1"}, "unavailable must be a list"),
        ({"running_vms": "ignore"}, "running_vms must be one of"),
        ({"candidates": [{"pool": "gold"}]}, "cpu must be a mapping"),
        ({"candidates": [{"pool": "gold", "cpu": {}, "features": []}]}, "candidates[0]: cpu"),
        ({"candidates": [{"pool": "gold", "cpu": {"model": "kvm64"}}]}, "features must be a list"),
        ({"proofs": [{**PROOF, "result": None}]}, "result must be identical"),
        ({"proofs": [{**PROOF, "probe": []}]}, "probe must be a mapping"),
        ({"proofs": [{**PROOF, "unknown": "x"}]}, "unknown must be a list"),
    ],
)
def test_a_request_that_is_wrong_is_refused_with_the_field(request_: Data, words: str) -> None:
    with pytest.raises(FleetError) as caught:
        _pool.plan(request_, settled())
    assert caught.value.code == "bad_request"
    assert words in caught.value.msg


def test_what_templates_make_of_nothing_is_nothing() -> None:
    hosts = [Sim("hv1")]
    wanted = [{"name": "hv1", "pool": None, "definition": "", "address_bits": ""}]
    assert converge(hosts, wanted)["feasible"]


def test_what_records_of_a_pool_have_in_common_is_read_once() -> None:
    hosts = [Sim("hv1"), Sim("hv2"), Sim("hv3")]
    converge(hosts, want("hv1:gold", "hv2:gold", "hv3:iron"))
    found = [host.record.content for host in load(snapshot(hosts)).hosts.values() if host.record]
    assert (found[0] is found[1], found[0] == found[2]) == (True, False)


def test_a_small_snapshot_written_by_hand_is_enough() -> None:
    data = {"cpus": {"c": {"vendor": "AMD", "features": [], "xml": "<cpu/>"}}, "hosts": [{"name": "hv1", "cpu": "c"}]}
    answer = _pool.plan({"wanted": want("hv1:gold", definition="baseline")}, data)
    assert (answer["stage"], answer["pools"][0]["compute_on"]) == ("baseline", "hv1")


def run(directory: Path, **options: Any) -> Data:
    return run_module("cpu_pool_plan", directory, check=True, **options)


def test_the_module_answers_from_a_directory_of_parts_and_changes_nothing(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "hv1.json").write_text(json.dumps(snapshot([Sim("hv1")])), encoding="utf-8")
    (parts / "hv2.json").write_text(json.dumps(snapshot([Sim("hv2")])), encoding="utf-8")
    result = run(tmp_path, snapshot_path="parts", wanted=[{"name": "hv1", "pool": "gold"}, {"name": "hv2"}])
    assert (result["changed"], result["stage"], result["feasible"]) == (False, "proof", True)
    assert [pool["name"] for pool in result["pools"]] == ["default_amd0", "gold"]


def test_the_module_does_not_repeat_what_is_large(tmp_path: Path) -> None:
    given = run(tmp_path, snapshot=snapshot([Sim("hv1")]), question="stat", proofs=[PROOF])
    told = given.get("invocation", {}).get("module_args", {})
    assert (given["hosts"][0]["name"], told.get("snapshot"), told.get("proofs")) == ("hv1", None, None)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"snapshot_path": "none.json"}, "unreadable"),
        ({"snapshot": {}, "wanted": [{"name": "hv1"}]}, "bad_request"),
        ({"snapshot": {"hosts": 1}}, "bad_snapshot"),
    ],
)
def test_the_module_fails_with_the_code(tmp_path: Path, options: Data, error: str) -> None:
    result = run(tmp_path, **options)
    assert (result["failed"], result["error"]) == (True, error)
