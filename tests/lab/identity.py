# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What makes a host this host, whatever its kind: names, keys, and the settings of libvirt and Python."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

from .shell import run
from .spec import LabSpec

LIBVIRTD_CONF = """\
listen_tls = 0
listen_tcp = 0
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
host_uuid = "{uuid}"
log_level = 3
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""

# No security driver: the guests' files belong to root, and hosts that are pods share one kernel.
QEMU_CONF = """\
security_driver = "none"
user = "root"
group = "root"
stdio_handler = "file"
remember_owner = 0
set_process_name = 1
migration_address = "{address}"
migration_host = "{address}"
"""

# Where Debian 13 has sitecustomize.py
PYTHON = "etc/python3.13/sitecustomize.py"
COMPILE_ONCE = Path(__file__).parent / "compile-once"

SECRET = ("_key", "/id_ed25519", "/authorized_keys")


def identity_files(spec: LabSpec, host: str, keys: Path) -> Dict[str, str]:
    """Text of the host's own files, by path below its root."""
    address = spec.address(host)
    hosts = "".join(f"{spec.address(name)} {name}\n" for name in spec.possible_hosts())
    return {
        "etc/hostname": f"{host}\n",
        "etc/hosts": f"127.0.0.1 localhost\n{hosts}",
        "etc/machine-id": spec.host_uuid(host).replace("-", "") + "\n",
        "etc/resolv.conf": "",
        "etc/libvirt/libvirtd.conf": LIBVIRTD_CONF.format(uuid=spec.host_uuid(host)),
        "etc/libvirt/qemu.conf": QEMU_CONF.format(address=address),
        PYTHON: COMPILE_ONCE.read_text(),
        "etc/ssh/ssh_host_ed25519_key": (keys / f"{host}_key").read_text(),
        "etc/ssh/ssh_host_ed25519_key.pub": (keys / f"{host}_key.pub").read_text(),
        "etc/ssh/ssh_known_hosts": (keys / "known_hosts").read_text(),
        "root/.ssh/id_ed25519": (keys / "id_ed25519").read_text(),
        "root/.ssh/authorized_keys": (keys / "id_ed25519.pub").read_text(),
    }


def mode_of(name: str) -> int:
    """Permissions of such a file."""
    return 0o600 if name.endswith(SECRET) else 0o644


def make_keys(spec: LabSpec, keys: Path) -> None:
    """One key pair for root everywhere in the lab, one host key per possible host, and the known_hosts of them all."""
    keys.mkdir(mode=0o700, exist_ok=True)
    names = ["id_ed25519", *(f"{host}_key" for host in spec.possible_hosts())]
    for name in names:
        if not (keys / name).exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab {spec.name}", "-f", str(keys / name)])
    lines = []
    for host in spec.possible_hosts():
        kind, key = (keys / f"{host}_key.pub").read_text().split()[:2]
        lines.append(f"{host},{spec.address(host)} {kind} {key}\n")
    (keys / "known_hosts").write_text("".join(lines), encoding="utf-8")
