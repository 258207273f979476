# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CPUs at the edge to libvirt: folding of many, names in its words, and what a VM's change looks like."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._cpu import CpuDescription, PoolCpu, parse_cpu
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.pool_record import PoolRecord
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt import cpu
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.baseline import (
    Shared,
    costs,
    hosts_of,
    shared_cpu,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.compare import pool_of, relate
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.cpu import (
    baseline,
    compare,
    folded,
    last_word,
    require_model,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.vm_cpu import CpuChange, diff_texts
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.libvirt.binding import INTERNAL_ERROR, Libvirt, LibvirtError

CPUS = st.lists(st.frozensets(st.sampled_from("abcdefgh")).map(lambda cpu: "".join(sorted(cpu))), min_size=1)
KVM64 = "<cpu><model>kvm64</model></cpu>"


def epyc(*lacks: str) -> Any:
    """A hypervisor with KVM on an EPYC that lacks some features, and topoext in its host-model as all do.

    The laboratory's is emulated and lacks much more, so that few CPUs can be compared there.
    """

    def compare(*arguments: Any) -> int:
        asked = {feature.name for feature in parse_cpu(arguments[4]).features if feature.policy == "require"}
        missing = [name for name in ("topoext", *lacks) if name in asked]
        if missing:
            raise LibvirtError(f"incompatible: Host CPU does not provide required features: {', '.join(missing)}")
        return 2

    model = "<mode name='host-model' supported='yes'><model>EPYC</model><vendor>AMD</vendor></mode>"
    offer = f"<domain>kvm</domain><machine>q35</machine><arch>x86_64</arch><cpu>{model}</cpu>"
    capabilities = f"<domainCapabilities>{offer}</domainCapabilities>"
    return SimpleNamespace(compareHypervisorCPU=compare, getDomainCapabilities=lambda *_arguments: capabilities)


@pytest.mark.parametrize(
    ("lacks", "result", "missing"),
    [((), "superset", ()), (("pku",), "incompatible", ("pku",))],
)
def test_what_kvm_gives_on_request_makes_no_cpu_incompatible(
    monkeypatch: pytest.MonkeyPatch, lacks: tuple[str, ...], result: str, missing: tuple[str, ...]
) -> None:
    monkeypatch.setattr(cpu, "libvirt", Libvirt(VIR_ERR_CPU_INCOMPATIBLE=INTERNAL_ERROR, VIR_CPU_COMPARE_IDENTICAL=1))
    asked = "".join(f"<feature policy='require' name='{name}'/>" for name in ("topoext", *lacks))
    found = compare(epyc(*lacks), f"<cpu><model>EPYC</model><vendor>AMD</vendor>{asked}</cpu>")
    assert (found.result, found.missing) == (result, missing)


@given(cpus=CPUS, limit=st.integers(2, 5))
def test_many_cpus_are_folded_into_what_all_have_with_few_at_once(cpus: list[str], limit: int) -> None:
    sizes = []

    def intersection(chunk: list[str]) -> str:
        sizes.append(len(chunk))
        return "".join(sorted(set.intersection(*map(set, chunk))))

    assert folded(intersection, cpus, limit) == "".join(sorted(set.intersection(*map(set, cpus))))
    assert max(sizes) <= limit
    if len(set(cpus)) <= limit:
        assert len(sizes) == 1


def test_equal_cpus_are_asked_about_once_and_in_one_order() -> None:
    asked = []
    folded(lambda chunk: asked.append(chunk) or "", ["b", "a", "b", "a"], 256)
    assert asked == [["a", "b"]]


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("internal error: Unknown CPU feature vmx-ins-outs", "vmx-ins-outs"),
        ("internal error: Unknown CPU model SandyBridge-v1", "SandyBridge-v1"),
        ("unsupported configuration: unknown CPU feature: nonesuch", "nonesuch"),
        ("Interner Fehler: Unbekannte CPU-Funktion ssbd", "ssbd"),
        ("", ""),
    ],
)
def test_an_unknown_name_is_the_last_word_in_any_language(message: str, name: str) -> None:
    assert last_word(Exception(message)) == name


@pytest.mark.parametrize(
    ("cpus", "hosts", "code", "words"),
    [
        ([], [], "bad_input", "No CPU"),
        ([KVM64, "<cpu><model>"], ["hv1", "hv2"], "bad_xml", "hv2: "),
        ([KVM64, "<domain/>"], [], "bad_xml", "CPU 2: "),
        (["<cpu mode='host-passthrough'/>"], ["hv1"], "bad_cpu", "hv1 names no CPU model"),
    ],
)
def test_wrong_cpus_are_refused_before_libvirt_is_asked(
    cpus: list[str], hosts: list[str], code: str, words: str
) -> None:
    with pytest.raises(FleetError) as raised:
        baseline(None, cpus, hosts=hosts)
    assert raised.value.code == code
    assert raised.value.msg.startswith(words)


def test_a_host_is_named_once() -> None:
    with pytest.raises(FleetError, match="hv1 is given twice"):
        shared_cpu(None, [{"name": "hv1", "cpu_xml": KVM64}] * 2, migratable=True)


def test_cpus_without_hosts_are_numbered() -> None:
    assert hosts_of([KVM64, "x"]) == [{"name": "CPU 1", "cpu_xml": KVM64}, {"name": "CPU 2", "cpu_xml": "x"}]


def test_hosts_that_cost_nothing_and_mask_nothing_are_left_out() -> None:
    hosts = {"hv1": frozenset("ab"), "hv2": frozenset("a"), "hv3": frozenset("ab")}
    assert costs(Shared(PoolCpu("kvm64"), frozenset("a"), hosts, 2)) == {
        "limits": [{"feature": "b", "hosts": ["hv2"]}],
        "gain_without": [{"host": "hv2", "features": ["b"]}],
        "masked": [{"host": "hv1", "features": ["b"]}, {"host": "hv3", "features": ["b"]}],
    }


def test_an_expanded_cpu_names_all_features_and_keeps_what_it_disables() -> None:
    cpu = PoolCpu("Westmere", "Intel", require=("avx",), disable=("vme",), address_bits=40)
    expanded = Shared(cpu, frozenset({"avx", "aes"}), {}, 1).expanded()
    assert expanded == PoolCpu("Westmere", "Intel", require=("aes", "avx"), disable=("vme",), address_bits=40)


@pytest.mark.parametrize(
    ("described", "words"),
    [
        (CpuDescription(mode="host-model"), "mode host-model"),
        (CpuDescription(mode="host-model", model="EPYC"), "mode host-model"),
        (CpuDescription(mode="host-passthrough"), "mode host-passthrough"),
        (CpuDescription(mode="maximum"), "mode maximum"),
        (CpuDescription(), "no model"),
    ],
)
def test_a_cpu_that_is_another_one_on_every_host_is_not_compared(described: CpuDescription, words: str) -> None:
    with pytest.raises(FleetError, match=words) as raised:
        require_model(described)
    assert raised.value.code == "bad_cpu"


@pytest.mark.parametrize(
    ("cpu", "missing", "extra"),
    [
        ("ab", "", ""),
        # A guest that runs has what QEMU adds, a definition has not: both are the pool's CPU.
        ("abq", "", ""),
        ("a", "", "b"),
        ("abc", "c", ""),
        ("ac", "c", "b"),
        # QEMU hides what the pool's definition names: that is not a feature a guest could lose.
        ("abh", "", ""),
    ],
)
def test_a_cpu_is_compared_with_what_the_guests_of_a_pool_see(cpu: str, missing: str, extra: str) -> None:
    assert relate(frozenset(cpu), given=frozenset("abq"), named=frozenset("abh")) == (tuple(missing), tuple(extra))


def test_a_host_without_pool_is_an_error_with_a_next_step() -> None:
    record: PoolRecord | None = None
    with pytest.raises(FleetError, match="no CPU pool") as raised:
        pool_of(record)
    assert raised.value.code == "no_pool"


def test_the_diff_shows_only_vms_that_change() -> None:
    before, after = diff_texts(
        [CpuChange("a", "<cpu>1</cpu>", "<cpu>2</cpu>"), CpuChange("b", "same", "same"), CpuChange("c", None, "new")]
    )
    assert before == "VM a\n<cpu>1</cpu>\nVM c\n(no cpu)\n"
    assert after == "VM a\n<cpu>2</cpu>\nVM c\nnew\n"
    assert diff_texts([CpuChange("d", skipped="it is transient")]) == ("", "")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            CpuChange("a", "1", "2"),
            {"changed": True, "cpu_xml": "2", "restart_required": False, "difference": None, "skipped": None},
        ),
        (
            CpuChange("a", "2", "2", {"extra": ["avx"]}),
            {
                "changed": False,
                "cpu_xml": "2",
                "restart_required": True,
                "difference": {"extra": ["avx"]},
                "skipped": None,
            },
        ),
        (
            CpuChange("a", skipped="it is to be kept"),
            {
                "changed": False,
                "cpu_xml": None,
                "restart_required": False,
                "difference": None,
                "skipped": "it is to be kept",
            },
        ),
    ],
)
def test_a_vm_has_the_same_keys_whatever_becomes_of_it(change: CpuChange, expected: dict[str, object]) -> None:
    assert change.as_dict() == {"name": "a", **expected}
