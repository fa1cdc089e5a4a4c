"""What triggers announce is no error of a forecast that could not know it: which slots do not count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fedbus.control.load import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fedbus.control.forecast.protocol import FloatArray
    from fedbus.control.forecast.series import SlotSeries
    from fedbus.control.trigger import Trigger

#: An announced change shows in the load within this time.
SETTLING_SLOTS = 3


def changes(region: str, triggers: Iterable[Trigger], series: SlotSeries, slots: int) -> tuple[int, ...]:
    """Slots in which an announced change of the load begins: starts and ends of the region's triggers.

    Of those within the last ``slots`` of the series, twice over.
    """
    slot_ns = series.slot_s * NS_PER_S
    end_ns = series.end_slot * slot_ns
    start_ns = end_ns - (2 * slots + 2 * SETTLING_SLOTS) * slot_ns
    windows = (
        each for trigger in triggers if trigger.concerns(region) for each in trigger.occurrences(start_ns, end_ns)
    )
    return tuple(time_ns // slot_ns for window in windows for time_ns in (window.start_ns, window.end_ns))


def unannounced(actual: FloatArray, start_slot: int, announced: Iterable[int]) -> FloatArray:
    """The actual path with NaN from an announced change on, for a forecast made before that was seen in the load."""
    path = actual.copy()
    for slot in announced:
        if start_slot <= slot + SETTLING_SLOTS:
            path[max(0, slot - start_slot) :] = np.nan
    return path
