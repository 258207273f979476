# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What libvirt's words about a move that failed mean. They are those of libvirt 11.3 and QEMU 10.0."""

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration.failures import Failures
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.api import fleet_error
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.causes import MIGRATION, TLS, cause_of

FAILURES = Failures("web1", "hv1", "hv2", 600)
JOB = "operation failed: migration failed. Message from the source host: operation failed: job 'migration out' failed"
OBJECT = "internal error: unable to execute QEMU command 'object-add'"
STARTING = "internal error: process exited while connecting to monitor: qemu-system-x86_64"

MOVES = [
    ("tls_failed", f"{OBJECT}: Unable to access credentials /etc/pki/qemu/ca-cert.pem: No such file or directory",
     "virtops.kvm_fleet.transport"),
    ("tls_failed", f"{OBJECT}: The client certificate /etc/pki/qemu/client-cert.pem has expired", "valid now"),
    ("tls_failed", f"{JOB}: The certificate hasn't got a known issuer. Message from the destination host: internal "
     "error: QEMU unexpectedly closed the monitor (vm='web1')", "one authority"),
    ("tls_failed", f"{JOB}: Certificate does not match the hostname 10.0.0.2.", "name the address"),
    ("port_blocked", "unable to connect to server at '10.0.0.2:49152': Connection refused", "open the migration ports"),
    ("port_blocked", "Unable to resolve address 'hv2' service '49152': Temporary failure in name resolution",
     "leads from hv1 to hv2"),
    ("migration_failed", "unable to connect to server at 'hv2:16514': Connection refused", "Connection refused"),
    ("not_enough_memory", f"{STARTING}: cannot set up guest memory 'pc.ram': Cannot allocate memory",
     "Free memory on hv2"),
    ("disk_full", "cannot write data to file '/etc/libvirt/qemu/web1.xml.new': No space left on device",
     "Make room on hv2"),
    ("disk_full", "internal error: failed to write master key file for domain", "Make room on hv2"),
    ("migration_failed", "internal error: QEMU unexpectedly closed the monitor (vm='web1')",
     "/var/log/libvirt/qemu/web1.log on hv2"),
    ("migration_failed", "internal error: client socket is closed", "run this again"),
    ("migration_failed", "End of file while reading data: : Input/output error", "run this again"),
    ("migration_failed", "operation aborted: migration out job: canceled by client", "canceled by client"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "words", "step"), MOVES)
def test_a_move_that_failed_is_told_with_its_cause_and_the_next_step(code: str, words: str, step: str) -> None:
    told = FAILURES.refused(None, RuntimeError(words))
    assert told.code == code
    assert told.msg.startswith(f"VM web1 did not migrate to hv2 and is still on hv1: {words.rstrip('.')}")
    assert step in told.msg
    assert "{" not in told.msg
    assert told.facts["libvirt_message"] == words


def test_a_command_that_failed_is_not_quoted_but_kept() -> None:
    words = (
        "internal error: Child process (LC_ALL=C /usr/bin/qemu -m 1 -add-fd (a)\n -S) unexpected exit status 1: hello"
    )
    told = FAILURES.refused(None, RuntimeError(words))
    assert "still on hv1: internal error: Child process unexpected exit status 1: hello. See /var/log" in told.msg
    assert told.facts["libvirt_message"] == words


PEERS = [
    ("tls_failed", "authentication failed: Failed to verify peer's certificate"),
    ("tls_failed", "The client certificate /etc/pki/libvirt/clientcert.pem has expired"),
    ("tls_failed", "Cannot read CA certificate '/etc/pki/CA/cacert.pem': No such file or directory"),
    ("libvirtd_down", "unable to connect to server at 'hv2:16514': Connection refused"),
    ("libvirtd_down", "Cannot recv data: Host key verification failed.: Connection reset by peer"),
]


@pytest.mark.parametrize(("code", "words"), PEERS)
def test_a_host_whose_certificate_is_refused_is_not_down(code: str, words: str) -> None:
    told = fleet_error(RuntimeError(words), "Cannot connect to qemu+tls://hv2/system", "libvirtd_down", uri="x")
    assert told.code == code
    assert (TLS.step in told.msg) == (code == "tls_failed")
    assert told.facts["uri"] == "x"


def test_certificates_matter_only_to_connections() -> None:
    words = "The server certificate /etc/pki/libvirt-vnc/server-cert.pem has expired"
    told = fleet_error(RuntimeError(words), "Starting VM web1", "start_failed")
    assert (told.code, told.msg) == ("start_failed", f"Starting VM web1: {words}")


def test_every_step_can_be_told() -> None:
    for cause in MIGRATION:
        assert cause.step.format(vm="a", source="b", destination="c", wait_timeout=1)
        assert cause_of("nothing that anybody knows", (cause,)) is None
