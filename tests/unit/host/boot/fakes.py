# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host's directory tree, and commands that answer without the tools being there."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.command import NOT_FOUND, Ran

DATA = Path(__file__).parent / "data"
KERNELS = ("6.12.41+deb13-amd64", "6.12.38+deb13-amd64")

# grub-mkconfig as Debian has it, cut down to what makes the command lines. It is run by a real shell.
MKCONFIG = r"""
set -e
[ ! -f etc/default/grub ] || . ./etc/default/grub
if [ "$DROP_INS" = yes ]; then
  for x in ./etc/default/grub.d/*.cfg; do [ ! -e "$x" ] || . "$x"; done
fi
entry() {
  echo "menuentry 'Debian, with Linux $1' \$menuentry_id_option 'gnulinux-$1-$2-/dev/vda' {"
  echo "	linux	/boot/vmlinuz-$1 root=/dev/vda ro $3"
  echo "}"
}
exec > "$CONFIG"
echo "### BEGIN /etc/grub.d/10_linux ###"
for kernel in $KERNELS; do
  entry "$kernel" advanced "$GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT"
  entry "$kernel" recovery "single $GRUB_CMDLINE_LINUX"
done
echo "### END /etc/grub.d/10_linux ###"
"""


class Host:
    """A tree below ``root``. ``commands`` answers by program; ``runs`` are the commands so far."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs: list[list[str]] = []
        self.commands: dict[str, Callable[[Sequence[str]], Ran]] = {}

    def run(self, argv: Sequence[str]) -> Ran:
        self.runs.append(list(argv))
        command = self.commands.get(argv[0])
        return command(argv) if command else Ran(NOT_FOUND)

    def write(self, path: str, text: str) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def add_program(self, path: str, command: Callable[[Sequence[str]], Ran], text: str = "#!/bin/sh\n") -> None:
        self.write(path, text)
        self.commands[Path(path).name] = command

    def files(self, *under: str) -> dict[str, bytes]:
        """The content of every file, to compare before with after."""
        found = (path for directory in under or (".",) for path in (self.root / directory).rglob("*"))
        return {str(path.relative_to(self.root)): path.read_bytes() for path in found if path.is_file()}

    def mkconfig(self, config: str, drop_ins: bool) -> Callable[[Sequence[str]], Ran]:
        """Return the command that writes grub.cfg."""

        def command(_argv: Sequence[str]) -> Ran:
            environment = {"CONFIG": config, "DROP_INS": "yes" if drop_ins else "no", "KERNELS": " ".join(KERNELS)}
            done = subprocess.run(
                ["sh", "-c", MKCONFIG], cwd=self.root, env=environment, capture_output=True, text=True, check=False
            )
            return Ran(done.returncode, done.stdout, done.stderr)

        return command


def debian(root: Path) -> Host:
    """A Debian host with GRUB, as a cloud image has it."""
    host = Host(root)
    command = host.mkconfig("boot/grub/grub.cfg", drop_ins=True)
    host.add_program("usr/sbin/grub-mkconfig", command, "for x in ${sysconfdir}/default/grub.d/*.cfg ; do\n")
    host.add_program("usr/sbin/update-grub", command)
    host.write("etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX=""\n')
    host.write("etc/default/grub.d/50-cloudimg.cfg", 'GRUB_CMDLINE_LINUX_DEFAULT="console=tty0 console=ttyS0,115200"\n')
    (root / "boot/grub").mkdir(parents=True)
    (root / "var/lib").mkdir(parents=True)
    command(())
    return host


def suse(root: Path) -> Host:
    """A host whose grub2-mkconfig knows no directory of settings."""
    host = Host(root)
    command = host.mkconfig("boot/grub2/grub.cfg", drop_ins=False)
    host.add_program("usr/sbin/grub2-mkconfig", command, ". ${sysconfdir}/default/grub\n")
    host.write("etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="splash=silent"\nGRUB_CMDLINE_LINUX=""\n')
    (root / "boot/grub2").mkdir(parents=True)
    (root / "var/lib").mkdir(parents=True)
    command(())
    return host
