# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way between two hosts is closed: by a firewall, by certificates, by a name that leads elsewhere.

The VM stays, the error says what is in the way, and the same move succeeds when it is gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Dict

import pytest

from tests.integration.certificates import Authority
from tests.integration.fleet import Fleet, busy
from tests.integration.runner import Ansible
from tests.integration.test_migrate_troubles import told, wrong_hosts
from tests.lab import Lab

PORTS = "INPUT -p tcp --dport 49152:49215"


def migrate(ansible: Ansible, fleet: Fleet, uri: str = "", **options: Any) -> Dict[str, Any]:
    move = fleet.move("busy", "hv2", **({"uri": uri} if uri else {}))
    result: Dict[str, Any] = ansible.module("hv1", "vm_migrate", moves=[move], forecast=False, **options)
    return result


def refused(ansible: Ansible, fleet: Fleet, code: str, *words: str, uri: str = "", **options: Any) -> None:
    """Try to move the guest, and see that this is refused with this code and these words, and the guest stays."""
    result = told(lambda: migrate(ansible, fleet, uri, **options))
    assert (result["failed"], result.get("error")) == (True, code), result
    assert all(word in result["msg"] for word in ("busy", "hv1", "hv2", *words)), result["msg"]
    fleet.assert_intact_and_once("busy", "hv1")


def moves(ansible: Ansible, fleet: Fleet, uri: str = "", **options: Any) -> None:
    result = migrate(ansible, fleet, uri, **options)
    assert not result["failed"], result
    fleet.assert_intact_and_once("busy", "hv2")


@pytest.mark.long
def test_a_firewall_that_drops_or_rejects_the_memory_is_told(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(busy())
    step = "open the migration ports"
    with lab.faults.firewall("hv2", f"{PORTS} -j DROP"):
        refused(ansible, fleet, "port_blocked", step, "Nothing was migrated", "timed out")
    # It answers as a port does on which nobody listens yet, so that is seen when the migration begins.
    with lab.faults.firewall("hv2", f"{PORTS} -j REJECT"):
        refused(ansible, fleet, "port_blocked", step, "still on hv1", "Connection refused")
    moves(ansible, fleet)


@contextmanager
def without_address(lab: Lab, host: str) -> Iterator[None]:
    """Let libvirt of a host tell others its name, as it does unless qemu.conf gives an address."""
    conf = "/etc/libvirt/qemu.conf"
    kept = lab[host].run(["cat", conf]).stdout
    told = [line for line in kept.splitlines() if not line.startswith(("migration_host", "migration_address"))]
    lab[host].run(f"cat >{conf}", stdin="\n".join([*told, 'migration_address = "0.0.0.0"', ""]))
    lab.faults.restart_libvirtd(host)
    try:
        yield
    finally:
        lab[host].run(f"cat >{conf}", stdin=kept)
        lab.faults.restart_libvirtd(host)


def test_a_name_of_the_destination_that_leads_back_to_the_source_is_told(
    lab: Lab, ansible: Ansible, fleet: Fleet
) -> None:
    fleet.have(busy())
    with without_address(lab, "hv2"):
        with wrong_hosts(lab, "hv1", "127.0.0.1 hv2"):
            refused(ansible, fleet, "port_blocked", "'hv2:49152'", "leads from hv1 to hv2", "migration_host")
        # As Debian writes it for every host: what the name means there does not matter.
        with wrong_hosts(lab, "hv2", "127.0.1.1 hv2"):
            moves(ansible, fleet)


def test_an_address_of_the_source_itself_is_refused(ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(busy())
    here = "qemu+ssh://root@localhost/system?no_verify=1"
    refused(ansible, fleet, "wrong_host", "localhost", uri=here)
    unknown = {**fleet.move("busy", "hv2"), "uri": here, "destination_uuid": None}
    result = ansible.module("hv1", "vm_migrate", moves=[unknown])
    assert (result["failed"], result["error"]) == (True, "same_host"), result


@pytest.mark.long
def test_bad_certificates_of_qemu_are_told(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(busy())
    ours, theirs = Authority("ours"), Authority("theirs")
    step = "virtops.kvm_fleet.transport"
    ours.papers(lab["hv1"]).put(lab["hv1"])
    ours.papers(lab["hv2"], days=-1).put(lab["hv2"])
    refused(ansible, fleet, "tls_failed", "has expired", step, tls=True)
    theirs.papers(lab["hv2"]).put(lab["hv2"])
    refused(ansible, fleet, "tls_failed", "certificate", step, tls=True)
    ours.papers(lab["hv2"]).put(lab["hv2"])
    moves(ansible, fleet, tls=True)


@contextmanager
def listening_for_tls(lab: Lab, host: str) -> Iterator[None]:
    """Let libvirtd of a host listen for TLS, also with a certificate that ended while it ran."""
    machine, conf, service = lab[host], "/etc/libvirt/libvirtd.conf", "/etc/init.d/libvirtd"
    kept = {path: machine.run(["cat", path]).stdout for path in (conf, service)}
    options = "listen_tls = 1\ntls_no_sanity_certificate = 1\n"
    machine.run(f"cat >{conf}", stdin=kept[conf].replace("listen_tls = 0\n", options))
    machine.run(f"cat >{service}", stdin=kept[service].replace("-- -d ", "-- -d --listen "))
    lab.faults.restart_libvirtd(host)
    try:
        yield
    finally:
        for path, text in kept.items():
            machine.run(f"cat >{path}", stdin=text)
        lab.faults.restart_libvirtd(host)


@pytest.mark.long
def test_bad_certificates_of_libvirt_are_told_before_anything_moves(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(busy())
    ours, theirs = Authority("ours"), Authority("theirs")
    uri = f"qemu+tls://{lab['hv2'].address}/system"
    told = ("Nothing was migrated", "certificate", "virtops.kvm_fleet.transport")
    ours.papers(lab["hv1"]).put(lab["hv1"])
    ours.papers(lab["hv2"], days=-1).put(lab["hv2"])
    with listening_for_tls(lab, "hv2"):
        refused(ansible, fleet, "tls_failed", *told, uri=uri)
        ours.papers(lab["hv2"]).put(lab["hv2"])
        lab.faults.restart_libvirtd("hv2")
        ours.papers(lab["hv1"], days=-1).put(lab["hv1"])
        refused(ansible, fleet, "tls_failed", *told, "has expired", uri=uri)
        theirs.papers(lab["hv1"]).put(lab["hv1"])
        refused(ansible, fleet, "tls_failed", *told, uri=uri)
        ours.papers(lab["hv1"]).put(lab["hv1"])
        moves(ansible, fleet, uri)
