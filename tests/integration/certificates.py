# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates of hosts as libvirt and QEMU want them, good ones and bad ones."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.lab import Host

SIGNING = ("key_cert_sign", "crl_sign")
ANSWERING = ("digital_signature", "key_encipherment")
USES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
# Where libvirt and QEMU look: authority, certificates, keys.
LIBVIRT = (
    "/etc/pki/CA/cacert.pem",
    ("/etc/pki/libvirt/servercert.pem", "/etc/pki/libvirt/clientcert.pem"),
    ("/etc/pki/libvirt/private/serverkey.pem", "/etc/pki/libvirt/private/clientkey.pem"),
)
QEMU = (
    "/etc/pki/qemu/ca-cert.pem",
    ("/etc/pki/qemu/server-cert.pem", "/etc/pki/qemu/client-cert.pem"),
    ("/etc/pki/qemu/server-key.pem", "/etc/pki/qemu/client-key.pem"),
)
PUT = "mkdir -p $(dirname {path}); cat >{path} <<'END'\n{text}END\n"


@dataclass(frozen=True)
class Papers:
    """The authority's certificate, a host's own one, and its key, as PEM."""

    authority: str
    certificate: str
    key: str

    def put(self, host: Host) -> None:
        """Give them to libvirt and to QEMU of a host, as server and as client."""
        files = {}
        for authority, certificates, keys in (LIBVIRT, QEMU):
            files[authority] = self.authority
            files.update(dict.fromkeys(certificates, self.certificate))
            files.update(dict.fromkeys(keys, self.key))
        host.run(["sh"], stdin="".join(PUT.format(path=path, text=text) for path, text in files.items()))


class Authority:
    """Signs certificates of hosts."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._certificate = self._signed(name, self._key.public_key(), SIGNING, days=2)

    def papers(self, host: Host, days: int = 1) -> Papers:
        """Return papers for the name and the address of a host that end after so many days."""
        key = ec.generate_private_key(ec.SECP256R1())
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        address = x509.IPAddress(ipaddress.ip_address(host.address))
        names = x509.SubjectAlternativeName([x509.DNSName(host.name), address])
        return Papers(self._certificate, self._signed(host.name, key.public_key(), ANSWERING, days, names), text)

    def _signed(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        uses: tuple[str, ...],
        days: int,
        names: x509.SubjectAlternativeName | None = None,
    ) -> str:
        now = datetime.now(UTC)
        usage = x509.KeyUsage(**{use: use in uses for use in USES})
        builder = (
            x509.CertificateBuilder(self._name, _name(name), key, x509.random_serial_number())
            .not_valid_before(now - timedelta(days=10))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=names is None, path_length=None), critical=True)
            .add_extension(usage, critical=True)
        )
        if names is not None:
            both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
            builder = builder.add_extension(names, critical=False).add_extension(both, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
