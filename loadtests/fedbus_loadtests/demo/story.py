"""The story: what has to happen in a demonstration, when it is time to kill an instance, and whether it all happened.

Pure: it looks at what the managers say and is told the time. Moments are simulated nanoseconds where the control plane
is concerned and real ones (monotonic) where a user would wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from fedbus.clock import NS_PER_S
from fedbus_loadtests.demo.region_state import RegionState
from fedbus_loadtests.demo.scenario import Scenario

#: The kill comes when an instance ordered ahead has served for a moment, and not before this share of the window …
KILL_FROM = 0.35
SETTLED_REAL_S = 3.0
#: … but then in any case.
KILL_LATEST = 0.6


class Victim(msgspec.Struct, frozen=True):
    """The instance to be killed, as it was."""

    region: str
    instance: str
    pid: int
    ledger: str
    siblings: int


class Order(msgspec.Struct, frozen=True):
    """A directive as it was seen, with simulated moments."""

    id: str
    region: str
    action: str
    cause: str
    reason: str
    state: str
    created_ns: int
    finished_ns: int | None


class Story:
    """Follows the regions' states; ``news`` returns what a spectator should read."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self.orders: dict[str, Order] = {}
        self.victim: Victim | None = None
        self.killed_ns = 0
        self.back_ns: int | None = None
        self._stable_since_ns: int | None = None

    def news(self, states: Mapping[str, RegionState], now_ns: int) -> list[str]:
        """Take in the states at a real moment; a line for every directive new or settled, and for the return."""
        lines = []
        for state in states.values():
            for view in reversed(state.directives):
                order = _order(view)
                before = self.orders.get(order.id)
                self.orders[order.id] = order
                if before is None:
                    lines.append(f"{order.region}: {order.action} ordered by {order.cause}: {order.reason}")
                if order.finished_ns is not None and (before is None or before.finished_ns is None):
                    done = {"create": "in service", "drain": "drained"}.get(order.action, "done")
                    outcome = done if order.state == "done" else f"{order.state}: {view['outcome']}"
                    lines.append(f"{order.region}: {view['instance'] or order.id} {outcome}")
        if self.victim is not None and self.back_ns is None and self._is_back(states[self.victim.region]):
            self.back_ns = now_ns
            seconds = (now_ns - self.killed_ns) / NS_PER_S
            lines.append(f"{self.victim.instance} is back after {seconds:.1f} s, on its own data")
        return lines

    def _is_back(self, state: RegionState) -> bool:
        assert self.victim is not None
        found = next((each for each in state.serving if each["instance"] == self.victim.instance), None)
        return found is not None and found["pid"] != self.victim.pid and found["ledger"] != self.victim.ledger

    def choose_victim(self, states: Mapping[str, RegionState], simulated_ns: int, now_ns: int) -> Victim | None:
        """Whom to kill now: the oldest instance of a region that was scaled by forecast and is quiet; None: not yet."""
        window = self._scenario.window
        share = (simulated_ns - window.start_ns) / (window.end_ns - window.start_ns)
        if self.victim is not None or share < KILL_FROM:
            return None
        ordered = {order.region for order in self.orders.values() if _is_ordered_ahead(order)}
        several = [name for name, state in states.items() if len(state.serving) > 1 and _is_quiet(state)]
        best = [name for name in several if name in ordered]
        if not best:
            self._stable_since_ns = None
        elif self._stable_since_ns is None:
            self._stable_since_ns = now_ns
        settled = best and now_ns - (self._stable_since_ns or now_ns) >= SETTLED_REAL_S * NS_PER_S
        choice = best if settled else [*best, *several, *states] if share >= KILL_LATEST else []
        serving = next((states[name].serving for name in choice if states[name].serving), [])
        if not serving:
            return None
        first = min(serving, key=lambda each: (len(each["instance"]), each["instance"]))
        return Victim(first["region"], first["instance"], first["pid"], first["ledger"], len(serving) - 1)

    def killed(self, victim: Victim, now_ns: int) -> None:
        """It was killed at a real moment."""
        self.victim, self.killed_ns = victim, now_ns

    @property
    def scaled_ahead(self) -> Order | None:
        """The first scale-out that the forecast ordered and that was in service before the load's peak."""
        in_time = (o for o in self.orders.values() if _is_ordered_ahead(o) and (o.finished_ns or 0) < self._peak_ns)
        return min(in_time, key=lambda order: order.created_ns, default=None)

    @property
    def scaled_in(self) -> Order | None:
        """The first scale-in that was carried out after the peak."""
        drains = (o for o in self.orders.values() if o.action == "drain" and o.state == "done")
        after = (order for order in drains if (order.finished_ns or 0) >= self._peak_ns)
        return min(after, key=lambda order: order.created_ns, default=None)

    @property
    def first_scale_out(self) -> Order | None:
        """The first scale-out, whoever ordered it."""
        creates = (order for order in self.orders.values() if order.action == "create")
        return min(creates, key=lambda order: order.created_ns, default=None)

    @property
    def complete(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.back_ns is not None and self.scaled_in is not None

    @property
    def _peak_ns(self) -> int:
        return self._scenario.window.peak_ns


def applied_by_cause(orders: Iterable[Order]) -> dict[str, int]:
    """Directives carried out, by what asked for them."""
    counts: dict[str, int] = {}
    for order in orders:
        if order.state == "done":
            counts[order.cause] = counts.get(order.cause, 0) + 1
    return dict(sorted(counts.items()))


def _is_ordered_ahead(order: Order) -> bool:
    return order.action == "create" and order.cause == "forecast" and order.state == "done"


def _is_quiet(state: RegionState) -> bool:
    return all(each["state"] in ("healthy", "degraded") for each in state.instances)


def _order(view: Mapping[str, Any]) -> Order:
    finished = view["finished"]
    return Order(
        view["id"], view["region"], view["action"], view["cause"], view["reason"], view["state"],
        time_ns(view["created"]), time_ns(finished) if finished else None,
    )  # fmt: skip


def time_ns(text: str) -> int:
    """RFC 3339 text as Unix nanoseconds."""
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * NS_PER_S + moment.microsecond * 1000
