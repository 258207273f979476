# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guests of a test: started once, brought back for the next test, and judged at its end."""

from __future__ import annotations

import re
import time
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, Iterator, List, Sequence

from tests.lab import GuestSpec, Lab, LabError, Presence
from tests.lab.shell import wait_for

# How long anything may take before it counts as hanging, on a machine that has other things to do.
PATIENCE_S = 180.0
# How long libvirt may take to clear away an incoming copy whose source has gone silent: its daemon misses five
# keepalive answers, five seconds apart, and gives QEMU some more to end.
CLEARING_S = 90.0
# A guest migrates in some 5 seconds at the first, and at the second not before a test is done with it.
SLOW_MIB_S = 10
CRAWL_MIB_S = 2
NAMESPACE = "urn:virtops:kvm_fleet:policy"
# What a host remembers of its maintenance.
MARK = "/var/lib/kvm_fleet/maintenance.json"
RESET = """
pkill -9 -f "[A]nsiballZ_|[a]sync_wrapper"
rm -rf /var/lib/kvm_fleet /run/kvm_fleet /root/.ansible_async
"""
PICTURE = """
for vm in $(virsh -q list --all --name | sort); do
  echo "== $vm $(virsh -q domstate "$vm" --reason)"
  virsh -q dominfo "$vm" | grep -E '^(Persistent|Autostart|Managed)'
  virsh -q dumpxml "$vm" --security-info | sed "s/ state='[a-z]*connected'//"
  virsh -q dumpxml "$vm" --security-info --inactive
done
find /var/lib/kvm_fleet /run/kvm_fleet /etc/libvirt/hooks -type f -exec sha256sum {} + 2>/dev/null | sort
"""


@dataclass(frozen=True)
class Wanted:
    """A guest that a test wants to run on a host."""

    spec: GuestSpec
    host: str
    autostart: bool

    @property
    def name(self) -> str:
        return self.spec.name


def guest(name: str, host: str = "hv1", autostart: bool = False, **fields: Any) -> Wanted:
    """A guest with the fields of GuestSpec; it dirties so little memory that it migrates at SLOW_MIB_S in 5 seconds."""
    return Wanted(GuestSpec(name, **{"memcheck_mib": 4, "memcheck_pause_ms": 200, **fields}), host, autostart)


def in_maintenance(lab: Lab, host: str) -> bool:
    """Whether a host is marked as one in maintenance."""
    return lab[host].run(["test", "-e", MARK], check=False).returncode == 0


def busy(name: str = "busy", host: str = "hv1") -> Wanted:
    """A guest that dirties all the memory it verifies many times a second."""
    return guest(name, host, memcheck_mib=8, memcheck_pause_ms=5)


@dataclass(frozen=True)
class _Kept:
    """A guest that runs, and its definition as it was at first."""

    spec: GuestSpec
    definition: str


class Fleet:
    """Hosts and guests of the lab as the tests see them."""

    def __init__(self, lab: Lab, common_cpu: str) -> None:
        self.lab = lab
        self._cpu = common_cpu
        self._kept: Dict[str, _Kept] = {}

    def reset(self) -> None:
        """Make all hosts whole again, in no maintenance and with no module running."""
        self.repair()
        for host in self.lab.hosts:
            host.run(RESET, check=False)

    def repair(self) -> None:
        """Make all hosts run again, with network and libvirtd."""
        for host in self.lab.hosts:
            self.lab.faults.restore_link(host.name)
            self.lab.faults.set_link_rate(host.name, None)
            if host.pid() is None:
                self.lab.faults.power_on(host.name)
            elif not host.answers():
                self.lab.faults.start_libvirtd(host.name)

    def have(self, *wanted: Wanted) -> None:
        """Let exactly these guests run, each on its host, without policy; guests of tests before are reused."""
        for host in self.lab.hosts:
            for name in host.virsh("list", "--all", "--name").split():
                if name not in [item.name for item in wanted]:
                    self.remove(name)
        fresh = [item for item in (_with_cpu(item, self._cpu) for item in wanted) if not self._brought_back(item)]
        for item in fresh:
            self.remove(item.name)
            self.lab.guests.define(item.spec, item.host)
            self.lab.guests.start(item.name, item.host, wait_boot=False)
        for item in fresh:
            self._wait_boot(item)
            self._kept[item.name] = _Kept(item.spec, self.definition(item.name, item.host))
        for item in wanted:
            self.lab[item.host].virsh("autostart", item.name, *([] if item.autostart else ["--disable"]))

    def _wait_boot(self, item: Wanted) -> None:
        try:
            self.lab.guests.wait_boot(item.name, timeout=PATIENCE_S)
        except LabError as error:
            # Emulated guests were seen to hang while they boot, very rarely; nothing of the collection has touched them
            # yet.
            warnings.warn(f"Started again: {error}", stacklevel=1)
            self.lab[item.host].virsh("destroy", item.name)
            self.lab.logs.clear(item.name)
            self.lab.guests.start(item.name, item.host, timeout=PATIENCE_S)

    def _brought_back(self, item: Wanted) -> bool:
        kept = self._kept.get(item.name)
        if kept is None or kept.spec != item.spec or not self.lab.guests.verdict(item.name).intact:
            return False
        found = self.lab.guests.where(item.name)
        if [bool(end.pid and end.libvirt and end.libvirt.startswith("running")) for end in found] != [True]:
            return False
        try:
            if found[0].host != item.host:
                self.lab.guests.migrate(item.name, found[0].host, item.host)
            self._forget_policy(item)
        except LabError:
            return False
        return self.definition(item.name, item.host) == kept.definition

    def _forget_policy(self, item: Wanted) -> None:
        host = self.lab[item.host]
        for scope in ("--live", "--config"):
            host.virsh("metadata", item.name, NAMESPACE, "--remove", scope, check=False)

    def definition(self, name: str, host: str) -> str:
        """The persistent definition, without an empty metadata element and without order, as a migration changes it."""
        text = self.lab[host].virsh("dumpxml", name, "--inactive", "--security-info")
        return "\n".join(sorted(re.sub(r"\s*<metadata>\s*</metadata>|\s*<metadata/>", "", text).split("\n")))

    def remove(self, name: str) -> None:
        """Remove a guest from every host."""
        self._kept.pop(name, None)
        for host in self.lab.hosts:
            host.run(
                f"virsh -q destroy {name}; virsh -q undefine {name} --snapshots-metadata",
                check=False,
            )

    def move(self, vm: str, destination: str, **more: Any) -> Dict[str, Any]:
        """A move as vm_migrate takes it."""
        host = self.lab[destination]
        uri = f"qemu+ssh://root@{host.address}/system"
        return {"vm": vm, "destination": destination, "destination_uuid": host.uuid, "uri": uri, **more}

    def picture(self) -> Dict[str, str]:
        """Everything on the hosts that the collection could touch: two equal pictures mean that nothing was."""
        return {host.name: host.run(PICTURE, check=False).stdout for host in self.lab.hosts}

    def assert_intact_and_once(self, name: str, host: str, clearing_s: float = 0) -> None:
        """The guest ticks on this host with nothing lost, and no other host has a process or a definition of it.

        `clearing_s` grants another host time to clear away a copy that does not run. A second one that may run is never
        granted any, and the guest's log would show its ticks whenever that was.
        """
        self.lab.guests.wait_ticks(name, timeout=PATIENCE_S)
        found = self._cleared(name, host, clearing_s)
        self.lab.guests.wait_ticks(name, timeout=PATIENCE_S)
        verdict = self.lab.guests.verdict(name)
        assert verdict.intact, verdict
        assert [end.host for end in found] == [host], found

    def _cleared(self, name: str, host: str, clearing_s: float) -> List[Presence]:
        deadline = time.monotonic() + clearing_s
        while True:
            found = self.lab.guests.where(name)
            assert [end.host for end in found if may_run(end)] == [host], found
            if len(found) == 1 or time.monotonic() > deadline:
                return found
            time.sleep(0.2)

    def assert_all_intact(self, names: Sequence[str], host: str) -> None:
        for name in names:
            self.assert_intact_and_once(name, host)

    def wait_migrating(self, name: str, source: str, timeout: float = PATIENCE_S) -> None:
        """Wait until memory of the guest flows away from the source."""
        host = self.lab[source]

        def flows() -> bool:
            info = host.virsh("domjobinfo", name, check=False)
            return "Outgoing migration" in info and "Data processed" in info

        wait_for(f"{name} to migrate", flows, timeout)

    @contextmanager
    def silent_sender(self, host: str, interval_s: int) -> Iterator[Callable[[], None]]:
        """Yield what makes every sender of a migration to this host fall silent.

        Its libvirtd gives up on them after five answers that do not come, `interval_s` apart; never if that is -1.
        """
        conf, machine = "/etc/libvirt/libvirtd.conf", self.lab[host]
        machine.run(f"echo keepalive_interval = {interval_s} >>{conf}")
        self.lab.faults.restart_libvirtd(host)
        try:
            yield lambda: machine.run("pkill -STOP virt-ssh-helper") and None
        finally:
            machine.run(f"sed -i /^keepalive_interval/d {conf}; pkill -9 virt-ssh-helper", check=False)
            self.lab.faults.restart_libvirtd(host)

    def hurry(self, name: str, source: str) -> None:
        """Lift the speed limit of a guest's migration."""
        self.lab[source].virsh("migrate-setspeed", name, "1000")


def kill_module(lab: Lab, host: str) -> None:
    """kill -9 of a vm_migrate that runs on a host; libvirt's migrations go on."""
    lab[host].run("pkill -9 -f '[A]nsiballZ_vm_migrate'", check=False)
    find = "pgrep -f '[A]nsiballZ_vm_m'"
    wait_for("the module to end", lambda: not lab[host].run(find, check=False).stdout, PATIENCE_S)


def power_off_inside(lab: Lab, name: str, host: str) -> None:
    """Let a guest power itself off and wait until it has; an agent that is too busy to listen is asked again."""
    deadline = time.monotonic() + PATIENCE_S
    while lab.guests.processes(name):
        assert time.monotonic() < deadline, f"guest {name} does not power itself off"
        lab.guests.power_off_inside(name, host)
        with suppress(LabError):
            wait_for(f"{name} to be off", lambda: not lab.guests.processes(name), 10)


def may_run(end: Presence) -> bool:
    """Whether the guest has a process there that libvirt calls running, or cannot say anything of."""
    return end.pid is not None and (end.libvirt is None or end.libvirt.startswith("running"))


def _with_cpu(item: Wanted, cpu: str) -> Wanted:
    return item if item.spec.cpu_xml else replace(item, spec=replace(item.spec, cpu_xml=cpu))
