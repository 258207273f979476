# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory, the mirror, and the guests' definition."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from tests.lab import kinds
from tests.lab.domain import GuestSpec, domain_xml, read_pins
from tests.lab.inventory import inventory_text, link_mib_s
from tests.lab.kinds import kind_named
from tests.lab.shell import LabError, hint_for
from tests.lab.spec import HostOptions, LabSpec
from tests.lab.tree import DEFAULT_MIRROR, find_mirror


def test_a_limited_link_is_told_to_the_planner() -> None:
    assert [link_mib_s(rate) for rate in (None, "1gbit", "200mbit", "100kbit")] == [1192, 119, 23, 1]


def test_inventory_is_yaml_that_makes_the_machine_look_as_small_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = LabSpec(subnet="10.1.2.0/24", hosts={"hv1": HostOptions(), "hv2": HostOptions(memory_mib=1)})
    monkeypatch.setattr(kinds, "machine_memory_kib", lambda: 8 << 20)
    group = yaml.safe_load(inventory_text(spec, Path("/keys"), kind_named("pod")))["hypervisors"]
    assert group["hosts"]["hv1"] == {
        "ansible_host": "10.1.2.11",
        "kvm_fleet_settings": {"reserved": {"memory_kib": (8 << 20) - (4096 << 10)}, "link_mib_s": 1192},
    }
    assert group["hosts"]["hv2"]["kvm_fleet_settings"]["reserved"]["memory_kib"] == (8 << 20) - 1024
    assert group["vars"]["ansible_ssh_private_key_file"] == "/keys/id_ed25519"


def test_host_larger_than_the_machine_reserves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "machine_memory_kib", lambda: 1024)
    assert kind_named("pod").reserved_kib(HostOptions(memory_mib=4096)) == 0


def test_machines_report_their_own_memory_and_get_no_file_transfers() -> None:
    spec = LabSpec(subnet="10.1.2.0/24", kind="machine", hosts={"hv1": HostOptions(memory_mib=2048, link="1gbit")})
    group = yaml.safe_load(inventory_text(spec, Path("/keys"), kind_named("machine")))["hypervisors"]
    assert group["hosts"]["hv1"] == {"ansible_host": "10.1.2.11", "kvm_fleet_settings": {"link_mib_s": 119}}
    assert group["vars"]["ansible_pipelining"] is True


@pytest.mark.parametrize(
    ("name", "text", "mirror"),
    [
        (
            "debian.sources",
            "Types: deb\nURIs: http://near.example/debian\nSuites: bookworm\n",
            "http://near.example/debian",
        ),
        (
            "a.list",
            "# deb http://no.example/debian x\ndeb [arch=amd64] https://near.example/debian trixie main\n",
            "https://near.example/debian",
        ),
        ("b.list", "deb http://near.example/debian-security trixie-security main\n", DEFAULT_MIRROR),
        ("c.list", "deb http://near.example/other stable main\n", DEFAULT_MIRROR),
    ],
)
def test_mirror_is_the_machines_own(tmp_path: Path, name: str, text: str, mirror: str) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / name).write_text(text)
    (tmp_path / "os-release").write_text("ID=debian\n")
    assert find_mirror(tmp_path, tmp_path / "os-release") == mirror


def test_mirror_of_another_distribution_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text("deb http://near.example/debian noble main\n")
    (tmp_path / "os-release").write_text("ID=ubuntu\n")
    assert find_mirror(tmp_path, tmp_path / "os-release") == DEFAULT_MIRROR


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        ("tar: write error: No space left on device", "The disk is full"),
        ("unshare: unshare failed: Operation not permitted", "real root"),
        ("E: Failed getting release file http://x/Release", "mirror cannot be reached"),
        ("something else", ""),
    ],
)
def test_known_failures_come_with_the_next_step(output: str, hint: str) -> None:
    assert hint in hint_for(output)
    assert bool(hint) == bool(hint_for(output))


def test_guest_definition_carries_what_was_asked() -> None:
    spec = GuestSpec("a&b", memory_mib=128, vcpus=2, max_vcpus=4, pins=((0, "1"),), emulator_pin="0-1", autoonline=True)
    root = ElementTree.fromstring(domain_xml(spec))
    assert root.findtext("name") == "a&b"
    assert (root.findtext("vcpu"), root.find("vcpu").get("current")) == ("4", "2")
    assert [dict(item.attrib) for item in root.find("cputune")] == [{"vcpu": "0", "cpuset": "1"}, {"cpuset": "0-1"}]
    assert "lab.autoonline" in root.findtext("os/cmdline")


@pytest.mark.parametrize(("cpu", "check"), [("<cpu mode='custom'/>", "partial"), ("<cpu check='none'/>", "none")])
def test_cpu_is_checked_unless_it_says_otherwise(cpu: str, check: str) -> None:
    root = ElementTree.fromstring(domain_xml(GuestSpec("g", cpu_xml=cpu)))
    assert root.find("cpu").get("check") == check


def test_guest_too_small_to_boot_is_refused() -> None:
    with pytest.raises(LabError, match="too small"):
        GuestSpec("g", memory_mib=64)


def test_pins_are_read() -> None:
    assert read_pins(["0:1", "1:0-1,^1"]) == ((0, "1"), (1, "0-1,^1"))
    with pytest.raises(LabError, match="expected VCPU:CPUSET"):
        read_pins(["0-1"])
