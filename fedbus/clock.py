"""The clock: the only module that reads time.

Everything that depends on time takes a :class:`Clock` (shells) or a plain ``now_ns`` (the pure core), so that a test
can hold time still and the demo can let two weeks pass in a minute. Nothing here waits: whoever waits knows on what (a
socket, a queue, an event) and asks :meth:`Clock.real_seconds` for how long.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

NS_PER_S = 1_000_000_000


def cpu_s() -> float:
    """CPU seconds this process has used so far, all threads; only differences mean something."""
    return time.process_time()


class Clock(Protocol):
    """A source of time. Wall time may jump (it names moments), monotonic time never goes back (it measures)."""

    def now_ns(self) -> int:
        """Wall time of this clock: nanoseconds since the Unix epoch, UTC."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds since an arbitrary moment, in this clock's time; only differences mean something."""
        ...

    def real_seconds(self, simulated_s: float) -> float:
        """How many seconds of real time pass while this clock advances by ``simulated_s`` seconds."""
        ...


@dataclass(frozen=True, slots=True)
class SystemClock:
    """The machine's own clocks, without a call in between: producers read them for every event."""

    now_ns = staticmethod(time.time_ns)
    monotonic_ns = staticmethod(time.monotonic_ns)

    def real_seconds(self, simulated_s: float) -> float:
        """The same number: this clock is real."""
        return simulated_s


@dataclass(frozen=True, slots=True)
class ScaledClock:
    """Time that runs ``speed`` times as fast as the machine's, from ``start_ns`` at the real moment ``anchor_ns``.

    Both are Unix nanoseconds. The anchor is real wall time and not monotonic time, because several processes share one
    such clock: whoever holds the same three numbers reads the same time. It is therefore as steady as the machine's
    wall clock, which is good enough for a demonstration and for nothing that must not lose data.
    """

    start_ns: int
    speed: float
    anchor_ns: int = field(default_factory=time.time_ns)

    def __post_init__(self) -> None:
        if not self.speed > 0:
            raise ValueError(f"speed is {self.speed}: a clock runs forward, so it must be greater than 0")

    def now_ns(self) -> int:
        """Simulated Unix time in nanoseconds."""
        return self.start_ns + round((time.time_ns() - self.anchor_ns) * self.speed)

    def monotonic_ns(self) -> int:
        """The machine's monotonic clock, scaled."""
        return round(time.monotonic_ns() * self.speed)

    def real_seconds(self, simulated_s: float) -> float:
        """Real seconds in which ``simulated_s`` simulated ones pass."""
        return simulated_s / self.speed


@dataclass(slots=True)
class ManualClock:
    """Time that stands still until a test advances it; both readings move together."""

    wall_ns: int = 0
    elapsed_ns: int = field(default=0, init=False)

    def now_ns(self) -> int:
        """Unix time in nanoseconds, as set and advanced."""
        return self.wall_ns

    def monotonic_ns(self) -> int:
        """Nanoseconds by which this clock has been advanced."""
        return self.elapsed_ns

    def real_seconds(self, simulated_s: float) -> float:
        """The same number: whoever really waits, waits in real time."""
        return simulated_s

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass; a negative number is a bug of the test."""
        assert seconds >= 0, f"time does not go back: {seconds} s"
        step_ns = round(seconds * NS_PER_S)
        self.wall_ns += step_ns
        self.elapsed_ns += step_ns
