"""The forecast engine of one region: runs all forecasters, believes the one that was right lately, and never raises.

Three doors with different prices: :meth:`ForecastEngine.observe` and :meth:`ForecastEngine.forecast` take
milliseconds and belong in the tick of the forecaster actor; :meth:`ForecastEngine.fit` takes seconds, changes
nothing, and belongs in the background; :meth:`ForecastEngine.adopt` puts its result in force. An engine is not
thread-safe; ``fit`` reads nothing that the others write.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fedbus.control.forecast.announced import changes, unannounced
from fedbus.control.forecast.backtest import WINDOW_DAYS, Backtest, new_record, sound
from fedbus.control.forecast.combination import COMBINATION, combined, recentred, weights
from fedbus.control.forecast.conformal import WIDTH_LEVEL, TrackRecord, Widths
from fedbus.control.forecast.direct import DirectForecaster
from fedbus.control.forecast.models import forecasters as forecasters_named
from fedbus.control.forecast.protocol import QUANTILES, Forecast
from fedbus.control.forecast.reactive import Reactive
from fedbus.control.forecast.seasonal import profile
from fedbus.control.forecast.series import SlotSeries, native_grain, rate_series
from fedbus.control.forecast.settings import EngineSettings
from fedbus.control.load import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fedbus.control.forecast.protocol import FloatArray, Forecaster
    from fedbus.control.load import LoadHistory
    from fedbus.control.trigger import Trigger


#: A model that knows its spread is worth this much of an error more than one that does not.
SPREAD_WORTH = 0.9
#: Below this share of measured ones among the recent slots, nobody knows the present level.
RECENT_SLOTS, RECENT_SHARE = 6, 0.5


@dataclass(frozen=True)
class Fitted:
    """Result of a fit: fitted forecasters by name, their backtest, and what went wrong with the others."""

    at_slot: int
    slot_s: int
    forecasters: dict[str, Forecaster]
    records: dict[str, TrackRecord]
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Waiting:
    """A forecast whose slots are still to come: all paths, and the 95 % bound of a model that knows its spread."""

    start_slot: int
    paths: dict[str, FloatArray]
    bound: FloatArray | None


class ForecastEngine:
    """Forecasts of one region. ``forecasters`` are in the order of preference; the last resort is always reactive."""

    def __init__(
        self,
        region: str,
        settings: EngineSettings | None = None,
        forecasters: Sequence[Forecaster] | None = None,
    ) -> None:
        self.region = region
        self.settings = settings or EngineSettings()
        self._offered = tuple(forecasters or forecasters_named(self.settings.models))
        self._reactive = Reactive()
        self._begin(1)

    def _begin(self, grain: int) -> None:
        """Know nothing yet, in slots of ``grain`` times the setting."""
        self._grain, self._slot_s = grain, grain * self.settings.slot_s
        self._series = SlotSeries(np.empty(0), 0, self._slot_s)
        self._filled = self._series
        self._fitted: dict[str, Forecaster] = {}
        self._fitted_at: dict[str, int] = {}
        self._records: dict[str, TrackRecord] = {self._reactive.name: new_record(self.settings)}
        self._widths = Widths(self.settings.scored_leads)
        self._fitted_at_slot: int | None = None
        self._fitted_names: frozenset[str] = frozenset()
        self._failures: dict[str, str] = {}
        self._chosen = ""
        self._waiting: deque[_Waiting] = deque(maxlen=4 * self.settings.scored_leads)
        """Forecasts by the slot they start at, until their slots have passed."""

    def observe(self, history: LoadHistory, triggers: Iterable[Trigger] = ()) -> None:
        """Take the region's history as it is now (the whole of it), and score earlier forecasts against it.

        What ``triggers`` announce is no error of a forecast that could not know: slots after it do not count.
        """
        self._read(history)
        leads = self.settings.scored_leads
        announced = changes(self.region, triggers, self._series, leads) if self._waiting else ()
        while self._waiting and self._waiting[0].start_slot + leads <= self._series.end_slot:
            waiting = self._waiting.popleft()
            at = waiting.start_slot - self._series.first_slot
            if at < 0:
                continue
            actual = unannounced(self._series.values[at : at + leads], waiting.start_slot, announced)
            minutes = np.where(np.isfinite(actual)[:, None], self._series.minutes[at : at + leads], np.nan)
            for name, path in waiting.paths.items():
                self._records.setdefault(name, new_record(self.settings)).add(path, actual, minutes)
            if waiting.bound is not None:
                self._widths.add(waiting.bound, minutes)

    def _read(self, history: LoadHistory) -> None:
        known = self._series if len(self._series.values) else None
        self._series = rate_series(history, self._slot_s, _history_slots(self.settings, self._slot_s), known)
        base = self._series
        if self._grain > 1 or history.slot_s > self._slot_s:
            recent = 3 * 86_400 // self.settings.slot_s
            base = rate_series(history, self.settings.slot_s, recent)
        grain = native_grain(base, self._grain)
        if grain != self._grain:
            self._begin(grain)
            self._series = rate_series(history, self._slot_s, _history_slots(self.settings, self._slot_s))
        self._filled = self._series.filled()

    def fit_due(self, now_ns: int) -> bool:
        """Whether a fit would change something: never fitted, too old, or history now suffices for another model."""
        possible = {f.name for f in self._offered if _suffices(f, self._filled)}
        if self._fitted_at_slot is None:
            return bool(possible)
        age_s = now_ns / NS_PER_S - self._fitted_at_slot * self._slot_s
        return age_s >= self.settings.refit_every_s or bool(possible - self._fitted_names - self._failures.keys())

    def fit(self, history: LoadHistory, triggers: Iterable[Trigger] = ()) -> Fitted:
        """Fit and backtest every forecaster the history suffices for: seconds; never raises, changes nothing here."""
        slot_s, fitted_at, in_force = self._slot_s, self._fitted_at, self._fitted
        series = rate_series(history, slot_s, _history_slots(self.settings, slot_s))
        filled = series.filled()
        result = Fitted(series.end_slot, slot_s, {}, {})
        backtest = Backtest(series, filled, self.settings, changes(self.region, triggers, series, len(series.values)))
        said = {}
        for forecaster in (*self._offered, self._reactive):
            name = forecaster.name
            if forecaster is not self._reactive and not _suffices(forecaster, filled):
                continue
            age_s = (series.end_slot - fitted_at.get(name, series.end_slot)) * slot_s
            if name in in_force and forecaster.slow and age_s < self.settings.slow_refit_every_s:
                result.forecasters[name] = in_force[name]
                continue
            try:
                fitted = forecaster.fit(backtest.shown)
                paths = backtest.paths(fitted)
                result.records[name] = backtest.record(paths)
                result.forecasters[name] = fitted if forecaster.slow else forecaster.fit(filled)
                if forecaster is not self._reactive:
                    said[name] = paths
            except Exception as error:  # noqa: BLE001 - a model that fails is left out; what failed is told
                result.failures[name] = f"{type(error).__name__}: {error}"
        mean = backtest.combination(said, result.records, math.ceil(self.settings.lead_s / slot_s))
        if mean is not None:
            result.records[COMBINATION] = mean
        return result

    def adopt(self, fitted: Fitted) -> None:
        """Put a fit in force; a record earned live is kept, a shorter one is replaced by the backtest's."""
        if fitted.slot_s != self._slot_s:
            return  # the history turned out to be in other steps meanwhile: another fit is due
        models = {name: each for name, each in fitted.forecasters.items() if name != self._reactive.name}
        self._fitted_at = {
            name: self._fitted_at[name] if self._fitted.get(name) is each else fitted.at_slot
            for name, each in models.items()
        }
        self._fitted = models
        self._fitted_at_slot = fitted.at_slot
        self._fitted_names = frozenset(fitted.forecasters)
        self._failures = dict(fitted.failures)
        for name, record in fitted.records.items():
            if len(self._records.get(name, ())) < len(record):
                self._records[name] = record

    def forecast(self, now_ns: int, horizon_s: float, lead_s: float | None = None) -> Forecast:
        """Forecast from the slot that is under way up to ``now_ns + horizon_s``: milliseconds, never raises.

        ``lead_s``: the time provisioning takes now, by which forecasters are compared (default: the setting).
        """
        slot_s = self._slot_s
        slot_ns = slot_s * NS_PER_S
        now_slot = now_ns // slot_ns
        length = -(-round(now_ns + max(0.0, horizon_s) * NS_PER_S) // slot_ns) - now_slot
        most = max(1, self.settings.maximum_horizon_slots // self._grain)
        length = min(most, max(1, self.settings.scored_leads, length))
        window = _recent_window(self._filled, now_slot)
        notes = [f"{name} failed ({why})" for name, why in self._failures.items()]
        paths, bounds = self._paths(window, length, notes)
        lead = math.ceil(max(0.0, self.settings.lead_s if lead_s is None else lead_s) / slot_s)
        scores = self._scores(lead)
        self._combine(paths, bounds, lead)
        name = self._choose(paths, bounds, scores, notes)
        self._remember(window, paths, bounds)
        point, ceiling = paths[name], self._ceiling()
        prices: dict[float, float] = {}
        spread = next((each for each in self._fitted.values() if isinstance(each, DirectForecaster)), None)
        if name in bounds and spread is not None:
            upper, prices = bounds[name], spread.prices_at(lead)
        else:
            upper = _bounds(self._records.setdefault(name, new_record(self.settings)), point)
        upper = np.clip(upper, 0.0, ceiling)
        normal = np.clip(_normal(window, length), 0.0, ceiling)
        spread_over = np.repeat(np.arange(length), self._grain)
        return Forecast(
            region=self.region,
            made_at_ns=now_ns,
            start_ns=now_slot * slot_ns,
            slot_s=self.settings.slot_s,
            model=name,
            basis="fallback" if name == self._reactive.name else "model",
            point_eps=tuple(point[spread_over].tolist()),
            quantiles={
                level: tuple(path[spread_over].tolist()) for level, path in zip(QUANTILES, upper.T, strict=True)
            },
            normal_eps=tuple(normal[spread_over].tolist()),
            mase=scores.get(name),
            scores=scores,
            note="; ".join(dict.fromkeys(notes)),
            prices=prices,
        )

    def recent(self, slots: int) -> tuple[int, int, tuple[float, ...]]:
        """For showing: (start in ns, slot_s, events/s) of the last ``slots`` slots observed."""
        tail = self._series.tail(slots)
        return tail.first_slot * tail.slot_s * NS_PER_S, tail.slot_s, tuple(tail.values.tolist())

    def _paths(
        self, window: SlotSeries, length: int, notes: list[str]
    ) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
        """Point paths of all that can say something now (the reactive always), and bounds where a model has them."""
        heard = self._series.extended_to(window.end_slot).measured_share(RECENT_SLOTS) >= RECENT_SHARE
        if not heard:
            notes.append("recent load was not measured")
        paths: dict[str, FloatArray] = {}
        bounds: dict[str, FloatArray] = {}
        for name, forecaster in self._fitted.items():
            if len(window.values) < window.slots_per_day or (forecaster.needs_recent and not heard):
                continue
            try:
                if isinstance(forecaster, DirectForecaster):
                    found, upper = forecaster.forward_with_bounds(window, length, self._widths.factors())
                    if np.isfinite(upper).all():
                        bounds[name] = upper
                else:
                    found = forecaster.forward(window, length)
                path = sound(found, window, self.settings.largest_growth)
            except Exception as error:  # noqa: BLE001 - a model that fails is left out; what failed is told
                notes.append(f"{name} failed ({type(error).__name__}: {error})")
                continue
            if path is None:
                notes.append(f"{name} gave no sensible numbers")
            else:
                paths[name] = path
        # The last resort does without a record: whatever happens, there is a path.
        paths[self._reactive.name] = np.clip(self._reactive.forward(window, length), 0.0, None)
        return paths, {name: upper for name, upper in bounds.items() if name in paths}

    def _scores(self, lead: int) -> dict[str, float]:
        """Rolling MASE at the lead, per forecaster that has a record."""
        values = self._series.values
        day = self._series.slots_per_day
        shift = day if len(values) > day else 1
        steps = np.abs(values[shift:] - values[:-shift])
        steps = steps[np.isfinite(steps)]
        scale = float(steps.mean()) if len(steps) else 0.0
        # A constant series has no scale; a thousandth of its level stands in, so that rounding is no error.
        scale = max(scale, 1e-3 * float(self._filled.values.mean()) if len(values) else 0.0, 1e-9)
        errors = {name: record.mean_absolute_error(lead) for name, record in self._records.items()}
        return {name: round(error / scale, 4) for name, error in errors.items() if math.isfinite(error)}

    def _combine(self, paths: dict[str, FloatArray], bounds: dict[str, FloatArray], lead: int) -> None:
        """Add the weighted mean of the models, with the bounds of the one that knows its spread moved to it."""
        records = {name: self._records[name] for name in (paths.keys() & self._records.keys()) - {self._reactive.name}}
        errors = {name: record.mean_absolute_error(lead) for name, record in sorted(records.items())}
        weighted = weights(errors, min(map(len, records.values()), default=0))
        if weighted:
            paths[COMBINATION] = combined(paths, weighted)
            for name in bounds.keys() & weighted.keys():
                bounds[COMBINATION] = recentred(bounds[name], paths[name], paths[COMBINATION])

    def _choose(
        self, paths: dict[str, FloatArray], bounds: Iterable[str], scores: dict[str, float], notes: list[str]
    ) -> str:
        """The forecaster with the least recent error that passes the gate; the present one unless clearly beaten."""
        models = [name for name in paths if name != self._reactive.name]
        trusted = {name: scores[name] for name in models if scores.get(name, math.inf) <= self.settings.largest_mase}
        if not trusted:
            notes.append("no model was accurate lately" if models else "history is too short for a model")
            return self._reactive.name
        trusted = {name: score * (SPREAD_WORTH if name in bounds else 1.0) for name, score in trusted.items()}
        best = min(trusted, key=lambda name: trusted[name])
        if trusted.get(self._chosen, math.inf) * self.settings.switch_gain > trusted[best]:
            self._chosen = best
        return self._chosen

    def _remember(self, window: SlotSeries, paths: dict[str, FloatArray], bounds: dict[str, FloatArray]) -> None:
        """Keep the first forecast made in each slot, to be scored once its slots have passed."""
        if len(window.values) and (not self._waiting or self._waiting[-1].start_slot < window.end_slot):
            leads = self.settings.scored_leads
            kept = {name: path[:leads].copy() for name, path in paths.items()}
            upper = next(iter(bounds.values()), None)
            bound = None if upper is None else upper[:leads, QUANTILES.index(WIDTH_LEVEL)]
            self._waiting.append(_Waiting(window.end_slot, kept, bound))

    def _ceiling(self) -> float:
        return self.settings.largest_growth * float(self._filled.values.max(initial=0.0))


def _history_slots(settings: EngineSettings, slot_s: int) -> int:
    return settings.history_days * 86_400 // slot_s


def _bounds(record: TrackRecord, point: FloatArray) -> FloatArray:
    """Bounds by the forecaster's own past errors, (slots, quantiles)."""
    offsets = record.offsets()
    return np.asarray(np.expm1(np.log1p(point)[:, None] + offsets[np.minimum(np.arange(len(point)), len(offsets) - 1)]))


def _suffices(forecaster: Forecaster, series: SlotSeries) -> bool:
    """A quarter at most is held out of the fit, and what remains must suffice."""
    return len(series.values) * 3 // 4 >= forecaster.minimum_slots(series.slots_per_day)


def _recent_window(filled: SlotSeries, now_slot: int) -> SlotSeries:
    """The recent past without holes, up to the slot under way; what was not heard yet is bridged.

    Empty if nothing recent is known at all.
    """
    recent = filled.tail(WINDOW_DAYS * filled.slots_per_day)
    unheard = now_slot - recent.end_slot
    if unheard >= len(recent.values) or recent.first_slot >= now_slot:
        return SlotSeries(np.empty(0), now_slot, filled.slot_s)
    return recent.extended_to(now_slot).filled()


def _normal(window: SlotSeries, length: int) -> FloatArray:
    """What is usual at that time of day; the median while there is not a day of history."""
    if len(window.values) >= window.slots_per_day:
        return profile(window.values, window.slots_per_day, 0, length)
    return np.full(length, float(np.median(window.values)) if len(window.values) else 0.0)
