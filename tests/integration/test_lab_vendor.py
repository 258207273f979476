# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lab has hosts of two vendors."""

from __future__ import annotations

import os
import re
from typing import Iterator

import pytest

from tests.integration.fleet import PATIENCE_S
from tests.lab import GuestSpec, HostOptions, Lab, LabError

pytestmark = pytest.mark.long

PREFIX = os.environ.get("KVM_FLEET_TEST_LAB") or "it"
INTEL = ("hv1", "hv2")
# What an Intel processor has had since 2010.
MODEST_CPU = (
    "<cpu mode='custom' match='exact' check='partial'><model fallback='forbid'>kvm64</model><vendor>Intel</vendor>"
    + "".join(f"<feature policy='require' name='{name}'/>" for name in ("aes", "cx16", "popcnt", "sse4.2", "ssse3"))
    + "</cpu>"
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    poorer = HostOptions(vendor="Intel", without=("avx2", "arat", "xsaveopt"))
    with Lab(f"{PREFIX[:8]}v") as made:
        yield made.up(hosts=3, options={"hv1": HostOptions(vendor="Intel"), "hv2": poorer})


def host_model(lab: Lab, host: str) -> str:
    capabilities = lab[host].virsh("domcapabilities", "--virttype", "qemu")
    found = re.search(r"<mode name='host-model'.*?</mode>", capabilities, re.DOTALL)
    assert found, capabilities
    return found[0]


def test_libvirt_reports_the_vendor_and_what_it_never_had_is_not_there(lab: Lab) -> None:
    vendors = {host.name: re.findall(r"<vendor>(\w+)</vendor>", host_model(lab, host.name)) for host in lab.hosts}
    assert vendors == {"hv1": ["Intel"], "hv2": ["Intel"], "hv3": ["AMD"]}
    for name in ("svm", "sse4a", "3dnow", "npt"):
        assert f"policy='require' name='{name}'" not in host_model(lab, "hv1")


def test_host_lacks_features_of_which_its_register_has_few(lab: Lab) -> None:
    for name in ("arat", "xsaveopt"):
        assert f"policy='require' name='{name}'" in host_model(lab, "hv1")
        assert f"policy='require' name='{name}'" not in host_model(lab, "hv2")


def test_guest_of_the_vendor_moves_between_its_hosts(lab: Lab) -> None:
    lab.guests.define(GuestSpec("intel", cpu_xml=MODEST_CPU), host="hv1")
    lab.guests.start("intel", "hv1")
    for source, destination in (INTEL, INTEL[::-1]):
        lab.guests.migrate("intel", source, destination)
        lab.guests.wait_checked("intel", timeout=PATIENCE_S)
    verdict = lab.guests.verdict("intel")
    assert (verdict.intact, verdict.cpu_vendor) == (True, "GenuineIntel"), verdict


def test_guest_of_another_vendor_does_not_start(lab: Lab) -> None:
    lab.guests.define(GuestSpec("stranger", cpu_xml=MODEST_CPU), host="hv3")
    with pytest.raises(LabError, match="vendor does not match"):
        lab.guests.start("stranger", "hv3")
