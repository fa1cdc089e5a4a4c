"""The inventory: which instances of a region serve, leave or are gone, and what each counts for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedbus.control.capacity import IN_SERVICE, InstanceSize, worth
from fedbus.control.load import NS_PER_S

if TYPE_CHECKING:
    from fedbus.control.view import InstanceView, PlanSettings, RegionView


class Inventory:
    """The instances of one view, sorted by what is to be expected of them."""

    def __init__(self, view: RegionView, now_ns: int, settings: PlanSettings, unit: InstanceSize) -> None:
        self.view, self.unit = view, unit
        self._now_ns, self._settings = now_ns, settings
        self._sizes = {size.name: size for size in view.sizes}
        self.leaving = {
            each.instance
            for each in view.pending
            if each.instance and each.unfinished and each.action in ("drain", "destroy")
        }
        """Instances ordered away, whatever their state still says."""
        self.serving = [e for e in view.instances if e.state in IN_SERVICE and e.id not in self.leaving]

    def worth(self, instance: InstanceView) -> float:
        """How many instances of the size in force it stands for."""
        return worth(self._sizes.get(instance.size, self.unit), self.unit)

    def coming(self) -> list[str]:
        """Sizes of those on their way: starting, ordered, or silent for a moment only."""
        known = {each.id for each in self.view.instances}
        coming = [
            each.size
            for each in self.view.instances
            if each.id not in self.leaving and (each.state == "starting" or self._blinks(each))
        ]
        return coming + [
            each.size
            for each in self.view.pending
            if each.action == "create" and each.unfinished and each.instance not in known
        ]

    def others(self) -> list[InstanceView]:
        """Those in service that are of another size than the one in force."""
        return [each for each in self.serving if each.size != self.unit.name]

    def under_way_out(self) -> int:
        """How many are on their way out."""
        return len(self.leaving | {each.id for each in self.view.instances if each.state == "draining"})

    def vanished(self) -> set[str]:
        """Instances in service at the last plan that are neither up nor ordered away."""
        up = {each.id for each in self.view.instances if each.state in (*IN_SERVICE, "starting", "draining")}
        return set(self.view.memory.in_service) - up - self.leaving

    def lost(self) -> int:
        """How many will not come back by themselves, still listed or not."""
        waited_for = {each.id for each in self.view.instances if self._blinks(each)}
        down = {each.id for each in self.view.instances if each.state in ("dead", "unreachable")}
        return len((down | self.vanished()) - waited_for)

    def _blinks(self, instance: InstanceView) -> bool:
        silent_ns = self._now_ns - instance.since_ns
        return instance.state == "unreachable" and silent_ns < self._settings.repair_after_s * NS_PER_S
