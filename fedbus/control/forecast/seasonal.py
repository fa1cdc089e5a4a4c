"""Forecasts from the same time of earlier days: seasonal naive, and a seven-day profile at the recent level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fedbus.control.forecast.protocol import FloatArray, Series

PROFILE_DAYS = 7
#: The present level is taken from this many recent slots against the profile of the same slots.
LEVEL_SLOTS = 6
#: Bounds of level against profile: beyond them the quotient says that the profile is worthless, not that load is
#: 50-fold.
LEVEL_BOUNDS = (0.02, 50.0)


@dataclass(frozen=True)
class SeasonalNaive:
    """Tomorrow is like today: the value of one day before."""

    name: str = "seasonal_naive"
    needs_recent: bool = False
    slow: bool = False

    def minimum_slots(self, slots_per_day: int) -> int:
        """One day."""
        return slots_per_day

    def fit(self, series: Series) -> SeasonalNaive:
        """Nothing to learn."""
        return self

    def forward(self, window: Series, horizon: int) -> FloatArray:
        """The last day again, as often as the horizon asks."""
        day = window.values[-window.slots_per_day :]
        return np.resize(day, horizon).astype(np.float64)


@dataclass(frozen=True)
class ProfileLevel:
    """The mean day of the last seven, scaled to how the last half hour compares with it."""

    name: str = "profile"
    needs_recent: bool = True
    slow: bool = False

    def minimum_slots(self, slots_per_day: int) -> int:
        """Two days."""
        return 2 * slots_per_day

    def fit(self, series: Series) -> ProfileLevel:
        """Nothing to learn: the profile is taken from each window."""
        return self

    def forward(self, window: Series, horizon: int) -> FloatArray:
        """Profile × recent level."""
        usual = profile(window.values, window.slots_per_day, LEVEL_SLOTS, horizon)
        recent, expected = float(window.values[-LEVEL_SLOTS:].sum()), float(usual[:LEVEL_SLOTS].sum())
        level = min(LEVEL_BOUNDS[1], max(LEVEL_BOUNDS[0], recent / expected)) if expected > 0 else 1.0
        return usual[LEVEL_SLOTS:] * level


def profile(values: FloatArray, slots_per_day: int, back: int, horizon: int) -> FloatArray:
    """Mean over up to seven whole days by time of day, for the last ``back`` slots and ``horizon`` slots more.

    Needs at least one day of ``values``; shape (back + horizon,).
    """
    days = min(PROFILE_DAYS, len(values) // slots_per_day)
    mean_day = values[-days * slots_per_day :].reshape(days, slots_per_day).mean(axis=0)
    return np.take(mean_day, np.arange(-back, horizon), mode="wrap").astype(np.float64)
