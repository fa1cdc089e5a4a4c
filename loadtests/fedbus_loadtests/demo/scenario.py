"""The scenario: whose load is replayed, how fast, on how small instances. Pure: all follows from the load series.

Rates here are per second of the demonstration's clock, as everywhere in the control plane; multiplied by ``speed`` they
are what is really published.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from fedbus.clock import NS_PER_S
from fedbus.control.load import LoadSample
from fedbus.control.load_model import MINUTE_NS, Burst, LoadModel
from fedbus.control.sla import target_utilization
from fedbus.control.trace import Trace
from fedbus.control.trigger import Trigger
from fedbus_loadtests.demo.window import DAY_S, HISTORY_DAYS, Window, choose_window, filled

#: Real events/s of the whole federation at the peak: what one busy core carries beside everything else.
PEAK_REAL_EPS = 400.0
BYTES_PER_EVENT = 200.0
#: Share of the events that are orders: keyed, and wanted by a group of one region from everywhere.
ORDERS = 0.3
HTTP_SHARE = 0.1
#: The load at the window's lower end fills one instance to this share of what it is planned for …
_FILLED_AT_START = 0.75
#: … but the peak shall need no more than this many.
_MOST_INSTANCES = 3
#: A forecast's upper quantile lies about this far above the load.
_QUANTILE_ABOVE = 1.15
_STEPS_S = (300, 600, 900, 1800, 3600)
#: A step of the forecast takes at least this long: managers look twice a second.
_LEAST_STEP_REAL_S = 1.0
_MODEL_START_NS = 1_749_427_200 * NS_PER_S  # Monday, 2025-06-09
_MODEL_HOUR = 5


class Site(msgspec.Struct, frozen=True):
    """A region's part: the token that its topics carry, and its share of the events."""

    region: str
    token: str
    share: float


SITES = (
    Site("aws.us-east-1", "us", 0.45),
    Site("gcp.europe-west1", "eu", 0.30),
    Site("onprem.berlin", "berlin", 0.25),
)
#: Where the group is that wants the orders of all regions.
HOME = SITES[2]


BILLING = "billing"


def clicks_group(site: Site) -> str:
    """The group that wants a region's own page views."""
    return f"clicks-{site.token}"


def groups() -> dict[str, tuple[Site, str]]:
    """Every group with the region it consumes in and its filter; together they want every event exactly once."""
    return {BILLING: (HOME, "orders.>")} | {clicks_group(site): (site, f"clicks.{site.token}.>") for site in SITES}


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """What is replayed. ``trace`` holds the whole federation's events, scaled; ``step_s`` is the slot of history."""

    title: str
    trace: Trace
    window: Window
    speed: float
    step_s: int
    capacity_eps: float
    scale: float = 1.0
    """Events published per event of the source."""
    triggers: tuple[Trigger, ...] = ()
    bursts: tuple[Burst, ...] = ()

    @property
    def replay_s(self) -> float:
        """Real seconds that the window takes."""
        return (self.window.end_ns - self.window.start_ns) / NS_PER_S / self.speed

    def rate_eps(self, time_ns: int) -> float:
        """Events/s born in the whole federation at a time; the series' ends hold beyond them."""
        place = (time_ns - self.trace.start_ns) // (self.trace.step_s * NS_PER_S)
        return self.trace.events[max(0, min(len(self.trace.events) - 1, place))] / self.trace.step_s

    def history(self, site: Site) -> Iterator[LoadSample]:
        """The load of a region in the days before the window, slot by slot, linked events included."""
        slots = self.trace.resampled(self.step_s)
        first_ns = self.window.start_ns - HISTORY_DAYS * DAY_S * NS_PER_S
        slot_ns, factor = self.step_s * NS_PER_S, load_share(site)
        for place, events in enumerate(slots.events):
            time_ns = slots.start_ns + place * slot_ns
            if first_ns <= time_ns and time_ns + slot_ns <= self.window.start_ns:
                yield LoadSample(time_ns, events * factor, events * factor * BYTES_PER_EVENT)


def load_share(site: Site) -> float:
    """What part of the federation's events a region carries: those born there, and the orders that it pulls."""
    return site.share + (ORDERS * (1 - site.share) if site is HOME else 0.0)


def from_trace(trace: Trace, title: str, replay_s: float) -> Scenario:
    """Replay the best window of a trace in ``replay_s`` real seconds; ConfigurationError if it has none."""
    window = choose_window(trace)
    return _scenario(trace, window, title, replay_s)


def from_model(seed: int, replay_s: float) -> Scenario:
    """The built-in load: a working day's morning, an unannounced burst, an announced campaign at noon."""
    days_ns = HISTORY_DAYS * DAY_S * NS_PER_S
    start_ns = _MODEL_START_NS + days_ns + _MODEL_HOUR * 60 * MINUTE_NS
    end_ns = start_ns + 300 * MINUTE_NS
    campaign = Trigger(
        id="campaign", name="summer campaign", start_ns=start_ns + 170 * MINUTE_NS, end_ns=start_ns + 230 * MINUTE_NS,
        expected_factor=1.9,
    )  # fmt: skip
    burst = Burst(start_ns + 115 * MINUTE_NS, start_ns + 135 * MINUTE_NS, 1.4)
    model = LoadModel(
        seed=seed, mean_eps=10.0, peak_hour=15.0, day_swing=0.62, noise=0.03, wander=0.04, weekend_factor=0.8,
        campaigns=(campaign,), bursts=(burst,),
    )  # fmt: skip
    samples = model.samples(_MODEL_START_NS, end_ns)
    trace = Trace(_MODEL_START_NS, 60, tuple(sample.events for sample in samples))
    quiet = msgspec.structs.replace(model, campaigns=(), bursts=())
    low_eps, noon_eps = quiet.rate_eps(start_ns + 15 * MINUTE_NS), quiet.rate_eps(end_ns)
    peak_ns = (campaign.start_ns + campaign.end_ns) // 2
    window = Window(start_ns, end_ns, peak_ns, low_eps, campaign.raised(noon_eps), low_eps)
    scenario = _scenario(trace, window, "the built-in load model", replay_s)
    return msgspec.structs.replace(scenario, triggers=(campaign,), bursts=(burst,))


def _scenario(trace: Trace, window: Window, title: str, replay_s: float) -> Scenario:
    speed = (window.end_ns - window.start_ns) / NS_PER_S / replay_s
    scale = PEAK_REAL_EPS / (window.peak_eps * speed)
    events = tuple(value * scale for value in filled(trace.events))
    step_s = next((s for s in _STEPS_S if s >= max(trace.step_s, speed * _LEAST_STEP_REAL_S)), _STEPS_S[-1])
    biggest = max(load_share(site) for site in SITES) * scale
    planned_eps = max(
        biggest * max(window.start_eps, window.end_eps) / _FILLED_AT_START,
        biggest * window.peak_eps * _QUANTILE_ABOVE / _MOST_INSTANCES,
    )
    return Scenario(
        title=title,
        trace=Trace(trace.start_ns, trace.step_s, events),
        window=_scaled(window, scale),
        speed=speed,
        step_s=step_s,
        capacity_eps=_rounded_up(planned_eps / target_utilization([])),
        scale=scale,
    )


def _scaled(window: Window, scale: float) -> Window:
    return msgspec.structs.replace(
        window,
        start_eps=window.start_eps * scale,
        peak_eps=window.peak_eps * scale,
        end_eps=window.end_eps * scale,
    )


def _rounded_up(value: float) -> float:
    """To two significant digits: a declared capacity is a figure for people."""
    unit: float = 10.0 ** (math.floor(math.log10(value)) - 1)
    return round(math.ceil(value / unit) * unit, 12)
