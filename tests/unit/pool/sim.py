# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small fleet of pretended hosts for the tests of pools: what each can give, what it proves and what it holds.

It simulates what libvirt, QEMU and the modules on hosts do as far as the planner sees it, in a few lines of set
arithmetic: comparing, probing, computing a baseline, writing a record. Real ones are in the integration tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _pool
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._cpu import PRESETS, PoolCpu

V2 = frozenset(["cx16", "lahf_lm", "pni", "popcnt", "sse4.1", "sse4.2", "ssse3"])
BASE = frozenset({"sse2", "vme"})
BASIC = V2 | BASE | {"aes"}

# What libvirt takes models for; those of presets besides kvm64 are not needed here.
MODELS = {
    "kvm64": BASE,
    "Small": BASIC,
    "Large": BASIC | {"avx", "xsave"},
}

VERSIONS = {"libvirt": "11.3.0", "qemu": "10.0.0", "kernel": "6.12.0"}

XSAVE = [[2, 256, 576], [5, 64, 1088]]

Data = dict[str, Any]


@dataclass
class Sim:
    """A pretended host; ``extra`` is what its QEMU adds to models unasked, ``unknown`` what its libvirt cannot name.

    ``made_bits`` is the address width that its QEMU gives whatever it was asked for.
    """

    name: str
    more: frozenset[str] = frozenset()
    less: frozenset[str] = frozenset()
    vendor: str | None = "AMD"
    bits: int | None = 48
    virt_type: str = "kvm"
    machine_types: list[str] = field(default_factory=lambda: ["pc-q35-10.0"])
    xsave: list[list[int]] | None = field(default_factory=lambda: XSAVE)
    tsc: Data | None = None
    extra: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    versions: Data = field(default_factory=lambda: dict(VERSIONS))
    record: Data | None = None
    error: Data | None = None
    vms: list[Data] = field(default_factory=list)
    uuid: str = ""
    no_cpu: bool = False
    made_bits: int | None = None

    @property
    def features(self) -> frozenset[str]:
        return (BASIC | self.more | {"hypervisor"}) - self.less

    def runs(self, cpu: PoolCpu) -> frozenset[str]:
        """What this host would have to have for a CPU."""
        return (MODELS.get(cpu.model, BASE) | set(cpu.require)) - set(cpu.disable)

    def presets(self) -> list[str]:
        given = [preset for preset in PRESETS.values() if preset.vendor == self.vendor and preset.cpu.model in MODELS]
        return sorted(preset.name for preset in given if self.runs(preset.cpu) <= self.features)

    def prove(self, cpu: PoolCpu) -> Data:
        proof: Data = {"host": self.name, "digest": cpu.digest(), "result": "superset", "missing": [], "reason": None}
        unknown = sorted(self.unknown & {*cpu.require, *cpu.disable})
        proof.update(unknown=unknown, unknown_model=None, probe=None)
        known = cpu.without(set(unknown) - set(cpu.require))
        missing = sorted(self.runs(known) - self.features | set(unknown) & set(cpu.require))
        if missing or (cpu.vendor or self.vendor) != self.vendor:
            return {**proof, "result": "incompatible", "missing": missing, "reason": "host CPU does not provide it"}
        if (cpu.address_bits or 0) > (self.bits or 52):
            return {**proof, "probe": {"features": [], "error": "address width"}}
        features = (self.runs(known) | self.extra | {"hypervisor"}) - set(known.disable)
        bits = self.made_bits or cpu.address_bits
        probe = {"model": cpu.model, "vendor": cpu.vendor, "address_bits": bits, "error": None}
        return {**proof, "probe": {**probe, "features": sorted(features), "cpu_xml": known.xml()}}

    def as_data(self, cpus: Data) -> Data:
        data: Data = {"name": self.name, "uuid": self.uuid or f"uuid-{self.name}", "virt_type": self.virt_type}
        data.update(machine_types=self.machine_types, versions=self.versions, cpu_presets=self.presets())
        if not self.no_cpu:
            xml = f"<cpu>{self.vendor} {self.bits} {' '.join(sorted(self.features))}</cpu>"
            data["cpu"] = f"c{len(cpus)}"
            cpus[data["cpu"]] = {"vendor": self.vendor, "features": sorted(self.features), "xml": xml}
            cpus[data["cpu"]].update({} if self.bits is None else {"address_bits": self.bits})
        optional = {"xsave": self.xsave, "tsc": self.tsc, "cpu_pool": self.record, "cpu_pool_error": self.error}
        return {**data, **{key: value for key, value in optional.items() if value is not None}}

    def proven(self) -> Data:
        return {
            "versions": dict(self.versions),
            "virt_type": self.virt_type,
            "features": sorted(self.features),
            "address_bits": self.bits,
            "xsave": self.xsave,
            "tsc": self.tsc,
        }


def vm(name: str, features: Iterable[str] = (), machine_type: str = "pc-q35-10.0", **fields: Any) -> Data:
    return {"name": name, "uuid": f"uuid-{name}", "features": sorted(features), "machine_type": machine_type, **fields}


def snapshot(hosts: Sequence[Sim]) -> Data:
    cpus: Data = {}
    data = [host.as_data(cpus) for host in hosts]
    vms = []
    for host in hosts:
        for item in host.vms:
            cpu_id = f"c{len(cpus)}"
            cpus[cpu_id] = {"vendor": host.vendor, "model": "x", "features": item["features"], "xml": "<cpu/>"}
            cpus[cpu_id].update({key: item[key] for key in ("address_bits",) if key in item})
            rest = {key: value for key, value in item.items() if key not in ("features", "address_bits")}
            vms.append({**rest, "host": host.name, "cpu": cpu_id})
    return {"version": 1, "cpus": cpus, "hosts": data, "vms": vms}


def want(*wishes: Any, **shared: Any) -> list[Data]:
    """Return wishes: ``"hv1:gold"`` is in gold, ``"hv1"`` in a default pool, ``"-hv1"`` in none."""
    found = []
    for wish in wishes:
        name, colon, pool = wish.partition(":")
        state = "absent" if name.startswith("-") else "present"
        fields = shared if colon else {}
        found.append({"name": name.lstrip("-"), "state": state, "pool": pool if colon else None, **fields})
    return found


def kept(*names: str) -> list[Data]:
    """Return wishes of hosts that stay what they are and have no opinion."""
    return [{"name": name, "kept": True} for name in names]


def compute(pool: Data, hosts: Sequence[Sim]) -> Data:
    """Compute a baseline as the host would that is asked to."""
    by_name = {host.name: host for host in hosts}
    common = frozenset.intersection(*(frozenset(item["features"]) for item in pool["compute_of"]))
    fitting = [name for name, features in MODELS.items() if features <= common]
    model = max(fitting, key=lambda name: (len(MODELS[name]), name), default="kvm64")
    cpu = PoolCpu(
        model,
        by_name[pool["compute_on"]].vendor,
        require=tuple(common - MODELS[model]),
        disable=tuple(MODELS[model] - common),
    )
    return {"pool": pool["name"], "compute_id": pool["compute_id"], "cpu": cpu.as_data(), "features": sorted(common)}


def ask(hosts: Sequence[Sim], wanted: list[Data], rounds: int = 25, **options: Any) -> Data:
    """Return the decided answer, computing and proving what it asks for."""
    candidates: list[Data] = []
    proofs: list[Data] = []
    for _round in range(rounds):
        request = {"wanted": wanted, **options, "candidates": candidates, "proofs": proofs}
        answer = _pool.plan(request, snapshot(hosts))
        if answer["stage"] == "decided":
            return answer
        by_name = {host.name: host for host in hosts}
        if answer["stage"] == "baseline":
            asked = [pool for pool in answer["pools"] if pool["compute_on"]]
            assert asked, answer
            candidates += [compute(pool, hosts) for pool in asked]
        else:
            asked = [host for host in answer["hosts"] if host["prove"]]
            proofs += [by_name[host["name"]].prove(PoolCpu.from_data(host["prove"])) for host in asked]
    raise AssertionError(f"not decided in {rounds} rounds: {answer}")


def writes(answer: Data) -> list[Data]:
    return [host for host in answer["hosts"] if host["action"] in ("write", "remove")]


def execute(hosts: Sequence[Sim], answer: Data, order: Sequence[int] | None = None, only: int | None = None) -> None:
    """Write what the answer says, in an order, perhaps only the first so many, as a run that is cut off."""
    todo = writes(answer)
    if order is not None:
        ranks = {host["name"]: rank for host, rank in zip(answer["hosts"], order, strict=False)}
        todo.sort(key=lambda item: ranks.get(item["name"], 0))
    by_name = {host.name: host for host in hosts}
    for item in todo[:only]:
        host = by_name[item["name"]]
        record = item["record"] if item["action"] == "write" else None
        host.record = None if record is None else {**record, "proven": host.proven()}


def converge(hosts: Sequence[Sim], wanted: list[Data], **options: Any) -> Data:
    """Plan and execute; return the plan."""
    answer = ask(hosts, wanted, **options)
    execute(hosts, answer)
    return answer


def copies(hosts: Sequence[Sim]) -> list[Sim]:
    return [replace(host) for host in hosts]


def pools(hosts: Sequence[Sim]) -> dict[str, list[str]]:
    """Return who holds a record of which pool."""
    found: dict[str, list[str]] = {}
    for host in sorted(hosts, key=lambda item: item.name):
        if host.record:
            found.setdefault(host.record["pool"], []).append(host.name)
    return found


def codes(answer: Data) -> set[tuple[str, str | None, str | None]]:
    return {(item["code"], item["host"], item["pool"]) for item in answer["refusals"]}


def one(answer: Data, pool: str) -> Data:
    return next(item for item in answer["pools"] if item["name"] == pool)


def of(answer: Data, host: str) -> Data:
    return next(item for item in answer["hosts"] if item["name"] == host)
