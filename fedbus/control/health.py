"""Health of a bus instance: what it is doing, judged from its own socket, its actor and its own counters.

Silence is judged by an accrual failure detector (Hayashibara, Défago, Yared, Katayama 2004, "The φ accrual failure
detector"): instead of yes or no it says how unlikely the silence is, given how regularly the instance used to answer.
What an instance is judged to be never decides who owns a ledger: a compare-and-swap in the store does. Probing and
timing are the monitor's.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Literal

import msgspec

from fedbus.control.load import NS_PER_S

State = Literal["starting", "healthy", "degraded", "draining", "unreachable", "dead"]
Finding = Literal["waiting", "good", "poor", "leaving", "silent", "gone"]
ActorState = Literal["pending", "alive", "restarting", "dead", "unknown"]

STATES: tuple[State, ...] = ("starting", "healthy", "degraded", "draining", "unreachable", "dead")

#: (state, finding) → state, every pair. "waiting": not up yet or restarting; "leaving": asked to drain and answering.
#: A dead instance that answers again must prove itself from the start; one that drains never takes load again unless
#: it restarts.
TRANSITIONS: dict[tuple[State, Finding], State] = {
    ("starting", "waiting"): "starting",
    ("starting", "good"): "healthy",
    ("starting", "poor"): "degraded",
    ("starting", "leaving"): "draining",
    ("starting", "silent"): "unreachable",
    ("starting", "gone"): "dead",
    ("healthy", "waiting"): "starting",
    ("healthy", "good"): "healthy",
    ("healthy", "poor"): "degraded",
    ("healthy", "leaving"): "draining",
    ("healthy", "silent"): "unreachable",
    ("healthy", "gone"): "dead",
    ("degraded", "waiting"): "starting",
    ("degraded", "good"): "healthy",
    ("degraded", "poor"): "degraded",
    ("degraded", "leaving"): "draining",
    ("degraded", "silent"): "unreachable",
    ("degraded", "gone"): "dead",
    ("draining", "waiting"): "starting",
    ("draining", "good"): "draining",
    ("draining", "poor"): "draining",
    ("draining", "leaving"): "draining",
    ("draining", "silent"): "unreachable",
    ("draining", "gone"): "dead",
    ("unreachable", "waiting"): "starting",
    ("unreachable", "good"): "healthy",
    ("unreachable", "poor"): "degraded",
    ("unreachable", "leaving"): "draining",
    ("unreachable", "silent"): "unreachable",
    ("unreachable", "gone"): "dead",
    ("dead", "waiting"): "starting",
    ("dead", "good"): "starting",
    ("dead", "poor"): "starting",
    ("dead", "leaving"): "draining",
    ("dead", "silent"): "dead",
    ("dead", "gone"): "dead",
}

#: φ = 8: one wrong suspicion in 10^8 answers, if they come as they used to.
SUSPICION_PHI = 8.0


class HealthSettings(msgspec.Struct, frozen=True):
    """When an instance counts as slow, overfull, not starting, or gone for good, and how often it is asked."""

    slow_ms: float = 250.0
    full_share: float = 0.9
    start_limit_s: float = 60.0
    dead_after_s: float = 60.0
    probe_interval_s: float = 0.25


class FailureDetector:
    """φ of one instance from the times at which its probes were answered; bounded memory."""

    WINDOW = 100

    def __init__(self, interval_s: float) -> None:
        """``interval_s``: how often it is probed; it stands for the answers not seen yet."""
        self._gaps_s: deque[float] = deque([interval_s] * 5, maxlen=self.WINDOW)
        # Below half an interval (and 100 ms) regularity is luck: without a floor one late answer would be "impossible".
        self._least_deviation_s = max(0.1, interval_s / 2)
        self._last_ns: int | None = None

    def answered(self, now_ns: int) -> None:
        """An answer to a probe arrived. What was taken for a failure is none of the gaps between its answers."""
        if self._last_ns is not None and now_ns > self._last_ns and self.phi(now_ns) <= SUSPICION_PHI:
            self._gaps_s.append((now_ns - self._last_ns) / NS_PER_S)
        self._last_ns = now_ns

    def reset(self) -> None:
        """A new incarnation: its silence before the first answer is no evidence."""
        self._last_ns = None

    def excuse(self, away_ns: int) -> None:
        """Whoever listens was away for so long itself: that much of the silence says nothing of the instance."""
        if self._last_ns is not None:
            self._last_ns += away_ns

    def phi(self, now_ns: int) -> float:
        """−log10 of the chance that an answer comes later than now; 0 before the first answer."""
        if self._last_ns is None:
            return 0.0
        mean_s = sum(self._gaps_s) / len(self._gaps_s)
        variance = sum((gap - mean_s) ** 2 for gap in self._gaps_s) / len(self._gaps_s)
        deviation_s = max(self._least_deviation_s, math.sqrt(variance))
        late = ((now_ns - self._last_ns) / NS_PER_S - mean_s) / deviation_s
        chance = 0.5 * math.erfc(late / math.sqrt(2))
        return -math.log10(chance) if chance > 0 else math.inf


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about an instance at one moment.

    ``answered``: it has answered a probe since its incarnation started; ``round_trip_ms`` of the last answer;
    ``queue_share``: its fullest queue over that queue's bound; ``storage_failed``: its ledger stopped at a disk
    error.
    """

    actor: ActorState
    phi: float
    answered: bool
    round_trip_ms: float | None = None
    queue_share: float = 0.0
    storage_failed: bool = False
    draining: bool = False


class InstanceHealth(msgspec.Struct, frozen=True):
    """State of an instance, since when, and why, in words."""

    state: State
    since_ns: int
    reason: str = ""


def assess(
    health: InstanceHealth, evidence: Evidence, now_ns: int, settings: HealthSettings | None = None
) -> InstanceHealth:
    """The instance's health after one look: a finding from the evidence, then one row of the table."""
    settings = settings or HealthSettings()
    finding, reason = _find(health, evidence, now_ns, settings)
    state = TRANSITIONS[health.state, finding]
    return InstanceHealth(state, health.since_ns if state == health.state else now_ns, reason)


def _find(health: InstanceHealth, evidence: Evidence, now_ns: int, settings: HealthSettings) -> tuple[Finding, str]:
    in_state_s = (now_ns - health.since_ns) / NS_PER_S
    if evidence.actor == "dead":
        return "gone", "its actor is dead"
    if evidence.actor in ("pending", "restarting"):
        return _find_not_up(health, f"its actor is {evidence.actor}", in_state_s, settings)
    if not evidence.answered:
        return _find_not_up(health, "it has not answered yet", in_state_s, settings)
    if evidence.phi > SUSPICION_PHI:
        return _find_silent(health, f"probes stay unanswered (phi {min(evidence.phi, 999):.1f})", in_state_s, settings)
    if evidence.draining:
        return "leaving", "it drains"
    return _find_answering(evidence, settings)


def _find_not_up(
    health: InstanceHealth, reason: str, in_state_s: float, settings: HealthSettings
) -> tuple[Finding, str]:
    """An incarnation that has yet to answer is waited for, but not for ever; one given up stays so until it answers."""
    given_up = health.state in ("unreachable", "dead")
    if given_up or (health.state == "starting" and in_state_s > settings.start_limit_s):
        return _find_silent(health, reason, in_state_s, settings)
    return "waiting", reason


def _find_silent(
    health: InstanceHealth, reason: str, in_state_s: float, settings: HealthSettings
) -> tuple[Finding, str]:
    if health.state == "unreachable" and in_state_s > settings.dead_after_s:
        return "gone", f"{reason}, for {in_state_s:.0f} s"
    return "silent", reason


def _find_answering(evidence: Evidence, settings: HealthSettings) -> tuple[Finding, str]:
    if evidence.storage_failed:
        return "poor", "its ledger stopped at a disk error"
    if evidence.round_trip_ms is not None and evidence.round_trip_ms > settings.slow_ms:
        return "poor", f"it answers slowly ({evidence.round_trip_ms:.0f} ms)"
    if evidence.queue_share > settings.full_share:
        return "poor", f"a queue is {evidence.queue_share:.0%} full"
    return "good", "it answers"
