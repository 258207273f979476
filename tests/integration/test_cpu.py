# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The CPU that all hosts share, and what becomes of wrong input."""

from __future__ import annotations

import base64
import io
import json
import random
import tarfile
import uuid
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, Callable, Dict, Iterator

import pytest

from tests.integration.conftest import LACKING
from tests.integration.fleet import Fleet, guest
from tests.integration.runner import Ansible, task
from tests.integration.test_four_steps import assert_four_steps, four_steps
from tests.lab import GuestSpec, Lab
from tests.tools.sync import BUILD

BOMB = "<!DOCTYPE cpu [<!ENTITY a 'aaaaaaaaaa'>" + "".join(
    f"<!ENTITY {new} '{f'&{old};' * 10}'>" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
) + "]><cpu><model>&i;</model></cpu>"  # fmt: skip
FILE = "<!DOCTYPE cpu [<!ENTITY f SYSTEM 'file:///etc/hostname'>]><cpu><model>&f;</model></cpu>"
WRONG = {
    "nothing": "",
    "no_xml": "Haswell",
    "cut_off": "<cpu><model>Haswell",
    "another_element": "<domain/>",
    "unknown_model": "<cpu mode='custom'><model>Nonesuch</model></cpu>",
    "unknown_feature": "<cpu mode='custom'><model>Westmere</model><feature policy='require' name='nonesuch'/></cpu>",
    "no_model": "<cpu match='exact'/>",
    "unknown_feature_of_host_model": "<cpu mode='host-model'><feature policy='disable' name='nonesuch'/></cpu>",
    "unknown_feature_of_passthrough": "<cpu mode='host-passthrough'><feature policy='disable' name='nonesuch'/></cpu>",
    "host_model": "<cpu mode='host-model'/>",
    "entity_bomb": BOMB,
    "external_entity": FILE,
}

KVM64 = "<cpu mode='custom' match='exact' check='partial'><model fallback='forbid'>kvm64</model>{}</cpu>"
# QEMU's model of this name has arat and xsaveopt, too.
SANDY = (
    "<cpu mode='custom' match='exact' check='partial'><model fallback='forbid'>SandyBridge</model>"
    "<feature policy='disable' name='tsc-deadline'/></cpu>"
)
NARROW = "<cpu mode='custom' match='exact'><model>kvm64</model><maxphysaddr mode='emulate' bits='36'/>"
RECORD = "/etc/ansible/facts.d/kvm_fleet_pool.fact"


def tiny(name: str, cpu: str = "", arch: str = "x86_64") -> str:
    """A VM that is started paused, if at all."""
    identity = uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.kvm-fleet-test.invalid")
    return (
        f"<domain type='qemu'><name>{name}</name><uuid>{identity}</uuid><memory unit='MiB'>16</memory>"
        f"<os><type arch='{arch}'>hvm</type></os>{cpu}</domain>"
    )


def define(lab: Lab, name: str, cpu: str = "", arch: str = "x86_64") -> None:
    lab["hv1"].run(["virsh", "-q", "define", "/dev/stdin"], stdin=tiny(name, cpu, arch))


def probes_left(lab: Lab) -> str:
    found = lab["hv1"].run(
        "virsh -q list --all --name | grep kvm_fleet-probe;"
        " find /run /var/log/libvirt /var/lib/libvirt -name '*kvm_fleet-probe*';"
        " pgrep -a qemu-system | grep kvm_fleet-probe",
        check=False,
    )
    return str(found.stdout)


def test_baseline_is_the_intersection_of_all_hosts(
    ansible: Ansible, host_cpus: Dict[str, str], common_cpu: str
) -> None:
    run = ansible.start_tasks("hypervisors", [{"virtops.kvm_fleet.host_info": {}}]).wait()
    features = [
        set(result.result["snapshot"]["cpus"][result.result["host"]["cpu"]]["features"]) for result in run.results
    ]
    baseline = ansible.module("hv1", "cpu_baseline", cpus=list(host_cpus.values()))
    assert set(baseline["features"]) == set.intersection(*features)
    assert baseline["cpu_xml"] == common_cpu


def test_guest_with_the_baseline_runs_on_every_host(lab: Lab, ansible: Ansible, fleet: Fleet, common_cpu: str) -> None:
    run = ansible.start_tasks("hypervisors", [task("cpu_compare", cpu=common_cpu)]).wait()
    assert [result.result["result"] in ("superset", "identical") for result in run.results] == [True] * 3
    fleet.have(guest("a"))
    for source, destination in (("hv1", "hv2"), ("hv2", "hv3")):
        moved = ansible.module(source, "vm_migrate", moves=[fleet.move("a", destination)], record_home=False)
        assert moved["migrations"][0]["outcome"] == "moved"
        fleet.assert_intact_and_once("a", destination)


@pytest.mark.parametrize("host", sorted(LACKING))
def test_comparison_names_the_missing_features(ansible: Ansible, host_cpus: Dict[str, str], host: str) -> None:
    result = ansible.module(host, "cpu_compare", cpu=host_cpus["hv1"])
    assert (result["result"], result["missing"]) == ("incompatible", sorted(LACKING[host]))
    assert not result["failed"]


def test_wrong_cpu_is_one_clear_error(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    before = fleet.picture()
    tasks = {}
    for name, xml in WRONG.items():
        tasks[f"cpu_baseline {name}"] = task("cpu_baseline", cpus=[xml])
        tasks[f"cpu_compare {name}"] = task("cpu_compare", cpu=xml)
        # A mode that leaves the CPU to the host is fine for a VM.
        if name != "host_model":
            tasks[f"vm_cpu {name}"] = task("vm_cpu", name="a", cpu=xml)
    results = dict(zip(tasks, ansible.tasks("hv1", *tasks.values()), strict=True))
    results["cpu_baseline of no CPU"] = ansible.module("hv1", "cpu_baseline", cpus=[])
    assert {name: result for name, result in results.items() if not is_clear_error(result)} == {}
    assert fleet.picture() == before


def test_unknown_cpu_is_not_written_to_a_vm_that_is_off(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have()
    lab.guests.define(GuestSpec("off"), "hv1")
    before = fleet.picture()
    wrong = [WRONG[name] for name in WRONG if name.startswith("unknown") or name == "no_model"]
    for result in ansible.tasks("hv1", *(task("vm_cpu", name="off", cpu=cpu) for cpu in wrong)):
        assert (result["failed"], result["error"]) == (True, "bad_cpu"), result
    assert fleet.picture() == before


def test_cpu_that_the_host_cannot_give_is_written_with_a_warning(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have()
    define(lab, "off")
    poorer, able = ansible.tasks(
        "hv1",
        task("vm_cpu", name="off", cpu=KVM64.format(feature("amx-tile"))),
        task("vm_cpu", name="off", cpu=KVM64.format(feature("aes"))),
    )
    assert "amx-tile" in poorer["cpu_xml"]
    assert "it lacks amx-tile" in " ".join(poorer["warnings"])
    assert (able["changed"], able.get("warnings", [])) == (True, [])


def test_baseline_names_the_hosts_that_cost_features(ansible: Ansible, host_cpus: Dict[str, str]) -> None:
    hosts = [{"name": name, "cpu_xml": xml} for name, xml in host_cpus.items()]
    strange = {"name": "newer", "cpu_xml": WRONG["unknown_feature"]}
    plain, expanded, unknown = ansible.tasks(
        "hv1",
        task("cpu_baseline", hosts=hosts),
        task("cpu_baseline", hosts=hosts, expand=True),
        task("cpu_baseline", hosts=[*hosts, strange]),
    )
    limits = {limit["feature"]: limit["hosts"] for limit in plain["limits"]}
    assert limits == {feature: [host] for host, lacking in LACKING.items() for feature in lacking}
    assert {gain["host"]: tuple(gain["features"]) for gain in plain["gain_without"]} == {
        host: tuple(sorted(lacking)) for host, lacking in LACKING.items()
    }
    everything = {feature for lacking in LACKING.values() for feature in lacking}
    assert {mask["host"]: set(mask["features"]) for mask in plain["masked"]} == {
        host: everything - set(LACKING.get(host, ())) for host in host_cpus
    }
    assert plain["distinct"] == len(set(host_cpus.values())) == 3
    assert expanded["cpu"]["require"] == expanded["features"] == plain["features"]
    assert expanded["model"] == plain["model"]
    assert (unknown["failed"], unknown["error"], unknown["hosts"]) == (True, "no_baseline", ["newer"])
    assert "Unknown CPU feature nonesuch (from newer)" in unknown["msg"]


def test_rules_of_baselines_hold_for_random_cpus(lab: Lab) -> None:
    """Never more than any member, whatever the order; both expansions agree; hundreds of CPUs are no limit."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        archive.add(BUILD / "ansible_collections/virtops/kvm_fleet/plugins/module_utils", "module_utils")
    package = "/tmp/rules/ansible_collections/virtops/kvm_fleet/plugins"
    script = (Path(__file__).parent / "cpu_properties.py").read_text()
    host, seed = lab["hv1"], random.randrange(10**6)
    host.run(
        f"rm -rf /tmp/rules; mkdir -p {package}; base64 -d | tar xz -C {package}",
        stdin=base64.b64encode(stream.getvalue()).decode(),
    )
    ran = host.run(["env", "PYTHONPATH=/tmp/rules", "python3", "-", str(seed)], stdin=script)
    found = json.loads(ran.stdout)
    assert found["own"] > 50
    assert found["broken"] == [], f"seed {seed}"


def test_probe_shows_what_qemu_adds_and_leaves_nothing_behind(lab: Lab, ansible: Ansible) -> None:
    (result,) = ansible.tasks("hv1", task("cpu_compare", cpu=SANDY, probe=True, host="one", check=True))
    proof = result["proof"]
    assert (result["changed"], result["result"], result["unknown"]) == (False, "superset", [])
    assert (proof["host"], proof["result"], proof["probe"]["error"]) == ("one", "superset", None)
    assert (proof["probe"]["model"], proof["unknown_model"]) == ("SandyBridge", None)
    assert {"arat", "xsaveopt", "hypervisor", "avx"} <= set(proof["probe"]["features"])
    assert "tsc-deadline" not in proof["probe"]["features"]
    assert {"arat", "avx2"} <= set(result["extra"])
    assert "avx" not in result["extra"]
    assert probes_left(lab) == ""


def test_common_cpu_is_the_same_on_every_host_also_in_maintenance(
    lab: Lab, ansible: Ansible, fleet: Fleet, common_cpu: str
) -> None:
    entered = ansible.module("hv1", "host_maintenance", state="entered", id="probe")
    assert not entered["failed"]
    if entered["restart_required"]:
        lab.faults.restart_libvirtd("hv1")
    run = ansible.start_tasks("hypervisors", [task("cpu_compare", cpu=common_cpu, probe=True)]).wait()
    refused = lab["hv1"].run(["virsh", "-q", "create", "/dev/stdin"], stdin=tiny("refused"), check=False)
    assert not ansible.module("hv1", "host_maintenance", state="left", id="probe")["failed"]
    proofs = [result.result["proof"] for result in run.results]
    assert "is in maintenance" in refused.stderr
    assert [proof["probe"]["error"] for proof in proofs] == [None] * 3
    assert len({proof["digest"] for proof in proofs}) == 1
    assert len({json.dumps(proof["probe"], sort_keys=True) for proof in proofs}) == 1
    assert probes_left(lab) == ""


def feature(name: str, policy: str = "require") -> str:
    return f"<feature policy='{policy}' name='{name}'/>"


# The CPU, and what the proof says: the result, what is missing, what is unknown, the model if unknown, and the reason.
PROOFS: Dict[str, Any] = {
    KVM64.format(feature("nonesuch", "disable") + feature("zero", "disable") + feature("aes")): (
        "superset", [], ["nonesuch", "zero"], None, None,
    ),
    KVM64.format(feature("nonesuch", "disable") + feature("zero")): (
        "incompatible", ["zero"], ["nonesuch", "zero"], None, "Unknown CPU feature zero",
    ),
    KVM64.replace("kvm64", "Nonesuch").format(feature("zero")): (
        "incompatible", [], [], "Nonesuch", "Unknown CPU model Nonesuch",
    ),
    # libvirt itself lets this one pass, because QEMU can emulate kvm64 anywhere.
    KVM64.format("<vendor>Intel</vendor>"): ("incompatible", [], [], None, "does not match required CPU vendor Intel"),
}  # fmt: skip


def test_cpu_that_a_host_cannot_give_is_an_answer_in_the_words_of_libvirt(ansible: Ansible) -> None:
    # QEMU refuses this one, and libvirt compares without a look at it.
    narrow = KVM64.format("<maxphysaddr mode='emulate' bits='32'/>")
    found = ansible.tasks("hv1", *(task("cpu_compare", cpu=cpu, probe=True) for cpu in (*PROOFS, narrow)))
    for result, (outcome, missing, unknown, model, reason) in zip(found, PROOFS.values(), strict=False):
        proof = result["proof"]
        assert (proof["result"], proof["missing"], proof["unknown"], proof["unknown_model"]) == (
            (outcome, missing, unknown, model)
        )
        assert (proof["probe"] is None) == (outcome == "incompatible")
        assert reason is None or reason in proof["reason"]
    assert "phys-bits too low" in found[-1]["proof"]["probe"]["error"]
    assert found[-1]["proof"]["probe"]["features"] == []


@pytest.fixture
def pool(lab: Lab, ansible: Ansible, common_cpu: str) -> Iterator[Dict[str, Any]]:
    """A pool of hv1 alone with the CPU that all hosts share."""
    compared = ansible.module("hv1", "cpu_compare", cpu=common_cpu, probe=True)
    cpu = ansible.module("hv1", "cpu_baseline", cpus=[common_cpu])["cpu"]
    features = compared["proof"]["probe"]["features"]
    member = {"name": "hv1", "uuid": lab["hv1"].uuid}
    record = {
        "version": 1,
        "pool": "gold",
        "vendor": cpu["vendor"],
        "definition": "baseline",
        "generation": 1,
        "members": [member],
        "cpu": {**cpu, "xml": common_cpu, "features": features},
        "host": member,
        "proven": {"versions": {}, "virt_type": "qemu", "features": features},
    }
    lab["hv1"].run(f"mkdir -p /etc/ansible/facts.d; cat >{RECORD}; chmod 644 {RECORD}", stdin=json.dumps(record))
    yield record
    lab["hv1"].run(f"rm {RECORD}")


def test_cpu_and_vm_are_compared_with_the_pool(
    lab: Lab, ansible: Ansible, fleet: Fleet, common_cpu: str, pool: Dict[str, Any]
) -> None:
    fleet.have()
    define(lab, "on", common_cpu)
    define(lab, "off", KVM64.format(""))
    define(lab, "vague", "<cpu mode='host-passthrough'/>")
    lab["hv1"].virsh("start", "on", "--paused")
    # What it runs with counts, and not what it would start with.
    define(lab, "on", KVM64.format(""))
    more = common_cpu.replace("</cpu>", "<feature policy='require' name='avx2'/></cpu>")
    same, larger, on, off, vague, by_host = ansible.tasks(
        "hv1",
        task("cpu_compare", cpu=common_cpu, against="pool"),
        task("cpu_compare", cpu=more, against="pool"),
        task("cpu_compare", vm="on", against="pool"),
        task("cpu_compare", vm="off", against="pool"),
        task("cpu_compare", vm="vague", against="pool"),
        task("cpu_compare", vm="on"),
    )
    assert (same["result"], same["extra"], same["missing"]) == ("identical", [], [])
    assert (larger["result"], larger["missing"]) == ("incompatible", ["avx2"])
    assert "pool gold" in larger["reason"]
    assert (on["result"], on["extra"]) == ("identical", [])
    assert (off["result"], "avx" in off["extra"]) == ("superset", True)
    assert (vague["failed"], vague["error"]) == (True, "bad_cpu")
    assert by_host["result"] == "superset"
    lab["hv1"].run(f"mv {RECORD} {RECORD}.away")
    assert ansible.module("hv1", "cpu_compare", cpu=common_cpu, against="pool")["error"] == "no_pool"
    lab["hv1"].run(f"mv {RECORD}.away {RECORD}")


def test_all_vms_get_a_cpu_but_those_that_cannot_or_shall_not(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have()
    for name in ("kept", "off"):
        define(lab, name)
    define(lab, "old", arch="i686")
    define(lab, "on", KVM64.format(""))
    lab["hv1"].virsh("start", "on", "--paused")
    lab["hv1"].run(["virsh", "-q", "create", "--paused", "/dev/stdin"], stdin=tiny("passing"))
    running = lab["hv1"].virsh("dumpxml", "on")
    four = four_steps(ansible, fleet, "vm_cpu", {"all": True, "keep": ["kept", "elsewhere"], "cpu": SANDY})
    assert_four_steps(four)
    for step in four:
        vms = {vm["name"]: vm for vm in step["vms"]}
        assert sorted(vms) == ["kept", "off", "old", "on", "passing"]
        assert {name: bool(vm["skipped"]) for name, vm in vms.items()} == {
            "kept": True, "off": False, "old": True, "on": False, "passing": True,
        }  # fmt: skip
        assert "transient" in vms["passing"]["skipped"]
        assert "i686" in vms["old"]["skipped"]
        assert [name for name, vm in vms.items() if vm["restart_required"]] == ["on"]
        assert "avx" in vms["on"]["difference"]["missing"]
    assert lab["hv1"].virsh("dumpxml", "on") == running
    assert [vm["name"] for vm in four[1]["vms"] if vm["changed"]] == ["off", "on"]
    lab["hv1"].virsh("destroy", "on")
    lab["hv1"].virsh("start", "on", "--paused")
    again = ansible.module("hv1", "vm_cpu", names=["on", "off"], cpu=SANDY)
    # QEMU has added arat and xsaveopt, and would do so again.
    assert [(vm["name"], vm["restart_required"]) for vm in again["vms"]] == [("on", False), ("off", False)]
    smaller = ansible.module("hv1", "vm_cpu", name="on", cpu=KVM64.format(""), check=True)
    assert smaller["restart_required"]
    assert {"avx", "xsaveopt"} <= set(smaller["difference"]["extra"])
    assert "hypervisor" not in smaller["difference"]["extra"]


@pytest.fixture
def update(lab: Lab) -> Iterator[Callable[[], None]]:
    """What takes from hv1 all that hv2 lacks, as an update of the microcode would."""
    qemu, host = "/usr/bin/qemu-system-x86_64", lab["hv1"]

    def take() -> None:
        poorer = lab["hv2"].run(["base64", qemu]).stdout
        host.run("base64 -d >/tmp/qemu; chmod 755 /tmp/qemu", stdin=poorer)
        host.run(["mount", "--bind", "/tmp/qemu", qemu])
        lab.faults.restart_libvirtd("hv1")

    yield take
    host.run(["umount", qemu])
    lab.faults.restart_libvirtd("hv1")


def test_vm_that_runs_keeps_what_its_host_has_lost(
    lab: Lab, ansible: Ansible, fleet: Fleet, update: Callable[[], None]
) -> None:
    """libvirt cuts a model to what the host has today."""
    fleet.have()
    lacking = "".join(feature(name, "disable") for name in ("hle", "invpcid", "pcid", "rtm", "tsc-deadline"))
    cpu = KVM64.replace("kvm64", "Haswell").format("<maxphysaddr mode='emulate' bits='39'/>" + lacking)
    define(lab, "off", cpu)
    define(lab, "on", cpu)
    lab["hv1"].virsh("start", "on", "--paused")
    update()
    described, given = ansible.tasks("hv1", task("host_info"), task("vm_cpu", name="on", cpu=KVM64.format("")))
    snapshot = described["snapshot"]
    host = snapshot["cpus"][snapshot["hosts"][0]["cpu"]]
    off, on = (snapshot["cpus"][vm["cpu"]] for vm in snapshot["vms"])
    assert ["avx2" in cpu["features"] for cpu in (host, off, on)] == [False, False, True]
    assert [cpu["address_bits"] for cpu in (off, on)] == [39, 39]
    assert "avx2" in given["difference"]["extra"]


def test_host_model_is_compared_by_what_the_vm_got(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have()
    for name, cpu in (
        ("alike", "<cpu mode='host-model'/>"),
        ("poorer", KVM64.format("")),
        ("richer", "<cpu mode='maximum'/>"),
    ):
        define(lab, name, cpu)
        lab["hv1"].virsh("start", name, "--paused")
    run, again = ansible.tasks("hv1", *[task("vm_cpu", all=True, mode="host-model")] * 2)
    assert [(vm["name"], vm["changed"]) for vm in run["vms"]] == [("alike", False), ("poorer", True), ("richer", True)]
    for result in (run, again):
        differences = {vm["name"]: vm["difference"] for vm in result["vms"]}
        assert differences["alike"] is None
        assert (differences["poorer"]["mode"], "avx" in differences["poorer"]["missing"]) == (None, True)
        assert differences["richer"]["mode"] == {"running": "maximum", "defined": "host-model"}


def test_saved_vm_resumes_with_the_cpu_of_its_image(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have()
    define(lab, "asleep", SANDY)
    lab["hv1"].virsh("start", "asleep", "--paused")
    lab["hv1"].virsh("managedsave", "asleep")
    try:
        wide = KVM64.format("<maxphysaddr mode='emulate' bits='41'/>")
        given, described = ansible.tasks("hv1", task("vm_cpu", all=True, cpu=wide), task("host_info"))
    finally:
        lab["hv1"].virsh("managedsave-remove", "asleep")
    after = ansible.module("hv1", "vm_cpu", name="asleep", cpu=wide)
    (vm,) = described["snapshot"]["vms"]
    assert (given["vms"][0]["changed"], vm["saved"], vm["state"]) == (True, True, "shutoff")
    assert "avx" in described["snapshot"]["cpus"][vm["cpu"]]["features"]
    assert "avx" in given["vms"][0]["difference"]["extra"]
    assert given["vms"][0]["difference"]["address_bits"] == {"running": None, "defined": 41}
    assert (after["changed"], after["restart_required"]) == (False, False)


def test_cpu_too_narrow_for_the_memory_of_a_vm_is_not_written(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    """QEMU is asked for the last size that fits and the first that does not."""
    fleet.have()
    narrow = {"model": "kvm64", "address_bits": 36}
    for name, most, machine in (("fits", 28, "q35"), ("large", 29, "q35"), ("old", 58, "pc"), ("oldest", 59, "pc")):
        xml = tiny(name, "<cpu><numa><cell id='0' cpus='0' memory='1' unit='GiB'/></numa></cpu>")
        room = f"<maxMemory slots='1' unit='GiB'>{most}</maxMemory><memory unit='GiB'>1</memory>"
        xml = xml.replace("<memory unit='MiB'>16</memory>", room).replace("<type ", f"<type machine='{machine}' ")
        lab["hv1"].run(["virsh", "-q", "define", "/dev/stdin"], stdin=xml)
    every, one = ansible.tasks("hv1", task("vm_cpu", all=True, **narrow), task("vm_cpu", name="large", **narrow))
    assert {vm["name"]: bool(vm["skipped"]) for vm in every["vms"]} == {
        "fits": False, "large": True, "old": False, "oldest": True,
    }  # fmt: skip
    assert (one["error"], "from 37 address bits on, and the CPU has 36" in one["msg"]) == ("address_bits", True)
    for name in ("large", "oldest"):
        lab["hv1"].run(f'virsh dumpxml {name} | sed "s#<cpu.*#{NARROW}#" | virsh -q define /dev/stdin')
    started = {vm["name"]: lab["hv1"].run(f"virsh -q start {vm['name']} --paused", check=False) for vm in every["vms"]}
    assert {name: ran.returncode for name, ran in started.items()} == {"fits": 0, "large": 1, "old": 0, "oldest": 1}
    for name in ("large", "oldest"):
        # On a busy host libvirt may tell of the closed monitor only.
        log = lab["hv1"].run(f"cat /var/log/libvirt/qemu/{name}.log").stdout
        assert "phys-bits too low" in log, started[name].stderr


def test_failure_in_the_middle_names_the_vms_that_are_written(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have()
    define(lab, "first")
    # libvirt refuses this cache with any other mode, and the cache is the VM's own.
    define(lab, "second", "<cpu mode='maximum'><cache mode='passthrough'/></cpu>")
    define(lab, "third")
    result = ansible.module("hv1", "vm_cpu", all=True, cpu=KVM64.format(""))
    assert (result["failed"], result["error"], result["vm"]) == (True, "define_refused", "second")
    assert result["written"] == ["first"]
    assert "Already written: first." in result["msg"]
    assert "kvm64" in lab["hv1"].virsh("dumpxml", "first")
    assert "kvm64" not in lab["hv1"].virsh("dumpxml", "third")


def test_cpu_is_given_in_options_and_what_may_be_dropped_is_warned_of(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have()
    define(lab, "off")
    features = [{"name": "aes"}, {"name": "avx", "policy": "optional"}]
    custom, again, host_model, nothing, kept = ansible.tasks(
        "hv1",
        task("vm_cpu", name="off", model="kvm64", address_bits=40, features=features),
        task("vm_cpu", name="off", model="kvm64", address_bits=40, features=features),
        task("vm_cpu", name="off", mode="host-model"),
        task("vm_cpu", all=False, mode="host-model"),
        task("vm_cpu", names=["off"], keep=["off"], mode="host-model"),
    )
    assert (custom["changed"], again["changed"], host_model["changed"]) == (True, False, True)
    assert "optional of avx" in " ".join(custom["warnings"])
    cpu = ET.fromstring(custom["cpu_xml"])
    address = cpu.find("maxphysaddr")
    assert (cpu.get("mode"), cpu.get("match"), cpu.get("check")) == ("custom", "exact", "partial")
    assert address is not None
    assert address.get("bits") == "40"
    assert {item.get("name"): item.get("policy") for item in cpu.findall("feature")} == {
        "aes": "require", "avx": "optional",
    }  # fmt: skip
    assert ET.fromstring(host_model["cpu_xml"]).get("mode") == "host-model"
    assert (nothing["failed"], nothing["error"]) == (True, "bad_input")
    assert (kept["failed"], kept["error"]) == (True, "bad_options")


def is_clear_error(result: Dict[str, Any]) -> bool:
    message = str(result.get("msg"))
    return bool(result["failed"]) and "error" in result and "Traceback" not in message and len(message) < 500
