# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules of the rpm-ostree backend; its kargs are appended and deleted by key and value, as libostree does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot.cmdline import arguments, format_line, parse
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot.rpm_ostree import RpmOstree
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.command import Ran

from tests.unit.host.boot.fakes import DATA, Host

OURS = arguments(["isolcpus=domain,2-7", "hugepagesz=2M", "hugepages=4", "hugepagesz=1G", "hugepages=4", "nosmt"])


class Ostree(Host):
    """A host with the arguments of a published one; every change makes a deployment."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        (root / "var/lib").mkdir(parents=True)
        self.line = (DATA / "fedora_rpm_ostree_kargs.txt").read_text().split()
        self.deployments = 0
        self.commands["rpm-ostree"] = self.rpm_ostree

    def rpm_ostree(self, argv: Sequence[str]) -> Ran:
        assert argv[1] == "kargs"
        for option in argv[2:]:
            name, _equals, value = option.partition("=")
            (self.line.remove if name == "--delete" else self.line.append)(value)
        if argv[2:]:
            self.deployments += 1
            return Ran(0, "Staging deployment... done\nKernel arguments updated.\n")
        return Ran(0, " ".join(self.line) + "\n")


@pytest.fixture
def host(tmp_path: Path) -> Ostree:
    return Ostree(tmp_path)


def test_ours_come_behind_what_is_there_and_removing_them_restores_it(host: Ostree) -> None:
    loader, before, files = RpmOstree(host.root, host.run), list(host.line), host.files()
    loader.write(OURS)
    config = loader.read()
    assert (format_line(config.others), config.ours) == (" ".join(before), OURS)
    assert config.sources["rhgb"] == "rpm-ostree kargs"
    loader.write(())
    assert (host.line, host.files(), host.deployments) == (before, files, 2)


def test_a_change_is_one_transaction_and_no_change_is_none(host: Ostree) -> None:
    loader = RpmOstree(host.root, host.run)
    loader.write(OURS)
    loader.write(OURS[:1])
    loader.write(OURS[:1])
    assert host.deployments == 2


def test_what_others_set_to_the_same_value_is_not_taken_away(host: Ostree) -> None:
    host.line.insert(0, "nosmt")
    loader = RpmOstree(host.root, host.run)
    loader.write(OURS)
    loader.write(())
    assert host.line.count("nosmt") == 1


def test_a_run_that_was_killed_before_the_transaction_is_healed(host: Ostree) -> None:
    loader = RpmOstree(host.root, host.run)
    loader.write(OURS)
    host.commands["rpm-ostree"] = lambda argv: host.rpm_ostree(argv) if not argv[2:] else Ran(1, "", "error: busy")
    with pytest.raises(FleetError, match="error: busy"):
        loader.write(parse("isolcpus=2"))
    assert loader.read().ours == OURS
    host.commands["rpm-ostree"] = host.rpm_ostree
    loader.write(parse("isolcpus=2"))
    assert loader.read().ours == parse("isolcpus=2")


def test_arguments_that_ostree_has_put_into_another_order_are_found_out(host: Ostree) -> None:
    def grouped(argv: Sequence[str]) -> Ran:
        ran = host.rpm_ostree(argv)
        host.line.sort(key=lambda word: word.partition("=")[0])
        return ran

    host.commands["rpm-ostree"] = grouped
    with pytest.raises(FleetError, match="it has them in another order") as caught:
        RpmOstree(host.root, host.run).write(OURS)
    assert caught.value.code == "not_applied"
