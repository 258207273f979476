# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options, names and addresses of a lab."""

from __future__ import annotations

import pytest

from tests.lab.shell import LabError
from tests.lab.spec import HostOptions, LabSpec, default_subnet, hardware, merge_hosts, parse_host_option


@pytest.mark.parametrize(
    ("text", "host", "options"),
    [
        ("hv1", "hv1", HostOptions()),
        ("hv2:without=fma,avx2", "hv2", HostOptions(without=("avx2", "fma"))),
        ("hv2:vendor=Intel:without=avx2", "hv2", HostOptions(without=("avx2",), vendor="Intel")),
        ("hv3:link=200mbit", "hv3", HostOptions(link="200mbit")),
        ("hv3:link=none:memory=2048", "hv3", HostOptions(memory_mib=2048)),
        ("hv2:cpu=EPYC-Rome:memory=2048", "hv2", HostOptions(cpu="EPYC-Rome", memory_mib=2048)),
        (
            "hv1:cpu=Haswell-noTSX,vendor=AuthenticAMD",
            "hv1",
            HostOptions(cpu="Haswell-noTSX,vendor=AuthenticAMD"),
        ),
    ],
)
def test_host_option_reads(text: str, host: str, options: HostOptions) -> None:
    assert parse_host_option(text) == (host, options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pod1", "hv1 to hv6"),
        ("hv7", "hv1 to hv6"),
        ("hv1:without", "not KEY=VALUE"),
        ("hv1:without=avx9", "unknown CPU features avx9"),
        ("hv1:vendor=VIA", "'VIA' is none of AMD, Intel"),
        ("hv1:link=fast", "not a rate"),
        ("hv1:cpu=Opteron_G4", "hangs"),
        ("hv1:cpu=a b", "not a CPU model"),
        ("hv1:memory=4G", "none of without"),
        ("hv1:color=red", "none of without"),
    ],
)
def test_host_option_names_the_wrong_part(text: str, message: str) -> None:
    with pytest.raises(LabError, match=message):
        parse_host_option(text)


@pytest.mark.parametrize("name", ["", "Lab", "a-b", "1lab", "x" * 10, "../up"])
def test_lab_name_must_fit_interface_names(name: str) -> None:
    with pytest.raises(LabError, match="lab name"):
        LabSpec(name=name)


def test_interface_names_have_at_most_15_characters() -> None:
    spec = LabSpec(name="x" * 9)
    assert max(len(spec.veth(host)) for host in spec.possible_hosts()) <= 15


def test_addresses_follow_the_subnet() -> None:
    spec = LabSpec(subnet="10.9.8.0/24")
    assert (spec.gateway, spec.address("hv1"), spec.address("hv6")) == ("10.9.8.1", "10.9.8.11", "10.9.8.16")


@pytest.mark.parametrize("subnet", ["10.0.0.0/25", "10.0.0.1/24", "lan"])
def test_subnet_must_be_a_network_of_24_bits_or_larger(subnet: str) -> None:
    with pytest.raises(LabError, match="subnet"):
        LabSpec(subnet=subnet)


def test_labs_of_different_names_have_different_subnets_and_host_uuids() -> None:
    assert default_subnet("default") == "10.77.0.0/24" != default_subnet("other")
    assert LabSpec(name="a").host_uuid("hv1") != LabSpec(name="b").host_uuid("hv1")


def test_spec_survives_json() -> None:
    spec = LabSpec(name="x", hosts={"hv1": HostOptions(without=("avx2",), link="1gbit", memory_mib=1, vendor="Intel")})
    assert LabSpec.from_json(spec.to_json()) == spec


def test_kind_survives_json_and_was_pod_before_there_were_kinds() -> None:
    spec = LabSpec(name="x", kind="machine", hosts={"hv1": HostOptions(cpu="EPYC")})
    assert LabSpec.from_json(spec.to_json()) == spec
    old = '{"name": "x", "subnet": "10.9.8.0/24", "hosts": {"hv1": {"without": [], "link": null, "memory_mib": 4096}}}'
    assert LabSpec.from_json(old).kind == "pod"


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (HostOptions(link="1mbit", memory_mib=512), True),
        (HostOptions(without=("avx2",)), False),
        (HostOptions(vendor="Intel"), False),
        (HostOptions(cpu="EPYC"), False),
    ],
)
def test_a_host_that_runs_keeps_its_cpu(other: HostOptions, same: bool) -> None:
    assert (hardware(other) == hardware(HostOptions())) is same


KNOWN = {"hv1": HostOptions(link="1mbit"), "hv2": HostOptions()}


@pytest.mark.parametrize(
    ("count", "known", "given", "names"),
    [
        (None, {}, {}, ["hv1", "hv2", "hv3"]),
        (2, {}, {}, ["hv1", "hv2"]),
        (None, KNOWN, {}, ["hv1", "hv2"]),
        (3, KNOWN, {}, ["hv1", "hv2", "hv3"]),
        (1, KNOWN, {}, ["hv1", "hv2"]),  # `up` never removes a host
        (None, {}, {"hv2": HostOptions()}, ["hv1", "hv2"]),
    ],
)
def test_up_adds_what_is_missing(count, known, given, names) -> None:  # noqa: ANN001
    assert list(merge_hosts(count, known, given)) == names


def test_options_are_kept_unless_given_anew() -> None:
    merged = merge_hosts(2, KNOWN, {"hv2": HostOptions(link="5mbit")})
    assert (merged["hv1"].link, merged["hv2"].link) == ("1mbit", "5mbit")


@pytest.mark.parametrize("count", [0, 7])
def test_number_of_hosts_is_limited(count: int) -> None:
    with pytest.raises(LabError, match="1 to 6 hosts"):
        merge_hosts(count, {}, {})
