"""Triggers: external events known ahead (a campaign, a scheduled task) and what load they make one expect.

A trigger only ever raises what is provided, like a floor: a wrong announcement costs instances, it never takes any
away. Learning the effect from earlier occurrences is left to a later forecaster.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from fedbus.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Beyond this an announced factor is taken for a typing error.
MAXIMUM_FACTOR = 1_000.0


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """An announced window [``start_ns``, ``end_ns``): load is expected to be normal × factor + extra.

    ``region`` None means every region. Raises ConfigurationError for an empty window or an effect that is no effect.
    """

    id: str
    start_ns: int
    end_ns: int
    name: str = ""
    region: str | None = None
    expected_factor: float = 1.0
    expected_extra_eps: float = 0.0

    def __post_init__(self) -> None:
        if self.end_ns <= self.start_ns:
            raise ConfigurationError(f"trigger {self.id!r} ends before it starts: give an end after its start")
        if not 0 < self.expected_factor <= MAXIMUM_FACTOR:
            raise ConfigurationError(
                f"trigger {self.id!r}: expected_factor must be above 0 and at most {MAXIMUM_FACTOR:g},"
                f" got {self.expected_factor}"
            )
        if not (math.isfinite(self.expected_extra_eps) and self.expected_extra_eps >= 0):
            raise ConfigurationError(
                f"trigger {self.id!r}: expected_extra_eps must be a rate of 0 or more, got {self.expected_extra_eps}"
            )

    @property
    def title(self) -> str:
        """What people call it: its name, else its id."""
        return self.name or self.id

    def concerns(self, region: str) -> bool:
        """Whether the trigger is about this region."""
        return self.region is None or self.region == region

    def overlaps(self, start_ns: int, end_ns: int) -> bool:
        """Whether any of its window lies in [start_ns, end_ns)."""
        return self.start_ns < end_ns and start_ns < self.end_ns

    def raised(self, normal_eps: float) -> float:
        """Expected load in events/s where ``normal_eps`` would be normal; never below normal."""
        return max(normal_eps, normal_eps * self.expected_factor + self.expected_extra_eps)


def triggers_for(region: str, triggers: Iterable[Trigger], start_ns: int, end_ns: int) -> tuple[Trigger, ...]:
    """The triggers that concern the region in [start_ns, end_ns), earliest first."""
    found = (each for each in triggers if each.concerns(region) and each.overlaps(start_ns, end_ns))
    return tuple(sorted(found, key=lambda each: (each.start_ns, each.id)))
