"""Triggers: events outside the bus that are known ahead (a campaign, a scheduled task) and the load they bring.

A trigger happens in windows: those announced one by one, or those of a recurrence. What it brings is announced only as
a first guess; what its earlier occurrences really brought is learned (:mod:`fedbus.control.outlook`), and bursts that
recur without anybody having announced them become triggers too (:mod:`fedbus.control.bursts`). A trigger only ever
raises what is provided, like a floor: a wrong one costs instances, it never takes any away.
"""

from __future__ import annotations

import math
from itertools import islice, takewhile
from typing import TYPE_CHECKING

import msgspec

from fedbus.control.load import NS_PER_S
from fedbus.control.recurrence import Recurrence, parse_cron, shortest_gap_ns
from fedbus.errors import ConfigurationError
from fedbus.quantity import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Beyond this an announced factor is taken for a typing error.
MAXIMUM_FACTOR = 1_000.0
#: Until when a recurrence holds that has no end.
FOREVER_NS = 2**63 - 1
#: What lasts longer is a season, for the forecaster to learn.
LONGEST_RECURRING_NS = 7 * 86_400 * NS_PER_S
#: More windows than this are rather a recurrence; when announced one by one, the oldest are forgotten.
MOST_WINDOWS = 64


class Window(msgspec.Struct, frozen=True, order=True):
    """One occurrence: the load comes in [``start_ns``, ``end_ns``)."""

    start_ns: int
    end_ns: int

    def overlaps(self, start_ns: int, end_ns: int) -> bool:
        """Whether any of it lies in [start_ns, end_ns)."""
        return self.start_ns < end_ns and start_ns < self.end_ns


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """An event known ahead: in its windows the load is expected to be normal × factor + extra, until that is learned.

    Without ``cron`` [``start_ns``, ``end_ns``) is its window and ``also`` are further ones of the same event, earlier
    or to come. With ``cron`` an occurrence begins whenever that says (in ``zone``), between ``start_ns`` and
    ``end_ns``, and lasts ``duration_ns``. ``region`` None means every region. ``confidence`` is set for those detected
    (0 to 1). Raises ConfigurationError for an empty window, an effect that is no effect, a bad cron expression.
    """

    id: str
    start_ns: int = 0
    end_ns: int = FOREVER_NS
    name: str = ""
    region: str | None = None
    expected_factor: float = 1.0
    expected_extra_eps: float = 0.0
    cron: str = ""
    duration_ns: int = 0
    zone: str = "UTC"
    also: tuple[Window, ...] = ()
    confidence: float | None = None

    def __post_init__(self) -> None:
        if self.end_ns <= self.start_ns or any(window.end_ns <= window.start_ns for window in self.also):
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
        if len(self.also) >= MOST_WINDOWS:
            raise ConfigurationError(
                f"trigger {self.id!r} has more than {MOST_WINDOWS} windows: give a cron expression"
            )
        self._check_recurrence()

    def _check_recurrence(self) -> None:
        if not self.cron:
            if self.duration_ns or self.end_ns == FOREVER_NS:
                raise ConfigurationError(f"trigger {self.id!r} has no window: give start and end, or cron and duration")
            return
        if not 0 < self.duration_ns <= LONGEST_RECURRING_NS:
            raise ConfigurationError(
                f"trigger {self.id!r} recurs: give the duration of an occurrence, more than 0 and at most 7d"
            )
        if self.also:
            raise ConfigurationError(f"trigger {self.id!r} has windows and a cron expression: give one of the two")
        try:
            parse_cron(self.cron, self.zone)
            gap_ns = shortest_gap_ns(self.cron)  # in UTC: the hour of a change to summer time is no overlap
        except ConfigurationError as error:
            raise ConfigurationError(f"trigger {self.id!r}: {error.detail}") from None
        if self.duration_ns > gap_ns:
            raise ConfigurationError(
                f"trigger {self.id!r} begins again ({self.cron!r}) before it is over: give a duration of at most"
                f" {format_duration(gap_ns // 1_000_000)}, or a cron expression that comes less often"
            )

    @property
    def title(self) -> str:
        """What people call it: its name, else its id."""
        return self.name or self.id

    @property
    def detected(self) -> bool:
        """Whether nobody announced it."""
        return self.confidence is not None

    @property
    def recurrence(self) -> Recurrence | None:
        """When it happens again, if it does by itself."""
        return parse_cron(self.cron, self.zone) if self.cron else None

    def concerns(self, region: str) -> bool:
        """Whether the trigger is about this region."""
        return self.region is None or self.region == region

    def occurrences(self, start_ns: int, end_ns: int) -> Iterator[Window]:
        """The windows of which any part lies in [start_ns, end_ns), earliest first."""
        recurrence = self.recurrence
        if recurrence is None:
            windows = sorted({Window(self.start_ns, self.end_ns), *self.also})
            yield from (window for window in windows if window.overlaps(start_ns, end_ns))
            return
        first_ns = max(self.start_ns, start_ns - self.duration_ns + 1)
        begins = recurrence.from_ns(first_ns) if first_ns < self.end_ns else ()
        for begin_ns in takewhile(lambda each: each < min(end_ns, self.end_ns), begins):
            yield Window(begin_ns, begin_ns + self.duration_ns)

    def last_before(self, time_ns: int, count: int, oldest_ns: int = 0) -> tuple[Window, ...]:
        """The last ``count`` windows that began before ``time_ns`` and not before ``oldest_ns``, latest first."""
        recurrence = self.recurrence
        if recurrence is None:
            windows = sorted({Window(self.start_ns, self.end_ns), *self.also}, reverse=True)
            return tuple(each for each in windows if oldest_ns <= each.start_ns < time_ns)[:count]
        least_ns = max(oldest_ns, self.start_ns)
        begun = takewhile(lambda each: each >= least_ns, recurrence.before_ns(min(time_ns, self.end_ns)))
        return tuple(Window(each, each + self.duration_ns) for each in islice(begun, count))

    def overlaps(self, start_ns: int, end_ns: int) -> bool:
        """Whether any of its windows lies in [start_ns, end_ns), even in part."""
        return next(self.occurrences(start_ns, end_ns), None) is not None

    def raised(self, normal_eps: float) -> float:
        """Announced load in events/s where ``normal_eps`` would be normal; never below normal."""
        return max(normal_eps, normal_eps * self.expected_factor + self.expected_extra_eps)

    def after(self, known: Trigger, now_ns: int) -> Trigger:
        """It in the place of one ``known`` under the same id: windows of that which are over stay, to learn from."""
        if self.cron or known.cron:
            return self
        own = {Window(self.start_ns, self.end_ns), *self.also}
        over = {each for each in known.occurrences(0, FOREVER_NS) if each.end_ns <= now_ns} - own
        kept = sorted(over, reverse=True)[: max(0, MOST_WINDOWS - 1 - len(self.also))]
        return msgspec.structs.replace(self, also=tuple(sorted({*self.also, *kept})))


def triggers_for(region: str, triggers: Iterable[Trigger], start_ns: int, end_ns: int) -> tuple[Trigger, ...]:
    """The triggers that concern the region in [start_ns, end_ns), earliest first."""
    found = (each for each in triggers if each.concerns(region) and each.overlaps(start_ns, end_ns))
    return tuple(sorted(found, key=lambda each: (each.start_ns, each.id)))
