"""The demonstration's clock: real time until the replay begins, many times as fast from then on, in every process.

Starting takes as long as the machine needs, and time must not run away meanwhile. So the processes share eight bytes, a
file in the data directory: the real moment at which the replay begins, zero until that is known. Two scaled clocks do
the rest.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from fedbus.clock import ScaledClock, SystemClock

_MOMENT = struct.Struct("<q")
#: The replay begins this much later than it is ordered, so that no process has passed the moment when it learns of it.
NOTICE_NS = 250_000_000


class DemoClock:
    """Implements :class:`fedbus.clock.Clock`; may be sent to other processes of this machine."""

    def __init__(self, file: Path, start_ns: int, speed: float, anchor_ns: int | None = None) -> None:
        """Simulated ``start_ns`` is now (or real ``anchor_ns``); ``file`` is made if it is not there."""
        self._file, self._start_ns, self.speed = file, start_ns, speed
        self._anchor_ns = SystemClock().now_ns() if anchor_ns is None else anchor_ns
        if not file.exists():
            file.write_bytes(_MOMENT.pack(0))
        with file.open("r+b") as opened:
            self._memory = mmap.mmap(opened.fileno(), _MOMENT.size)
        self._before = ScaledClock(start_ns, 1.0, self._anchor_ns)
        self._after: ScaledClock | None = None

    def __reduce__(self) -> tuple[type[DemoClock], tuple[Path, int, float, int]]:
        return DemoClock, (self._file, self._start_ns, self.speed, self._anchor_ns)

    def begin(self) -> None:
        """Let time run fast from a moment on; once, by the one who tells the story."""
        _MOMENT.pack_into(self._memory, 0, SystemClock().now_ns() + NOTICE_NS)

    @property
    def began(self) -> bool:
        """Whether time runs fast."""
        return self._now() is not self._before

    def now_ns(self) -> int:
        """Simulated Unix time in nanoseconds."""
        return self._now().now_ns()

    def monotonic_ns(self) -> int:
        """The same: simulated time never goes back."""
        return self.now_ns()

    def real_seconds(self, simulated_s: float) -> float:
        """Real seconds in which ``simulated_s`` simulated ones pass at the present speed."""
        return self._now().real_seconds(simulated_s)

    def _now(self) -> ScaledClock:
        if self._after is None:
            (moment_ns,) = _MOMENT.unpack_from(self._memory)
            if not moment_ns:
                return self._before
            self._after = ScaledClock(self._start_ns + moment_ns - self._anchor_ns, self.speed, moment_ns)
        return self._after if SystemClock().now_ns() >= self._after.anchor_ns else self._before
