# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is given the lease of a host, for how long, and what stands in its file."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Optional

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host import files, lease
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.lease import Claim, Lease
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.paths import HostPaths

NOON, AFTER_10_MIN = "2026-01-31T12:00:00Z", "2026-01-31T12:10:00Z"
ONE, TWO = "2026-01-31T13:00:00Z", "2026-01-31T14:00:00Z"
ALICE = Claim("run-a", "alice@ctl1", "gold", "New kernel", "boot 1 2", 3600)
BOB = Claim("run-b", "bob@ctl2", "gold", None, None, 3600)
OF_ALICE = Lease("gold", "run-a", "alice@ctl1", "New kernel", "boot 1 2", NOON, NOON, ONE)


def of_bob(since: str, expires: str) -> Lease:
    return Lease("gold", "run-b", "bob@ctl2", None, None, since, since, expires)


@pytest.mark.parametrize(
    ("found", "claim", "now", "expected"),
    [
        # Nobody has it.
        (None, ALICE, NOON, OF_ALICE),
        (None, replace(ALICE, pool=None), NOON, replace(OF_ALICE, pool=None)),
        # Another has it, to the last second.
        (OF_ALICE, BOB, NOON, OF_ALICE),
        (OF_ALICE, BOB, "2026-01-31T12:59:59Z", OF_ALICE),
        (OF_ALICE, replace(BOB, over=("run-x",)), NOON, OF_ALICE),
        # It has expired, or its run has ended.
        (OF_ALICE, BOB, ONE, of_bob(ONE, TWO)),
        (OF_ALICE, replace(BOB, over=("run-x", "run-a")), NOON, of_bob(NOON, ONE)),
        # A renewal keeps since when, and what for unless it says something else; also after it has expired.
        (OF_ALICE, ALICE, ONE, replace(OF_ALICE, renewed=ONE, expires=TWO)),
        (OF_ALICE, replace(ALICE, expires_s=600), NOON, replace(OF_ALICE, expires=AFTER_10_MIN)),
        (OF_ALICE, replace(ALICE, purpose=None, pool="silver"), NOON, replace(OF_ALICE, pool="silver")),
        (OF_ALICE, replace(ALICE, purpose="Firmware"), NOON, replace(OF_ALICE, purpose="Firmware")),
    ],
)
def test_one_run_at_a_time_has_the_lease(found: Optional[Lease], claim: Claim, now: str, expected: Lease) -> None:
    assert lease.take(found, claim, now) == expected


@pytest.mark.parametrize(
    ("renewed", "expires", "counted"),
    [
        # Set back by two hours, and by years: as long from now on as it was given for.
        (TWO, "2026-01-31T14:10:00Z", AFTER_10_MIN),
        ("2099-01-01T00:00:00Z", "2099-01-01T01:00:00Z", ONE),
        # Nobody is given more than a week, whatever the record says.
        (NOON, "9999-12-31T23:59:59Z", "2026-02-07T12:00:00Z"),
        ("2099-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-02-07T12:00:00Z"),
        # Nothing to count from the future on
        (TWO, ONE, NOON),
    ],
)
def test_a_clock_that_was_set_back_makes_no_lease_last_for_ever(renewed: str, expires: str, counted: str) -> None:
    found = replace(OF_ALICE, since=renewed, renewed=renewed, expires=expires)
    kept = lease.take(found, BOB, NOON)
    if counted == NOON:
        assert kept.run == "run-b"
        return
    assert (kept.run, kept.since, kept.renewed, kept.expires) == ("run-a", NOON, NOON, counted)
    assert lease.take(kept, BOB, counted).run == "run-b", "which is written down, or it would begin anew each time"
    assert (found.age_s(NOON), found.left_s(NOON)) == (0, kept.left_s(NOON))


def test_its_age_counts_from_the_first_time_and_its_end_from_the_last() -> None:
    renewed = lease.take(OF_ALICE, ALICE, AFTER_10_MIN)
    assert (renewed.age_s(AFTER_10_MIN), renewed.left_s(AFTER_10_MIN)) == (600, 3600)
    assert (renewed.left_s(ONE), renewed.left_s(TWO)) == (600, 0)


def test_a_run_releases_only_its_own() -> None:
    assert lease.release(OF_ALICE, "run-a") is None
    assert lease.release(OF_ALICE, "run-b") == OF_ALICE
    assert lease.release(None, "run-a") is None


def test_the_file_holds_what_was_taken_until_it_is_given_up(paths: HostPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "utc_now", lambda: NOON)
    assert lease.give_up(paths, "run-a") is None
    assert lease.hold(paths, ALICE) == lease.read(paths) == OF_ALICE
    assert json.loads(paths.lease.read_text()) == {**OF_ALICE.to_data(), "version": 1}
    assert paths.lease.stat().st_mode & 0o777 == 0o644
    assert lease.hold(paths, BOB) == lease.give_up(paths, "run-b") == lease.read(paths) == OF_ALICE
    assert lease.give_up(paths, "run-a") is None
    assert not paths.lease.exists()
    assert lease.hold(paths, replace(BOB, pool=None)).to_data()["pool"] is None
    assert lease.read(paths) == replace(of_bob(NOON, ONE), pool=None)


def test_the_first_lease_of_a_host_makes_the_directory(paths: HostPaths) -> None:
    paths.state.rmdir()
    assert lease.give_up(paths, "run-a") is None
    assert not paths.state.exists()
    assert lease.hold(paths, ALICE).run == "run-a"


def test_a_refused_lease_from_the_future_is_written_down_as_it_counts(
    paths: HostPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "utc_now", lambda: NOON)
    files.write_record(paths.lease, replace(OF_ALICE, renewed=ONE, expires=TWO).to_data())
    assert lease.hold(paths, BOB) == lease.read(paths) == OF_ALICE


def test_nobody_is_given_a_lease_while_another_is_at_it(paths: HostPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    def impatient(_directory: Any) -> Any:
        return locked(paths.state, timeout_s=0)

    locked = files.locked
    monkeypatch.setattr(files, "locked", impatient)
    with locked(paths.state), pytest.raises(FleetError) as caught:
        lease.hold(paths, ALICE)
    assert (caught.value.code, paths.lease.exists()) == ("busy", False)
    lease.hold(paths, ALICE)
    with locked(paths.state), pytest.raises(FleetError, match="locked"):
        lease.give_up(paths, "run-a")
    assert paths.lease.exists()


def test_what_was_not_written_is_noticed(paths: HostPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "write_record", lambda _path, _record: None)
    with pytest.raises(FleetError, match="does not hold what was just written") as caught:
        lease.hold(paths, ALICE)
    assert (caught.value.code, caught.value.facts["found"]) == ("not_applied", None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("version", 2),
        ("version", True),
        ("version", None),
        ("run", ""),
        ("owner", None),
        ("pool", ["gold"]),
        ("expires", "tomorrow"),
        # Times are compared as text.
        ("since", "2026-1-31T12:00:00Z"),
        ("renewed", None),
    ],
)
def test_a_lease_that_cannot_be_read_is_given_to_nobody(paths: HostPaths, key: str, value: Any) -> None:
    files.write_record(paths.lease, {**OF_ALICE.to_data(), key: value})
    for action in (lambda: lease.read(paths), lambda: lease.hold(paths, BOB), lambda: lease.give_up(paths, "run-a")):
        with pytest.raises(FleetError) as caught:
            action()
        assert (caught.value.code, caught.value.facts["field"]) == ("bad_record", key)
        assert str(paths.lease) in caught.value.msg
