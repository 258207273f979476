# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What is asked for the vCPUs of a VM."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional

from .._domain import ResourceWish, Vcpus
from .._errors import FleetError
from ._change import REFUSE
from ._guest_os import Support

LIVE, AGENT, NEXT_START = "live", "agent", "next_start"


@dataclass(frozen=True)
class VcpuWish:
    """What one VM, by name or UUID, is to have; ``None`` stays as it is.

    ``count`` is the number of vCPUs, which ``sockets`` says as well for a VM with a topology. ``shape`` is what is only
    for the next start: ``maximum`` and ``topology``. ``unpluggable`` lets the vCPUs that it starts with be unplugged
    later. ``can_plug`` and ``can_unplug`` override what is known of its operating system.
    """

    vm: str
    count: Optional[int] = None
    sockets: Optional[int] = None
    shape: ResourceWish = field(default_factory=ResourceWish)
    unpluggable: Optional[bool] = None
    method: str = LIVE
    unplug_pinned: str = REFUSE
    can_plug: Optional[bool] = None
    can_unplug: Optional[bool] = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> VcpuWish:
        """Return the wish in the options of a VM; raises ``bad_options`` and ``too_few``."""
        shape = ResourceWish.from_dict({"vcpus": {key: data.get(key) for key in ("maximum", "topology")}})
        words = {key: data[key] for key in ("method", "unplug_pinned") if data.get(key) is not None}
        rest: Dict[str, Any] = {
            key: data.get(key) for key in ("count", "sockets", "unpluggable", "can_plug", "can_unplug")
        }
        wish = cls(str(data["name"]), shape=shape, **rest, **words)
        for option in ("count", "sockets"):
            number = rest[option]
            if number is not None and number < 1:
                what = "vCPUs" if option == "count" else option
                raise FleetError(
                    f"VM {wish.vm} cannot have {number} {what}. It needs at least one.",
                    "too_few",
                    vm=wish.vm,
                    option=option,
                )
        if wish.method == AGENT and (shape != ResourceWish() or wish.unpluggable is not None):
            raise FleetError(
                f"VM {wish.vm}: the method agent changes nothing but how many vCPUs the guest uses now. Leave out "
                "maximum, topology and unpluggable, or use another method.",
                "bad_options",
                vm=wish.vm,
                option="method",
            )
        return wish

    def wanted(self, vcpus: Vcpus) -> Optional[int]:
        """Return how many vCPUs a VM with these is to have."""
        if self.sockets is not None:
            return self.sockets * vcpus.dies * vcpus.cores * vcpus.threads
        return self.count

    def support(self, known: Support) -> Support:
        """Return what is expected of the guest, as somebody says who knows better, or as is known."""
        return Support(
            known.plug if self.can_plug is None else self.can_plug,
            known.unplug if self.can_unplug is None else self.can_unplug,
            known.known,
        )
