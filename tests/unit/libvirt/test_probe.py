# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The probe domain and the proof as data."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host import hook
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt import cordon
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.probe import Probe, Proof, probe_xml

CPU = "<cpu mode='custom'><model>kvm64</model></cpu>"


def test_the_probe_is_small_has_no_disk_and_no_device_that_can_be_left_out() -> None:
    domain = ET.fromstring(probe_xml("p", "kvm", machine="q35", cpu_xml=CPU))
    assert (domain.get("type"), domain.findtext("memory"), domain.findtext("vcpu")) == ("kvm", "16", "1")
    kind = domain.find("os/type")
    assert kind is not None
    assert kind.get("machine") == "q35"
    assert domain.findtext("cpu/model") == "kvm64"
    assert [(device.tag, device.get("model")) for device in domain.findall("devices/*")] == [
        ("controller", "none"),
        ("memballoon", "none"),
    ]


def test_a_probe_without_machine_and_cpu_has_the_hosts_defaults() -> None:
    domain = ET.fromstring(probe_xml("p", "qemu"))
    kind = domain.find("os/type")
    assert kind is not None
    assert (kind.attrib, domain.find("cpu")) == ({}, None)


def test_the_cordon_lets_the_proof_through_and_its_own_probe_not() -> None:
    assert not hook.CORDON_PROBE.startswith(hook.PROBE_PREFIX)
    assert cordon.probe_xml is probe_xml


def test_a_proof_is_json_data() -> None:
    probe = Probe("kvm64", "AMD", 40, ("aes", "apic"), CPU)
    proof = Proof("hv1", "c0123", "superset", unknown=("x",), probe=probe).as_dict()
    assert json.loads(json.dumps(proof)) == proof
    assert proof == {
        "host": "hv1",
        "digest": "c0123",
        "result": "superset",
        "missing": [],
        "reason": None,
        "unknown": ["x"],
        "unknown_model": None,
        "probe": {
            "model": "kvm64",
            "vendor": "AMD",
            "address_bits": 40,
            "features": ["aes", "apic"],
            "cpu_xml": CPU,
            "error": None,
        },
    }
    assert Proof("hv1", "c0123", "incompatible", ("aes",), "no").as_dict()["probe"] is None
