"""One peer: another region as this one hears it, and whether it is lost.

Proof of life is an *echo*: a report of the peer that says that it has heard a report of ours. A peer that is heard but
does not hear us is lost as well, for nothing can be asked of it: links pull, and calls want answers. How long the
silence may be is judged by the accrual detector, at most ``lost_after_ns``.
"""

from __future__ import annotations

import msgspec

from fedbus.control.health import SUSPICION_PHI, FailureDetector
from fedbus.control.load import NS_PER_S
from fedbus.control.peer_messages import Echo, Report
from fedbus.control.summary import RegionAddress, RegionSummary

SMOOTHING = 0.2
REPORTS_REMEMBERED = 64


class PeeringSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how patiently. ``redial_ns``: a silent peer gets a fresh connection this often.

    A peer is lost when its silence is as unlikely as ``suspicion_phi`` says (``health.FailureDetector``), and after
    ``lost_after_ns`` in any case.
    """

    interval_ns: int = NS_PER_S // 2
    lost_after_ns: int = 3 * NS_PER_S
    suspicion_phi: float = SUSPICION_PHI
    redial_ns: int = 3 * NS_PER_S
    exchange_ns: int = 2 * NS_PER_S
    """Pause between two exchanges of all groups with one peer."""
    groups_at_once: int = 50
    calls: int = 64
    """Calls under way to one peer, and from one."""


class Peer:
    """What is known of one other region. ``summary``: its last word; ``round_trip_ms``: smoothed.

    ``generation``, ``heard``: of the newest report heard, 0 before the first. ``lost_since_ns``: while it is lost, when
    it last proved that it lives (or when it was first waited for).
    """

    def __init__(self, address: RegionAddress, settings: PeeringSettings, now_ns: int) -> None:
        self.address = address
        self.summary: RegionSummary | None = None
        self.round_trip_ms: float | None = None
        self.generation = 0
        self.heard = 0
        self.lost_since_ns: int | None = None
        self.exchanged_ns: int | None = None
        self.dialled_ns: int | None = None
        self._settings = settings
        self._detector = FailureDetector(settings.interval_ns / NS_PER_S)
        self._heard_ns = now_ns
        self._proof_ns = now_ns
        self._echoed = 0
        self._sent_ns: dict[int, int] = {}

    @property
    def answered(self) -> bool:
        """Whether it has ever proved that it hears this region."""
        return self._echoed > 0

    @property
    def present(self) -> bool:
        """Whether it answers: it has proved so, and is not lost."""
        return self.answered and self.lost_since_ns is None

    def has_superseded(self, generation: int) -> bool:
        """Whether a manager of this generation has a successor there; else the generation counts from now on."""
        if generation < self.generation:
            return True
        if generation > self.generation:
            self.generation, self.heard = generation, 0
        return False

    def reported(self, report: Report, generation: int, now_ns: int) -> bool:
        """A report of it arrived; ``generation``: this region's own. False if a newer one was there before."""
        if report.sequence <= self.heard:
            return False
        self.heard, self._heard_ns = report.sequence, now_ns
        if report.summary is not None:
            self.summary = report.summary
        echo = report.echo
        if echo is not None and echo.generation == generation and self._echoed < echo.sequence:
            self._proved(echo, now_ns)
        return True

    def _proved(self, echo: Echo, now_ns: int) -> None:
        """It has heard the report of that number; when, counts, not when it says so: it may be deaf since."""
        held_ns = max(0, echo.held_ns)
        self._echoed, self._proof_ns = echo.sequence, max(self._proof_ns, now_ns - held_ns)
        if self.lost_since_ns is None:
            self._detector.answered(self._proof_ns)
        elif now_ns - self._proof_ns < self._settings.lost_after_ns // 2:
            self._detector.reset()  # the silence that is over says nothing about how regular it is
            self._detector.answered(self._proof_ns)
            self.lost_since_ns = None
        sent_ns = self._sent_ns.get(echo.sequence)
        self._sent_ns = {number: at for number, at in self._sent_ns.items() if number > echo.sequence}
        if sent_ns is not None:
            measured = max(0, now_ns - sent_ns - held_ns) / 1e6
            known = self.round_trip_ms
            self.round_trip_ms = measured if known is None else known + SMOOTHING * (measured - known)

    def sent(self, sequence: int, now_ns: int) -> None:
        """A report goes out to it."""
        self._sent_ns[sequence] = now_ns
        if len(self._sent_ns) > REPORTS_REMEMBERED:
            del self._sent_ns[min(self._sent_ns)]

    def echo(self, now_ns: int) -> Echo | None:
        """What it is to know of what was heard of it."""
        return Echo(self.generation, self.heard, now_ns - self._heard_ns) if self.heard else None

    def judge(self, now_ns: int) -> bool:
        """Whether it has just become lost."""
        silence_ns = now_ns - self._proof_ns
        suspected = (
            silence_ns >= self._settings.lost_after_ns or self._detector.phi(now_ns) > self._settings.suspicion_phi
        )
        if self.lost_since_ns is None and suspected:
            self.lost_since_ns = self._proof_ns
            return True
        return False

    def excuse(self, now_ns: int) -> None:
        """Forgive its silence: this region itself stood still."""
        if self.lost_since_ns is None:
            self._detector.reset()
            self._proof_ns = now_ns

    def due_for_dial(self, now_ns: int) -> bool:
        """Whether it needs a fresh connection: the first, or after a silence."""
        if self.dialled_ns is None:
            return True
        patience_ns = self._settings.redial_ns
        return min(now_ns - self._proof_ns, now_ns - self.dialled_ns) >= patience_ns
