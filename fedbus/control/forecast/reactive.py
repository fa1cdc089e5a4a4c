"""The last resort: the load goes on as the largest of the recent slots. Never wrong by much, never early."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fedbus.control.forecast.protocol import FloatArray, Series

RECENT_SLOTS = 3


@dataclass(frozen=True)
class Reactive:
    """A flat path at the recent maximum; works from the first slot on."""

    name: str = "reactive"
    needs_recent: bool = True
    slow: bool = False

    def minimum_slots(self, slots_per_day: int) -> int:
        """One slot."""
        return 1

    def fit(self, series: Series) -> Reactive:
        """Nothing to learn."""
        return self

    def forward(self, window: Series, horizon: int) -> FloatArray:
        """The largest of the last slots, for the whole horizon; 0 for an empty window."""
        recent = window.values[-RECENT_SLOTS:]
        return np.full(horizon, float(recent.max()) if len(recent) else 0.0)
