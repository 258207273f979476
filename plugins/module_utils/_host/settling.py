# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""vCPUs that a guest was asked to give back and has not yet: as long as it may, nobody asks it for another change."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Iterator, Optional, Tuple

from .._errors import FleetError
from . import files

# Empty after a boot, when no VM runs that could still be asked.
DIRECTORY = Path("/run/kvm_fleet_vcpus")
# How long a request may be answered late. A guest that has not by then has refused, or has forgotten it.
SETTLE_S = 300.0


@dataclass(frozen=True)
class Settling:
    """A request: the ``vcpus`` that were to go, of the VM as it ran with libvirt's number ``runtime_id``.

    ``since`` is in seconds since the boot of the host.
    """

    vcpus: Tuple[int, ...]
    runtime_id: Optional[int]
    since: float


class SettlingNote:
    """The request to one VM, and the lock that lets one run at a time change it."""

    def __init__(self, name: str, uuid: str, directory: Path = DIRECTORY) -> None:
        self._name = name
        self._place = directory / uuid
        self._path = self._place / "settling.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only run that changes this VM; raises ``settling`` if another one does."""
        files.make_directory(self._place.parent, mode=0o700)
        files.make_directory(self._place, mode=0o700)
        with ExitStack() as stack:
            try:
                stack.enter_context(files.locked(self._place, 0))
            except FleetError as error:
                if error.code != "busy":
                    raise
                raise FleetError(
                    f"The vCPUs of VM {self._name} are being changed by another run. Let it finish, then try again.",
                    "settling",
                    vm=self._name,
                ) from error
            yield

    def read(self, runtime_id: Optional[int]) -> Tuple[int, ...]:
        """Return the vCPUs that the guest may still give back, none once it has had its time or runs anew."""
        record = files.read_record(self._path)
        if record is None:
            return ()
        try:
            found = Settling(tuple(record["vcpus"]), record["runtime_id"], float(record["since"]))
        except (KeyError, TypeError, ValueError) as error:
            raise files.bad_record(self._path, "it does not say which vCPUs are to go") from error
        late = _now() - found.since > SETTLE_S
        return () if late or found.runtime_id != runtime_id else found.vcpus

    def write(self, vcpus: Tuple[int, ...], runtime_id: Optional[int]) -> None:
        """Note that the guest is about to be asked."""
        files.write_record(self._path, asdict(Settling(vcpus, runtime_id, _now())))

    def forget(self) -> None:
        """Remove the note."""
        files.remove(self._path)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
