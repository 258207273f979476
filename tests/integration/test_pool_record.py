# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host's pool is on record exactly if its hypervisor was seen to give guests the pool's CPU."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, List

import pytest

from tests.integration.fleet import Fleet
from tests.integration.runner import Ansible, task
from tests.integration.test_four_steps import assert_four_steps
from tests.lab import Lab

RECORD = "/etc/ansible/facts.d/kvm_fleet_pool.fact"
CPU: Dict[str, Any] = {
    "model": "kvm64",
    "vendor": "AMD",
    "require": ["aes", "popcnt", "sse4.1", "sse4.2", "ssse3"],
    "disable": [],
    "address_bits": 40,
}
SETUP = {"ansible.builtin.setup": {"gather_subset": ["!all", "!min", "local"]}}


@pytest.fixture(scope="module")
def options(lab: Lab, controller: Ansible) -> Dict[str, Any]:
    """What cpu_pool needs on any host of the lab, the CPU's features as hv1 gives them."""
    members = [{"name": host.name, "uuid": host.uuid} for host in lab.hosts]
    asked = {
        "pool": "gold",
        "vendor": "AMD",
        "definition": "basic",
        "generation": 2,
        "members": members,
        "cpu": CPU,
    }
    # A proof that fails tells what a guest gets.
    refused = controller.module("hv1", "cpu_pool", **asked, features=["hypervisor"])
    assert refused["error"] == "proof", refused
    return {**asked, "features": sorted(["hypervisor", *refused["extra"]])}


@pytest.fixture(autouse=True)
def _no_record(lab: Lab, fleet: Fleet) -> Iterator[None]:
    _forget(lab)
    yield
    _forget(lab)


def _forget(lab: Lab) -> None:
    for host in lab.hosts:
        host.run("rm -rf /etc/ansible")


def stored(lab: Lab, host: str = "hv1") -> str:
    return lab[host].run(f"cat {RECORD} 2>/dev/null || true").stdout


def put(text: str) -> Dict[str, Any]:
    """A task that puts a record where the module would, with its directory."""
    script = f"mkdir -p /etc/ansible/facts.d && cat >{RECORD}"
    return {"ansible.builtin.shell": {"cmd": script, "stdin": text}}


SEE = {"ansible.builtin.shell": f"cat {RECORD} 2>/dev/null || true"}


def four(ansible: Ansible, lab: Lab, **asked: Any) -> List[Dict[str, Any]]:
    before = stored(lab)
    check, seen, *rest, facts = ansible.tasks(
        "hv1",
        task("cpu_pool", check=True, diff=True, **asked),
        SEE,
        *(task("cpu_pool", check=check_mode, diff=True, **asked) for check_mode in (False, True, False)),
        SETUP,
    )
    assert seen["stdout"] == before.strip(), "check mode wrote"
    assert_four_steps((check, *rest))
    return [check, *rest, facts]


def test_joining_is_recorded_once_and_setup_shows_it(lab: Lab, ansible: Ansible, options: Dict[str, Any]) -> None:
    check, run, check_again, run_again, facts = four(ansible, lab, **options)
    assert check["record"] == run["record"] == check_again["record"] == run_again["record"]
    record = json.loads(stored(lab))
    assert facts["ansible_facts"]["ansible_local"]["kvm_fleet_pool"] == record == run["record"]
    assert (record["version"], record["generation"], record["host"]) == (1, 2, {"name": "hv1", "uuid": lab["hv1"].uuid})
    assert record["cpu"]["features"] == options["features"]
    assert set(options["features"]) - {"hypervisor"} <= set(record["proven"]["features"])
    assert record["proven"] == run["proven"]
    assert run["proof"]["probe"]["features"] == options["features"]
    assert (run["previous_record"], run_again["previous_record"]) == (None, record)
    assert '"model": "kvm64"' in run["diff"]["after"]
    assert lab["hv1"].run(f"stat -c %a:%U {RECORD}").stdout.strip() == "644:root"
    assert "kvm_fleet-probe" not in lab["hv1"].virsh("list", "--all", "--name")


def test_leaving_removes_the_record_once(lab: Lab, ansible: Ansible, options: Dict[str, Any]) -> None:
    never, joined = ansible.tasks("hv1", task("cpu_pool", state="absent"), task("cpu_pool", **options))
    assert (never["failed"], never["changed"], joined["changed"]) == (False, False, True)
    steps = four(ansible, lab, state="absent")
    assert stored(lab) == ""
    assert [step["record"] for step in steps[:4]] == [None] * 4
    assert "kvm_fleet_pool" not in steps[4]["ansible_facts"].get("ansible_local", {})


def test_a_record_is_updated_when_only_the_host_changed(lab: Lab, ansible: Ansible, options: Dict[str, Any]) -> None:
    edit = {"ansible.builtin.shell": f"""sed -i 's/"kernel": ".*"/"kernel": "1.2.3"/' {RECORD}"""}
    first, _edited, check, second = ansible.tasks(
        "hv1",
        task("cpu_pool", **options),
        edit,
        task("cpu_pool", check=True, diff=True, **options),
        task("cpu_pool", diff=True, **options),
    )
    assert [step["changed"] for step in (check, second)] == [True, True]
    assert '"kernel": "1.2.3"' in second["diff"]["before"]
    assert second["previous_record"]["proven"]["versions"]["kernel"] == "1.2.3"
    assert second["record"] == first["record"] == json.loads(stored(lab))


def test_a_record_that_cannot_be_overwritten_stays_as_it_is(
    lab: Lab, ansible: Ansible, options: Dict[str, Any]
) -> None:
    newer = json.dumps({"version": 2, "whatever": None})
    join, leave = task("cpu_pool", **options), task("cpu_pool", state="absent")
    results = ansible.tasks(
        "hv1",
        *(put(newer), join, leave, SEE),
        *(put("{"), join, leave, SEE, task("host_info", settings={"pool": "gold"})),
    )
    assert [results[index]["error"] for index in (1, 2, 5, 6)] == [*["record_version"] * 2, *["bad_record"] * 2]
    assert [results[index]["stdout"] for index in (3, 7)] == [newer, "{"]
    broken = results[8]
    assert not broken["failed"], "a broken record must not hide a host"
    assert broken["host"]["cpu_pool_error"]["code"] == "bad_record"
    assert RECORD in broken["host"]["cpu_pool_error"]["msg"]
    assert "cpu_pool" not in broken["host"]
    assert broken["host"]["pool"] == "gold", "then only the inventory knows"


def test_a_pool_that_went_on_is_not_set_back(lab: Lab, ansible: Ansible, options: Dict[str, Any]) -> None:
    silver = {**options, "generation": 1, "pool": "silver"}
    joined, older, content, other, moved, gone, *refused = ansible.tasks(
        "hv1",
        task("cpu_pool", **options, previous={}),
        task("cpu_pool", **{**options, "generation": 1}),
        task("cpu_pool", **{**options, "definition": "baseline"}),
        # Another pool counts its own generations.
        task("cpu_pool", check=True, **silver),
        task("cpu_pool", check=True, **silver, previous={"pool": "gold", "generation": 2}),
        task("cpu_pool", check=True, state="absent", previous={"pool": "gold", "generation": 2}),
        task("cpu_pool", check=True, **silver, previous={}),
        task("cpu_pool", **silver, previous={"pool": "gold", "generation": 1}),
        task("cpu_pool", state="absent", previous={"pool": "silver", "generation": 2}),
    )
    assert (older["error"], older["generation"], older["found"]) == ("newer_generation", 1, 2)
    assert [result.get("error") for result in (content, *refused)] == ["newer_generation"] * 4
    assert (moved["record"]["pool"], gone["record"]) == ("silver", None)
    assert (other["record"]["pool"], other["record"]["generation"]) == ("silver", 1)
    assert json.loads(stored(lab)) == joined["record"]


def test_a_cpu_that_guests_would_not_see_is_not_recorded(lab: Lab, ansible: Ansible, options: Dict[str, Any]) -> None:
    def cpu(**more: Any) -> Dict[str, Any]:
        return task("cpu_pool", **{**options, "cpu": {**CPU, **more}})

    lacking, unknown, model, missing, extra, stranger = ansible.tasks(
        "hv2",
        cpu(require=[*CPU["require"], "avx2", "fma"]),
        cpu(disable=["nonesuch"]),
        cpu(model="Nonesuch"),
        task("cpu_pool", **{**options, "features": [*options["features"], "avx2"]}),
        task("cpu_pool", **{**options, "features": options["features"][1:]}),
        task("cpu_pool", **{**options, "members": options["members"][:1]}),
    )
    refused = [lacking, unknown, model, missing, extra]
    assert [result["error"] for result in refused] == ["proof"] * 5
    assert all("hv2" in result["msg"] and "gold" in result["msg"] for result in refused)
    assert set(lacking["missing"]) == {"avx2", "fma"}
    assert lacking["proof"]["probe"] is None
    assert "nonesuch" in unknown["msg"]
    assert "Nonesuch" in model["msg"]
    assert (missing["missing"], missing["extra"]) == (["avx2"], [])
    assert (extra["missing"], extra["extra"]) == ([], options["features"][:1])
    assert (stranger["error"], lab["hv2"].uuid in stranger["msg"]) == ("bad_options", True)
    assert stored(lab, "hv2") == ""


def test_a_host_describes_its_pool_and_what_it_can_give(lab: Lab, ansible: Ansible, options: Dict[str, Any]) -> None:
    settings = {"pool": "inventory"}
    run = ansible.start_tasks(
        "hv1,hv2",
        [
            task("host_info", settings=settings),
            task("cpu_pool", **options),
            task("host_info", settings=settings),
        ],
    ).wait()
    for name in ("hv1", "hv2"):
        before, after = (result.result for result in run.of("host_info", name))
        joined = run.of("cpu_pool", name)[0].result
        assert (before["host"]["pool"], "cpu_pool" in before["host"]) == ("inventory", False)
        assert (after["host"]["pool"], after["host"]["cpu_pool"]) == ("gold", joined["record"])
        assert "xsave" not in after["host"], "emulated guests have nothing of the machine's"
        presets = after["host"]["cpu_presets"]
        assert {"default_amd0", "default_amd1", "default_amd2"} <= set(presets)
        assert ("x86-64-v3-amd" in presets) == (name == "hv1")
        assert not [preset for preset in presets if "intel" in preset]
        models = {model["name"]: model for model in after["cpu_models"]}
        assert models["kvm64"]["usable"]
        assert (models["Haswell"]["usable"], models["Haswell"]["vendor"]) == (False, "Intel")
        assert models["486"]["vendor"] is None
