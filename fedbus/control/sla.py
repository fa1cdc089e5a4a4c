"""SLAs: what is promised for the topics of a filter, and what that asks of forecasts and headroom.

The budget (the share of time in which the promise may be broken) is what a plan provides for: see ``assurance.py``,
which measures it against the violations actually seen. The quantile by rule is what is taken where that has no say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fedbus.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fedbus.control.assurance import Assurance

DEFAULT_AVAILABILITY = 0.999
DEFAULT_MAX_LATENCY_MS = 1_000

#: Share of forecast overshoots that turn into a breach of the SLA: one in fifty. An overshoot first eats the headroom
#: (1 / target utilisation), and reactive scaling ends it within one provisioning delay. An assumption, not a
#: measurement.
OVERSHOOTS_PER_BREACH = 50
#: Below the median a forecast plans to fail; beyond 99.5 % a residual window of a day holds no information.
LOWEST_QUANTILE, HIGHEST_QUANTILE = 0.5, 0.995

#: (latency promised is at most, utilisation an instance may be planned for): queueing delay grows with 1 / (1 −
#: utilisation).
UTILIZATION_BY_LATENCY_MS = ((20, 0.5), (100, 0.6), (1_000, 0.7))
RELAXED_UTILIZATION = 0.8


class Sla(msgspec.Struct, frozen=True):
    """Promise for the topics that match ``filter``: end-to-end latency and the share of time it is kept."""

    filter: str
    max_latency_ms: int = DEFAULT_MAX_LATENCY_MS
    availability: float = DEFAULT_AVAILABILITY

    def __post_init__(self) -> None:
        if self.max_latency_ms <= 0:
            raise ConfigurationError(
                f"SLA of {self.filter!r}: max_latency_ms must be above 0, got {self.max_latency_ms}"
            )
        if not 0 < self.availability < 1:
            raise ConfigurationError(
                f"SLA of {self.filter!r}: availability lies between 0 and 1 (such as 0.999), not {self.availability}"
            )

    @property
    def violation_budget(self) -> float:
        """Share of time in which the promise may be broken (0.999 → 0.001)."""
        return 1.0 - self.availability


class SlaRequirements(msgspec.Struct, frozen=True):
    """What a region's SLAs ask of its plan.

    ``violation_budget``: share of minutes in which the load may exceed what the instances hold at the SLA's latency,
    which is their capacity × ``target_utilization``; ``quantile``: the forecast quantile by rule, taken where there is
    no ``assurance`` of that budget.
    """

    quantile: float
    target_utilization: float
    violation_budget: float = 1.0 - DEFAULT_AVAILABILITY
    assurance: Assurance | None = None


def violation_budget(slas: Iterable[Sla]) -> float:
    """The smallest share of time in which a promise may be broken; without any SLA, the default's."""
    return round(min((each.violation_budget for each in slas), default=1.0 - DEFAULT_AVAILABILITY), 9)


def max_latency_ms(slas: Iterable[Sla]) -> int:
    """The tightest latency promised; without any SLA, the default's."""
    return min((each.max_latency_ms for each in slas), default=DEFAULT_MAX_LATENCY_MS)


def required_quantile(slas: Iterable[Sla]) -> float:
    """The forecast quantile the strictest SLA implies: 0.999 → 0.95, 0.9999 → 0.995; without any SLA, the default's."""
    level = 1.0 - OVERSHOOTS_PER_BREACH * violation_budget(slas)
    return round(min(HIGHEST_QUANTILE, max(LOWEST_QUANTILE, level)), 6)


def target_utilization(slas: Iterable[Sla]) -> float:
    """How full an instance may be planned so that the tightest latency promised holds (the rest is headroom)."""
    latency_ms = max_latency_ms(slas)
    for limit_ms, utilization in UTILIZATION_BY_LATENCY_MS:
        if latency_ms <= limit_ms:
            return utilization
    return RELAXED_UTILIZATION
