"""The project's own load model: what a region's load looks like when no trace is at hand.

Day and week cycle, growth, noise on two time scales, announced campaigns (triggers) and unannounced bursts. Every
minute is a function of the seed and the minute alone, so that a backfill and a replay that starts in the middle
agree.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import msgspec

from fedbus.control.load import NS_PER_S, LoadSample
from fedbus.control.trigger import Trigger

if TYPE_CHECKING:
    from collections.abc import Iterator

MINUTE_NS = 60 * NS_PER_S
_MINUTES_PER_HOUR, _MINUTES_PER_DAY, _MINUTES_PER_WEEK = 60, 24 * 60, 7 * 24 * 60
#: 1970-01-01 was a Thursday; counted so that day 0 is Monday.
_EPOCH_WEEKDAY, _SATURDAY = 3, 5
#: A campaign or burst reaches its full effect after this many minutes, and fades as fast.
_RAMP_MINUTES = 10.0


class Burst(msgspec.Struct, frozen=True):
    """An unannounced burst: load × ``factor`` in [start_ns, end_ns), with short ramps."""

    start_ns: int
    end_ns: int
    factor: float


class LoadModel(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of a region's load.

    Rates in events/s, ``peak_hour`` in UTC, noise as standard deviation of the log.
    """

    seed: int
    mean_eps: float = 1_000.0
    day_swing: float = 0.6
    peak_hour: float = 14.0
    weekend_factor: float = 0.7
    growth_per_week: float = 0.02
    growth_since_ns: int = 0
    noise: float = 0.05
    wander: float = 0.08
    bytes_per_event: float = 512.0
    campaigns: tuple[Trigger, ...] = ()
    bursts: tuple[Burst, ...] = ()

    def rate_eps(self, time_ns: int) -> float:
        """Load without noise at a time, in events/s."""
        minute = time_ns / MINUTE_NS
        # A second harmonic makes the morning steeper than the evening, as working days are.
        angle = 2 * math.pi * (minute / _MINUTES_PER_DAY - self.peak_hour / 24)
        rate = self.mean_eps * max(0.02, 1 + self.day_swing * (math.cos(angle) + 0.25 * math.sin(2 * angle)))
        weekday = (time_ns // (_MINUTES_PER_DAY * MINUTE_NS) + _EPOCH_WEEKDAY) % 7
        if weekday >= _SATURDAY:
            rate *= self.weekend_factor
        if self.growth_since_ns:
            weeks = (minute - self.growth_since_ns / MINUTE_NS) / _MINUTES_PER_WEEK
            rate *= (1 + self.growth_per_week) ** max(0.0, weeks)
        for campaign in self.campaigns:
            strength = _strength(time_ns, campaign.start_ns, campaign.end_ns)
            rate += strength * (campaign.raised(rate) - rate)
        for burst in self.bursts:
            rate *= 1 + (burst.factor - 1) * _strength(time_ns, burst.start_ns, burst.end_ns)
        return rate

    def events(self, minute: int) -> int:
        """Events of one minute, counted from the epoch."""
        hour, part = divmod(minute, _MINUTES_PER_HOUR)
        share = part / _MINUTES_PER_HOUR
        slow = (1 - share) * self._gauss("hour", hour) + share * self._gauss("hour", hour + 1)
        factor = math.exp(self.wander * slow + self.noise * self._gauss("minute", minute))
        return round(60 * self.rate_eps(minute * MINUTE_NS) * factor)

    def samples(self, start_ns: int, end_ns: int) -> Iterator[LoadSample]:
        """One sample per whole minute of [start_ns, end_ns)."""
        for minute in range(-(-start_ns // MINUTE_NS), end_ns // MINUTE_NS):
            events = self.events(minute)
            yield LoadSample(minute * MINUTE_NS, events, events * self.bytes_per_event)

    def _gauss(self, scale: str, number: int) -> float:
        return random.Random(f"{self.seed}/{scale}/{number}").gauss(0.0, 1.0)


def eventful_model(
    seed: int, now_ns: int, *, region: str | None = None, mean_eps: float = 1_000.0, peak_hour: float = 14.0
) -> LoadModel:
    """A fortnight around ``now_ns`` as the demo shows it.

    An announced campaign a week ago, another half an hour from now (two hours, 1.8 times the load), an unannounced
    burst in the past and one after the coming campaign.
    """
    hour_ns = _MINUTES_PER_HOUR * MINUTE_NS
    past_ns, coming_ns = now_ns - 7 * 24 * hour_ns, now_ns + hour_ns // 2
    campaigns = tuple(
        Trigger(
            id=name, name=title, region=region, start_ns=start_ns, end_ns=start_ns + 2 * hour_ns, expected_factor=1.8
        )
        for name, title, start_ns in (("campaign-1", "first campaign", past_ns), ("campaign-2", "campaign", coming_ns))
    )
    bursts = tuple(
        Burst(start_ns, start_ns + hour_ns // 2, 2.5) for start_ns in (now_ns - 100 * hour_ns, now_ns + 4 * hour_ns)
    )
    return LoadModel(
        seed=seed,
        mean_eps=mean_eps,
        peak_hour=peak_hour,
        growth_since_ns=now_ns - 14 * 24 * hour_ns,
        campaigns=campaigns,
        bursts=bursts,
    )


def _strength(time_ns: int, start_ns: int, end_ns: int) -> float:
    """0 outside the window, 1 inside, linear over the ramps (which lie inside)."""
    inside_min = min(time_ns - start_ns, end_ns - time_ns) / MINUTE_NS
    return min(1.0, max(0.0, inside_min / _RAMP_MINUTES))
