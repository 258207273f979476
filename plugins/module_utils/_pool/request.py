# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What is asked for: the options of the module as values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Dict, FrozenSet, Optional, Tuple, Union

from .._cpu import PoolCpu
from .._errors import FleetError
from .._placement.fields import Fields
from .model import Fleet
from .reading import read_cpu, texts

QUESTIONS = ("converge", "stat")
RUNNING_VMS = ("refuse", "report")

# An address width that is not written into the CPU, so that the hypervisor chooses.
NO_BITS = 0


@dataclass(frozen=True)
class Wish:
    """What the inventory wants of a host. ``address_bits`` may be ``NO_BITS``; ``None`` keeps what is there.

    A host that is ``kept`` stays in the pool of its record and has no opinion about it.
    """

    name: str
    present: bool = True
    pool: Optional[str] = None
    definition: Optional[str] = None
    address_bits: Optional[int] = None
    kept: bool = False
    running_vms: Optional[str] = None


@dataclass(frozen=True)
class Candidate:
    """A baseline that a host has computed; ``compute_id`` says of which CPUs."""

    pool: str
    cpu: PoolCpu
    features: FrozenSet[str]
    compute_id: Optional[str] = None


@dataclass(frozen=True)
class Probe:
    """What QEMU of one host gave a guest, or ``error``."""

    model: Optional[str] = None
    vendor: Optional[str] = None
    address_bits: Optional[int] = None
    features: FrozenSet[str] = frozenset()
    error: Optional[str] = None


@dataclass(frozen=True)
class Proof:
    """What a host says to the CPU with a digest."""

    host: str
    digest: str
    compatible: bool
    missing: Tuple[str, ...] = ()
    reason: Optional[str] = None
    unknown: FrozenSet[str] = frozenset()
    unknown_model: Optional[str] = None
    probe: Optional[Probe] = None


@dataclass(frozen=True)
class Request:
    """A question. ``unavailable`` are hosts that cannot be looked at or written to in this run.

    ``reporting`` are hosts that may join although VMs run there with more than the CPU of the pool.
    """

    question: str = "converge"
    wishes: Tuple[Wish, ...] = ()
    unavailable: FrozenSet[str] = frozenset()
    recalc: Tuple[str, ...] = ()
    reporting: FrozenSet[str] = frozenset()
    candidates: Tuple[Candidate, ...] = ()
    proofs: Tuple[Proof, ...] = ()
    current: Optional[str] = None

    def proof(self, host: str, digest: str) -> Optional[Proof]:
        """Return the last proof of a CPU on a host."""
        return self._proofs.get((host, digest))

    @cached_property
    def _proofs(self) -> Dict[Tuple[str, str], Proof]:
        return {(proof.host, proof.digest): proof for proof in self.proofs}


def parse(data: Any, fleet: Fleet) -> Request:
    """Return the request in a mapping; raises ``FleetError`` (``bad_request``) naming the field."""
    fields = Fields(data, "request", "bad_request")
    unavailable = texts(fields, "unavailable") or frozenset()
    question = fields.choice("question", QUESTIONS) or "converge"
    running_vms = fields.choice("running_vms", RUNNING_VMS)
    wishes = _wishes(fields, unavailable, fleet)
    return Request(
        question=question,
        wishes=wishes,
        unavailable=unavailable,
        recalc=tuple(sorted(texts(fields, "recalc") or ())),
        reporting=frozenset(wish.name for wish in wishes if (wish.running_vms or running_vms) == "report"),
        candidates=tuple(_candidate(item) for item in fields.children("candidates")),
        proofs=tuple(_proof(item) for item in fields.children("proofs")),
        current=fields.text("current"),
    )


def _wishes(fields: Fields, unavailable: FrozenSet[str], fleet: Fleet) -> Tuple[Wish, ...]:
    wishes: Dict[str, Wish] = {}
    for item in fields.children("wanted"):
        wish = _wish(item)
        if wish.name in wishes:
            raise FleetError(
                f"request: host {wish.name} is in wanted twice. Name every host once.",
                code="bad_request",
                field="wanted",
                host=wish.name,
            )
        if wish.name not in fleet.hosts and wish.name not in unavailable:
            raise FleetError(
                f"request: host {wish.name} is in wanted, but not in the snapshot. Collect its part with host_info, or"
                " name it in unavailable.",
                code="bad_request",
                field="wanted",
                host=wish.name,
            )
        wishes[wish.name] = wish
    return tuple(wish for name, wish in sorted(wishes.items()) if name not in unavailable)


def _wish(item: Fields) -> Wish:
    fields = Fields(item.data, f"wanted {item.required_text('name')}", item.code)
    fields.refuse_unknown(("name", "kept", "state", "pool", "definition", "address_bits", "running_vms"))
    if fields.flag("kept"):
        return Wish(fields.required_text("name"), kept=True)
    return Wish(
        name=fields.required_text("name"),
        present=fields.choice("state", ("present", "absent")) != "absent",
        # An empty pool name is a name that is wrong; an empty definition is what a template makes of none.
        pool=_pool_name(fields),
        definition=fields.text("definition") if fields.data.get("definition") else None,
        address_bits=_bits(fields),
        running_vms=fields.choice("running_vms", RUNNING_VMS),
    )


def _pool_name(fields: Fields) -> Optional[str]:
    name = fields.data.get("pool")
    if name is not None and not isinstance(name, str):
        raise fields.wrong("pool", "text")
    return name


def _bits(fields: Fields) -> Optional[int]:
    value: Union[int, str, None] = fields.data.get("address_bits")
    if value is None or value == "":
        return None
    if value == "none":
        return NO_BITS
    text = str(value)
    # 32 bits are what a processor with PAE has at least, 52 are the limit of the architecture.
    if isinstance(value, bool) or not text.isdecimal() or not 32 <= int(text) <= 52:
        raise fields.wrong("address_bits", "a number of bits from 32 to 52, or none")
    return int(text)


def _candidate(fields: Fields) -> Candidate:
    cpu = fields.child("cpu")
    if cpu is None:
        raise fields.wrong("cpu", "a mapping")
    features = texts(fields, "features")
    if features is None:
        raise fields.wrong("features", "a list of texts")
    return Candidate(fields.required_text("pool"), read_cpu(cpu), features, fields.text("compute_id"))


def _proof(fields: Fields) -> Proof:
    probe = fields.child("probe")
    result = fields.choice("result", ("identical", "superset", "incompatible"))
    if result is None:
        raise fields.wrong("result", "identical, superset or incompatible")
    return Proof(
        host=fields.required_text("host"),
        digest=fields.required_text("digest"),
        compatible=result != "incompatible",
        missing=tuple(sorted(texts(fields, "missing") or ())),
        reason=fields.text("reason"),
        unknown=texts(fields, "unknown") or frozenset(),
        unknown_model=fields.text("unknown_model"),
        probe=None if probe is None else _probe(probe),
    )


def _probe(fields: Fields) -> Probe:
    return Probe(
        model=fields.text("model"),
        vendor=fields.text("vendor"),
        address_bits=fields.whole("address_bits", "bits"),
        features=texts(fields, "features") or frozenset(),
        error=fields.text("error"),
    )
