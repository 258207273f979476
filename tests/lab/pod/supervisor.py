# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One process per lab host, outside it: makes the host's namespaces, starts its PID 1, restarts it after a reboot.

python3 -m tests.lab.pod.supervisor LAB_FOLDER HOST      the supervisor
python3 -m tests.lab.pod.supervisor --inside PLAN_JSON   PID 1 of the host, until it has become the host's own init
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from ..cgroups import HELPERS, Cgroups
from ..network import NETNS_DIR
from ..shell import DIE_WITH_PARENT, LabError, file_lock, say
from ..spec import LabSpec
from .rootfs import RootPlan, enter_root

REBOOT = 42  # exit code of the host's init, see rootfs/usr/sbin/init
# reboot(2) in a pid namespace ends its init with SIGHUP.
REBOOT_CODES = (REBOOT, -1, 128 + 1)


def supervise(folder: Path, host: str) -> int:
    """Run the host until it powers off or is killed; its own reboots start it again."""
    spec = LabSpec.from_json((folder / "lab.json").read_text())
    plan = RootPlan(**json.loads((folder / host / "plan.json").read_text()))
    groups = Cgroups(spec.name)
    groups.enter(HELPERS, os.getpid())
    pid_file = folder / host / "pid"
    while True:
        groups.remove(host)  # what libvirt left of the boot before
        groups.create(host)
        code = _boot(spec, groups, plan, pid_file)
        pid_file.unlink(missing_ok=True)
        say(f"{host} ended with {code}")
        if code not in REBOOT_CODES:
            return 0


def _boot(spec: LabSpec, groups: Cgroups, plan: RootPlan, pid_file: Path) -> int:
    namespaces = ["--mount", "--uts", "--ipc", "--cgroup", "--pid", "--fork", "--kill-child"]
    inside = [sys.executable, "-m", "tests.lab.pod.supervisor", "--inside", json.dumps(asdict(plan))]
    network = f"--net={NETNS_DIR}/{spec.netns(plan.host)}"
    prefix = [*DIE_WITH_PARENT, *groups.entering(plan.host), "nsenter", network, "unshare", *namespaces]
    process = subprocess.Popen([*prefix, *inside], stdin=subprocess.DEVNULL)
    init = _child_of_unshare(process)
    if init:
        groups.enter(HELPERS, process.pid)  # only the host's own processes stay in its group
        pid_file.write_text(init, encoding="ascii")
    return process.wait()


def _child_of_unshare(process: subprocess.Popen[bytes]) -> str:
    """The machine's number of the host's PID 1; "" when it did not come to that."""
    folder = Path(f"/proc/{process.pid}")
    while process.poll() is None:
        with suppress(OSError):
            children = (folder / f"task/{process.pid}/children").read_text().split()
            if children and (folder / "comm").read_text().strip() == "unshare":
                return children[0]
        time.sleep(0.01)
    return ""


def become_init(plan: RootPlan) -> None:
    """Turn this process, PID 1 of new namespaces, into the init of the host."""
    enter_root(plan)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "TERM": "dumb"}
    os.execve("/usr/bin/python3", ["init", "/usr/sbin/init"], environment)


def main() -> int:
    try:
        if sys.argv[1] == "--inside":
            become_init(RootPlan(**json.loads(sys.argv[2])))
        folder, host = Path(sys.argv[1]), sys.argv[2]
        if not (folder / host).exists():
            return 0  # `down` was faster: it must find nothing again
        with file_lock(folder / host / "supervisor.lock", timeout=20):  # never two for one host
            return supervise(folder, host)
    except LabError as error:
        say(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
