"""What a forecast is, and what a forecaster must offer. Light: needs neither NumPy nor statsforecast at run time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from fedbus.control.load import NS_PER_S

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]

Basis = Literal["model", "fallback"]

#: Quantiles every forecast carries (levels of the one-sided upper bound).
QUANTILES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.975, 0.985, 0.99, 0.993, 0.995, 0.997, 0.998, 0.999, 0.9995)
#: Shares of violated minutes that a forecast carries prices for.
BUDGETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """Predicted load of a region in events/s, one value per slot of ``slot_s`` seconds from ``start_ns`` on.

    ``quantiles[q]``: the load of a single minute in the slot stays below with probability q (a violation is a minute;
    where the history is coarser than minutes, of the slot). ``prices[budget]``: what a violated minute is worth, in
    events/s of capacity, if that share of minutes may be violated (empty: unknown). ``normal_eps``: what is usual at
    that time of day, without regard to the present level (triggers under way are reckoned from it). ``mase``: mean
    absolute scaled error of the model at the provisioning lead over the recent past (scale: seasonal naive by day, else
    last value), None while unknown; ``scores`` has it per model. ``basis`` is "fallback" when no model could be
    trusted; ``note`` says why.
    """

    region: str
    made_at_ns: int
    start_ns: int
    slot_s: int
    model: str
    basis: Basis
    point_eps: tuple[float, ...]
    quantiles: dict[float, tuple[float, ...]]
    normal_eps: tuple[float, ...]
    mase: float | None = None
    scores: dict[str, float] = {}
    prices: dict[float, float] = {}
    note: str = ""

    @property
    def end_ns(self) -> int:
        """End of the last slot forecast."""
        return self.start_ns + len(self.point_eps) * self.slot_s * NS_PER_S

    def slot_start_ns(self, index: int) -> int:
        """Start of slot ``index``."""
        return self.start_ns + index * self.slot_s * NS_PER_S

    def slots_between(self, start_ns: int, end_ns: int) -> range:
        """Indices of the slots that touch [start_ns, end_ns)."""
        slot_ns = self.slot_s * NS_PER_S
        first = max(0, (start_ns - self.start_ns) // slot_ns)
        return range(first, max(first, min(len(self.point_eps), -(-(end_ns - self.start_ns) // slot_ns))))

    def level(self, quantile: float) -> float:
        """The quantile carried that answers for ``quantile``: the next one not below it, else the highest."""
        return min((q for q in self.quantiles if q >= quantile - 1e-9), default=max(self.quantiles))

    @property
    def sane(self) -> bool:
        """Whether every value is a finite rate of 0 or more and all paths are equally long."""
        paths = (self.point_eps, self.normal_eps, *self.quantiles.values())
        regular = bool(self.quantiles) and self.slot_s > 0 and {len(path) for path in paths} == {len(self.point_eps)}
        # A sum is finite only if all are; every tick asks, of all regions.
        said = (*paths, self.prices.values())
        return regular and all(math.isfinite(sum(path)) and min(path, default=0.0) >= 0 for path in said)


class Series(Protocol):
    """A load series as forecasters see it: gaps filled or NaN, ``first_slot`` counted from the epoch in slots."""

    @property
    def values(self) -> FloatArray:
        """Events/s per slot, oldest first."""
        ...

    @property
    def minutes(self) -> FloatArray:
        """Events/s of the minutes (or whatever was measured) within each slot, shape (slots, parts); NaN in gaps."""
        ...

    @property
    def first_slot(self) -> int:
        """Number of the first slot since the epoch: gives the phase in day and week."""
        ...

    @property
    def slots_per_day(self) -> int:
        """Slots in a day."""
        ...


class Forecaster(Protocol):
    """One way to forecast. ``fit`` may take seconds and returns a new, fitted forecaster.

    ``forward`` takes milliseconds.
    """

    @property
    def name(self) -> str:
        """Name as shown to people."""
        ...

    @property
    def needs_recent(self) -> bool:
        """Whether it starts from the present level, so that it is lost when the newest slots were not measured."""
        ...

    @property
    def slow(self) -> bool:
        """Whether its fit takes seconds, so that it is fitted weekly and not daily."""
        ...

    def minimum_slots(self, slots_per_day: int) -> int:
        """History needed before it can be fitted."""
        ...

    def fit(self, series: Series) -> Forecaster:
        """Learn from the whole series (no NaN); self stays as it is."""
        ...

    def forward(self, window: Series, horizon: int) -> FloatArray:
        """Events/s for the ``horizon`` slots after the window (no NaN in it)."""
        ...
