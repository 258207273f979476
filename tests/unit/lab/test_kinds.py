# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two kinds of host behind one interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.lab.domain import GuestSpec, domain_xml
from tests.lab.host import guest_of
from tests.lab.kinds import KINDS, kind_named
from tests.lab.machine.host import MachineHost
from tests.lab.pod.host import PodHost
from tests.lab.shell import LabError
from tests.lab.spec import HostOptions, LabSpec


def host(kind: str, **options: Any) -> LabSpec:
    return LabSpec(kind=kind, hosts={"hv1": HostOptions(**options)})


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("pod", {"cpu": "EPYC"}, "cpu is an option of machines"),
        ("machine", {"without": ("avx2",)}, "without is an option of pods"),
        ("machine", {"vendor": "Intel"}, "vendor is an option of pods"),
        ("machine", {"memory_mib": 512}, "needs 1024 MiB"),
    ],
)
def test_an_option_of_the_other_kind_is_refused(kind: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(LabError, match=message):
        kind_named(kind).check(host(kind, **options))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("pod", {"without": ("avx2",), "vendor": "Intel", "link": "1gbit", "memory_mib": 1}),
        ("machine", {"cpu": "SandyBridge", "link": "1gbit", "memory_mib": 1024}),
    ],
)
def test_its_own_options_are_accepted(kind: str, options: dict[str, object]) -> None:
    kind_named(kind).check(host(kind, **options))


def test_kinds_have_names() -> None:
    assert [kind.name for kind in KINDS] == ["pod", "machine"]
    with pytest.raises(LabError, match="pod or machine"):
        kind_named("container")


@pytest.mark.parametrize(("kind", "made"), [("pod", PodHost), ("machine", MachineHost)])
def test_a_kind_makes_its_hosts(kind: str, made: type) -> None:
    spec = host(kind)
    assert isinstance(kind_named(kind).host(spec, "hv1", Path("/x")), made)


def test_a_machine_has_a_default_cpu_and_memory_of_its_own() -> None:
    spec = LabSpec(
        kind="machine", hosts={"hv1": HostOptions(), "hv3": HostOptions(), "hv4": HostOptions(cpu="SandyBridge")}
    )
    shapes = [MachineHost(spec, name, Path("/x")).shape for name in spec.hosts]
    assert shapes == [("EPYC", 2048), ("EPYC-Rome", 2048), ("SandyBridge", 2048)]


@pytest.mark.parametrize(
    ("kind", "cpu", "type_", "word", "tick"),
    [
        ("pod", "", "qemu", "tsc=unstable", "lab.tick=0.2"),
        ("machine", "", "kvm", "mitigations=off", "lab.tick=1.2"),
        ("machine", "SandyBridge", "qemu", "mitigations=off", "lab.tick=1.2"),
    ],
)
def test_a_guest_suits_the_host_it_is_made_for(kind: str, cpu: str, type_: str, word: str, tick: str) -> None:
    made = kind_named(kind).host(host(kind, cpu=cpu), "hv1", Path("/x"))
    text = domain_xml(GuestSpec("g"), made.surroundings)
    assert f"<domain type='{type_}'>" in text
    assert {word, tick} <= set(text[text.index("<cmdline>") + 9 : text.index("</cmdline>")].split())


@pytest.mark.parametrize(
    ("words", "guest"),
    [
        (["/usr/bin/qemu-system-x86_64", "-name", "guest=web,debug-threads=on", "-S"], "web"),
        (["/usr/bin/qemu-system-x86_64", "-name", "web"], None),
        (["/usr/bin/qemu-system-x86_64", "-S"], None),
        (["grep", "-name", "guest=web"], None),
        ([], None),
    ],
)
def test_guests_are_recognised_by_their_command_line(words: list[str], guest: str | None) -> None:
    assert guest_of(words) == guest
