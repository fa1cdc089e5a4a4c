"""What a region's groups ask of other regions and tell them, over peering: definitions, and changes at their homes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Event, Thread
from typing import Any, Protocol

import msgspec

from fedbus.broker.group_spec import GroupRecord
from fedbus.clock import NS_PER_S, Clock
from fedbus.control.regions_heard import RegionState
from fedbus.control.summary import RegionAddress, RegionSummary
from fedbus.errors import FedbusError, UnavailableError
from fedbus.threads import spawn

ASK_S = 1.0
START_S, START_POLL_S = 5.0, 0.1
RELAY_S = 6.0  # a home waits for its own instances, and for the others


class PeerState(Protocol):
    """A peer as it was a moment ago."""

    @property
    def present(self) -> bool:
        """Whether it answers."""
        ...

    @property
    def lost_since_ns(self) -> int | None:
        """Monotonic."""
        ...

    @property
    def round_trip_ms(self) -> float | None:
        """Smoothed."""
        ...


class Peering(Protocol):
    """The part of :class:`fedbus_actors.peering.Peering` that groups need."""

    @property
    def states(self) -> Mapping[str, PeerState]:
        """All other members."""
        ...

    @property
    def summaries(self) -> Mapping[str, RegionSummary]:
        """Their last words."""
        ...

    def members(self) -> Sequence[RegionAddress]:
        """All regions ever heard of."""
        ...

    def publish_groups(self, records: Sequence[GroupRecord]) -> None:
        """Tell all others; returns at once."""
        ...

    def call(self, region: str, method: str, *arguments: Any, timeout_s: float) -> Any:
        """Another region's answer, in builtins."""
        ...


class GroupPeers:
    """Of one region. ``peering()``: asked anew each time, for it may come later than the groups."""

    def __init__(self, peering: Callable[[], Peering], real: Clock) -> None:
        self._peering = peering
        self._real = real

    def states(self) -> dict[str, RegionState]:
        """All other regions; one that was never heard counts as lost just now."""
        peering, now_ns = self._peering(), self._real.monotonic_ns()
        gone = {each.region: RegionState(left=True) for each in peering.members() if each.left}
        return gone | {
            name: RegionState(
                None if state.present else state.lost_since_ns or now_ns, round_trip_ms=state.round_trip_ms or 0.0
            )
            for name, state in list(peering.states.items())
        }

    def summaries(self) -> dict[str, RegionSummary]:
        """The last word of each."""
        return dict(self._peering().summaries)

    def publish(self, records: Sequence[GroupRecord]) -> None:
        """Tell all others, without waiting."""
        if records:
            self._peering().publish_groups(records)

    def relay(self, region: str, change: str, name: str, value: Any) -> dict[str, Any]:
        """A change of a group at its home; :class:`UnavailableError` naming that if it does not answer."""
        try:
            answer: dict[str, Any] = self._peering().call(region, "change", change, name, value, timeout_s=RELAY_S)
        except UnavailableError as error:
            raise UnavailableError(
                f"group {name!r} is at home in region {region}, which does not answer ({error.detail}); try again, or "
                f"move it: fedbus subscription move {name} --to REGION",
                retry_after_ms=1000,
            ) from None
        return answer

    def exchange(self, name: str, record: GroupRecord | None = None) -> tuple[list[GroupRecord], bool]:
        """What the regions that answer know by that name, and whether all have answered.

        They are told ``record``, and have stored it. Asked side by side; who does not answer in time hears of it later.
        """
        present, absent = self._present()
        asked = {"name": name, "record": msgspec.to_builtins(record) if record is not None else None}
        answers: dict[str, Any] = {}

        def ask(region: str) -> None:
            with contextlib.suppress(FedbusError):
                answers[region] = self._peering().call(region, "query", "group_record", asked, timeout_s=ASK_S)

        threads: list[Thread] = [spawn(f"group {name}", partial(ask, region)) for region in present]
        until_ns = self._real.monotonic_ns() + round(2 * ASK_S * NS_PER_S)
        for thread in threads:
            thread.join(max(0.0, (until_ns - self._real.monotonic_ns()) / NS_PER_S))
        known = dict(answers)
        records = [msgspec.convert(answer, GroupRecord) for answer in known.values() if answer is not None]
        return records, not absent and len(known) == len(present)

    def _present(self) -> tuple[list[str], list[str]]:
        """The regions that answer, and those that do not; one never heard yet is waited for until it counts as lost."""
        pause = Event()
        for _ in range(round(START_S / START_POLL_S)):
            if all(state.present or state.lost_since_ns is not None for state in list(self._peering().states.values())):
                break
            pause.wait(START_POLL_S)
        states = dict(self._peering().states)
        present = [region for region, state in states.items() if state.present]
        return present, [region for region in states if region not in present]
