"""What a plan is made from: everything the manager knows about its regions at one moment, as values.

A view holds no handles and no clock; whoever builds it (the manager's tick, a simulation, a test) decides what "now"
is.
"""

from __future__ import annotations

import msgspec

from fedbus.control.assurance import Assurance
from fedbus.control.calibration import SizeCalibration
from fedbus.control.capacity import InstanceSize
from fedbus.control.directive import Directive
from fedbus.control.expected import Expected
from fedbus.control.forecast.protocol import Forecast
from fedbus.control.health import State
from fedbus.control.scaling import Need
from fedbus.control.sizing import SizeMemory
from fedbus.control.sla import Sla
from fedbus.control.violations import Violations

__all__ = [
    "InstanceView",
    "Memory",
    "Need",
    "ObservedLoad",
    "Override",
    "PeerSummary",
    "PlanSettings",
    "RegionView",
    "View",
]


class InstanceView(msgspec.Struct, frozen=True, kw_only=True):
    """One instance: its size by name, its health since ``since_ns``, the node it is pinned to and its present load."""

    id: str
    size: str
    state: State
    node: str
    since_ns: int
    load_eps: float = 0.0
    load_bps: float = 0.0


class ObservedLoad(msgspec.Struct, frozen=True):
    """Load of the region as measured last: the peak rate of the recent slots, in events/s and bytes/s."""

    at_ns: int
    eps: float
    bps: float = 0.0


class PeerSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What another region said last; ``lost_since_ns`` is set while it cannot be reached."""

    region: str
    at_ns: int
    load_eps: float
    load_bps: float = 0.0
    capacity_eps: float = 0.0
    lost_since_ns: int | None = None


class Override(msgspec.Struct, frozen=True):
    """An operator's word: this many instances until ``expires_ns``."""

    instances: int
    expires_ns: int
    size: str | None = None
    by: str = "operator"


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What one plan hands to the next, per region.

    Losing it (a restarted manager) only makes the plan more cautious.
    """

    needs: tuple[Need, ...] = ()
    """What was needed over the stabilisation window, like ``target`` counted in instances of ``unit``."""
    target: int = 0
    unit: str = ""
    in_service: tuple[str, ...] = ()
    ordered_out_ns: int | None = None
    ordered_in_ns: int | None = None
    brake_since_ns: int | None = None
    began_ns: int | None = None
    alone: ObservedLoad | None = None
    """The region's own load when it last had all its neighbours; kept while one is lost."""
    sizing: SizeMemory = SizeMemory()
    calibrations: dict[str, SizeCalibration] = {}
    """What each size was found to hold. Like the violations, the plan only keeps it: its caller measures."""
    violations: Violations = Violations()
    assurance: Assurance | None = None
    """What the violations seen so far teach about the budget to plan with."""

    def assured(self, budget: float) -> Assurance:
        """The assurance of a budget: what was learned of another one stays true in proportion."""
        if self.assurance is None:
            return Assurance(budget=budget)
        return msgspec.structs.replace(self.assurance, budget=budget)


class PlanSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Knobs of the plan; seconds are seconds of the injected clock."""

    scale_in_window_s: float = 600.0
    """Never scale below the largest need of this past."""
    scale_in_lookahead_s: float = 1_800.0
    """Never scale below what the forecast needs this far ahead (what is drained now would be started again)."""
    scale_in_step: int = 1
    scale_in_pause_s: float = 300.0
    scale_out_pause_s: float = 60.0
    """Pause before the same need is ordered again (provisioning failed); a larger need does not wait."""
    spare_instances: int = 0
    """Instances beyond the need, so that losing that many leaves enough."""
    forecast_max_age_s: float = 1_800.0
    metrics_max_age_s: float = 300.0
    repair_after_s: float = 30.0
    """An instance unreachable for less than this is waited for."""
    brake_share: float = 0.5
    """If at least two instances and this share of the region vanish between two ticks, hold …"""
    brake_s: float = 120.0
    """… for this long: it is more often the view that broke than the instances."""
    takeover_s: float = 900.0
    """How long a lost neighbour's load is expected on top; after that the observed load contains it."""
    choose_size: bool = True
    """Order the size that costs least; else always the region's."""
    neighbour_reserve: bool = True
    """Have room for the region's share of the largest neighbour's load, should that be lost (N−1)."""


class RegionView(msgspec.Struct, frozen=True, kw_only=True):
    """One region as the manager sees it.

    ``sizes`` hold what they are believed to (calibrated, else declared); ``size`` names the one new instances get as
    long as no other is known to cost less.
    """

    region: str
    sizes: tuple[InstanceSize, ...]
    size: str
    minimum: int
    maximum: int
    instances: tuple[InstanceView, ...] = ()
    pending: tuple[Directive, ...] = ()
    """Directives not yet settled: creates count as instances on their way, drains as instances on their way out."""
    observed: ObservedLoad | None = None
    metrics_complete: bool = True
    forecast: Forecast | None = None
    slas: tuple[Sla, ...] = ()
    expected: tuple[Expected, ...] = ()
    """What triggers are expected to bring."""
    peers: tuple[PeerSummary, ...] = ()
    provisioning_lead_s: float = 60.0
    override: Override | None = None
    memory: Memory = Memory()
    target_utilization: float | None = None
    """Overrides what the SLAs imply."""

    def active_override(self, now_ns: int) -> Override | None:
        """The operator's word while it has not expired."""
        return self.override if self.override is not None and self.override.expires_ns > now_ns else None

    def new_size(self, now_ns: int) -> InstanceSize:
        """The size in force: the one an operator asked for while that holds, else the one chosen, else the region's."""
        override = self.active_override(now_ns)
        names = (override.size if override is not None else None, self.memory.sizing.size, self.size)
        return next((size for name in names for size in self.sizes if size.name == name), self.sizes[0])


class View(msgspec.Struct, frozen=True, kw_only=True):
    """All regions one manager plans for, at ``now_ns``; ``generation`` grows with every plan."""

    now_ns: int
    generation: int
    regions: tuple[RegionView, ...]
    settings: PlanSettings = PlanSettings()
