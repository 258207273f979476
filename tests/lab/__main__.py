# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line of the lab: `python3 -m tests.lab COMMAND`, from the project's root, as root."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Callable, Dict, List

from .domain import GuestSpec, read_pins
from .host import ENVIRONMENT
from .kinds import KINDS
from .lab import Lab
from .shell import LabError, say
from .spec import DEFAULT_NAME, parse_host_option
from .tree import cache_dir

Arguments = argparse.Namespace


def up(lab: Lab, args: Arguments) -> int:
    options = dict(parse_host_option(text) for text in args.host)
    lab.up(args.hosts, options, args.subnet, args.mirror, kind=args.kind, cold=args.cold)
    say(f"inventory: {lab.folder / 'inventory.yml'}")
    return 0


def down(lab: Lab, args: Arguments) -> int:
    lab.down()
    if args.cache:
        others = sorted(path.parent.name for path in lab.folder.parent.glob("*/lab.json"))
        if others:
            raise LabError(f"the cache is in use by the labs {', '.join(others)}; take them down first (--name)")
        shutil.rmtree(cache_dir(), ignore_errors=True)
    return 0


def status(lab: Lab, args: Arguments) -> int:
    found = lab.status()
    if args.json:
        print(json.dumps([asdict(item) for item in found], indent=2))
        return 0
    if not found:
        print(f"lab {lab.spec.name} is not up")
    for item in found:
        libvirtd = "libvirtd answers" if item.libvirtd else "libvirtd does not answer"
        print(f"{item.host}  {item.address}  {'up' if item.up else 'off'}  {libvirtd}  {item.versions}".rstrip())
        for name, state in item.guests:
            print(f"  {name}: {state}")
    return 0


def execute(lab: Lab, args: Arguments) -> int:
    host = lab[args.host]
    words = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not words:
        raise LabError("exec: no command given")
    # Not Host.run: terminal input and output pass through.
    command = words[0] if len(words) == 1 else words
    return host.popen(command, env={**ENVIRONMENT, "TERM": "xterm"}).wait()


def inventory(lab: Lab, args: Arguments) -> int:
    if not lab.spec.hosts:
        raise LabError(f"lab {lab.spec.name} is not up; run `up` first")
    if args.output:
        lab.write_inventory(Path(args.output))
    else:
        sys.stdout.write(lab.inventory())
    return 0


def guest_define(lab: Lab, args: Arguments) -> int:
    spec = GuestSpec(
        name=args.name,
        memory_mib=args.memory,
        vcpus=args.vcpus,
        max_vcpus=args.max_vcpus,
        pins=read_pins(args.pin),
        emulator_pin=args.emulator_pin,
        cpu_xml=Path(args.cpu_xml).read_text(encoding="utf-8") if args.cpu_xml else "",
        machine=args.machine,
        memcheck_mib=args.memcheck,
        memcheck_pause_ms=args.memcheck_pause,
        autoonline=args.autoonline,
    )
    lab.guests.define(spec, args.host, args.autostart)
    return 0


def guest_start(lab: Lab, args: Arguments) -> int:
    lab.guests.start(args.name, args.host)
    return 0


def guest_migrate(lab: Lab, args: Arguments) -> int:
    lab.guests.migrate(args.name, args.source, args.destination)
    return 0


def guest_verdict(lab: Lab, args: Arguments) -> int:
    verdicts = {name: lab.guests.verdict(name) for name in ([args.name] if args.name else lab.guests.names())}
    print(json.dumps({name: {"intact": item.intact, **asdict(item)} for name, item in verdicts.items()}, indent=2))
    return 0 if all(item.intact for item in verdicts.values()) else 1


def guest_where(lab: Lab, args: Arguments) -> int:
    print(json.dumps([asdict(item) for item in lab.guests.where(args.name)], indent=2))
    return 0


def fault(name: str) -> Callable[[Lab, Arguments], int]:
    def work(lab: Lab, args: Arguments) -> int:
        getattr(lab.faults, name)(args.host)
        return 0

    return work


def link(lab: Lab, args: Arguments) -> int:
    if args.rate in ("cut", "restore"):
        getattr(lab.faults, f"{args.rate}_link")(args.host)
    else:
        lab.faults.set_link_rate(args.host, None if args.rate == "none" else args.rate)
    return 0


FAULTS: Dict[str, str] = {
    "power-off": "cut the host's power; its disk stays",
    "power-on": "start a host that is off",
    "kill-libvirtd": "kill -9 of libvirtd; it stays down",
    "start-libvirtd": "start libvirtd again",
}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python3 -m tests.lab", description="Real libvirt hypervisors on one machine.")
    top.add_argument(
        "--name",
        dest="lab",
        default=DEFAULT_NAME,
        help="name of the lab; several run side by side (default: %(default)s)",
    )
    commands = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")

    made = commands.add_parser("up", help="make the lab, or what is missing of it")
    made.add_argument("--hosts", type=int, help="number of hosts hv1, hv2, … (default: those there are, or 3)")
    made.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="hvN:KEY=VALUE:…",
        help="link=200mbit memory=MIB without=CPU,FEATURES vendor=Intel (pods) cpu=MODEL (machines)",
    )
    made.add_argument("--subnet", help="IPv4 network, /24 or larger")
    made.add_argument("--mirror", help="Debian mirror (default: the machine's own, or KVM_FLEET_LAB_MIRROR)")
    kinds = ", ".join(f"{kind.name} = {kind.summary}" for kind in KINDS)
    made.add_argument("--kind", choices=[kind.name for kind in KINDS], help=f"{kinds} (default of a new lab: pod)")
    made.add_argument("--cold", action="store_true", help="boot new machines instead of restoring a booted one")
    made.set_defaults(work=up)

    removed = commands.add_parser("down", help="remove everything the lab made")
    removed.add_argument("--cache", action="store_true", help="the cached Debian tree and guest images, too")
    removed.set_defaults(work=down)

    shown = commands.add_parser("status", help="state of hosts, libvirt and guests")
    shown.add_argument("--json", action="store_true")
    shown.set_defaults(work=status)

    run = commands.add_parser("exec", help="run a command in a host; one single word goes to a shell")
    run.add_argument("host")
    run.add_argument("command", nargs=argparse.REMAINDER)
    run.set_defaults(work=execute)

    written = commands.add_parser("inventory", help="print or write an Ansible inventory")
    written.add_argument("--output", metavar="FILE")
    written.set_defaults(work=inventory)

    for name, text in FAULTS.items():
        broken = commands.add_parser(name, help=text)
        broken.add_argument("host")
        broken.set_defaults(work=fault(name.replace("-", "_")))
    cable = commands.add_parser("link", help="cut or restore a host's link, or limit its rate")
    cable.add_argument("host")
    cable.add_argument("rate", help="cut, restore, a rate such as 100mbit, or none")
    cable.set_defaults(work=link)

    _guest_commands(
        commands.add_parser("guest", help="guests that prove whether they survived").add_subparsers(
            dest="guest_verb", required=True, metavar="COMMAND"
        )
    )
    return top


def _guest_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    defaults = GuestSpec(name="")
    made = commands.add_parser("define", help="define a guest on a host")
    made.add_argument("--memory", type=int, default=defaults.memory_mib, metavar="MIB")
    made.add_argument("--vcpus", type=int, default=defaults.vcpus)
    made.add_argument("--max-vcpus", type=int, default=defaults.max_vcpus)
    made.add_argument("--pin", action="append", default=[], metavar="VCPU:CPUSET")
    made.add_argument("--emulator-pin", default="", metavar="CPUSET")
    made.add_argument("--cpu-xml", metavar="FILE", help="a <cpu> element")
    made.add_argument("--machine", default=defaults.machine)
    made.add_argument(
        "--memcheck", type=int, default=defaults.memcheck_mib, metavar="MIB", help="memory to verify; 0 = none"
    )
    made.add_argument(
        "--memcheck-pause", type=int, default=defaults.memcheck_pause_ms, metavar="MS", help="pause after each MiB"
    )
    made.add_argument("--autoonline", action="store_true", help="the guest brings plugged vCPUs online")
    made.add_argument("--autostart", action="store_true")
    made.set_defaults(work=guest_define)
    started = commands.add_parser("start", help="start a guest and wait until it ticks")
    started.set_defaults(work=guest_start)
    for command in (made, started):
        command.add_argument("name")
        command.add_argument("--host", required=True)

    moved = commands.add_parser("migrate", help="live migration with virsh over qemu+ssh")
    for argument in ("name", "source", "destination"):
        moved.add_argument(argument)
    moved.set_defaults(work=guest_migrate)
    judged = commands.add_parser("verdict", help="what the log proves; exit code 1 unless intact")
    judged.add_argument("name", nargs="?")
    judged.set_defaults(work=guest_verdict)
    found = commands.add_parser("where", help="hosts with a QEMU process of the guest, and libvirt's view there")
    found.add_argument("name")
    found.set_defaults(work=guest_where)


def main(arguments: List[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    work: Callable[[Lab, Arguments], int] = args.work
    try:
        return work(Lab(args.lab), args)
    except (LabError, OSError) as error:
        say(f"lab: {error}")
    except KeyboardInterrupt:
        say("lab: interrupted; `down` removes what is there")
    return 1


if __name__ == "__main__":
    sys.exit(main())
