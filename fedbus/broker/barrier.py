"""The barrier of one group: key slots whose events have to wait, so that order per key outlives a change of members.

A slot is barred while a member holds events of it that is no longer the one to take it (protocol rule 11): its next
member gets the first of them only when all that the old one holds are settled or given back, or its session has ended.
Slots that this instance has taken over from another one are barred as the hand-over says (``broker/handover.py``).
"""

from __future__ import annotations

from fedbus.broker.deliveries import Deliveries
from fedbus.broker.handover import Handovers
from fedbus.broker.in_flight import Portion
from fedbus.broker.members import Members
from fedbus.broker.stored import Stored


class Barrier:
    """One group's. ``members_hold``: the slots of which former members hold events."""

    def __init__(self, group: str, members: Members, deliveries: Deliveries, handovers: Handovers) -> None:
        self.members_hold = 0
        self._group = group
        self._members = members
        self._deliveries = deliveries
        self._handovers = handovers
        self._member_changes = 0
        self._flight_changes = 0
        self._handover_changes = 0
        self._before = 0  # portions sent later were given out by the present members' slots

    def refresh(self) -> None:
        """See what has changed; what was kept for slots that are free now becomes ready."""
        members, in_flight, handovers = self._members, self._deliveries.in_flight, self._handovers
        if self._member_changes != members.changes:
            self._member_changes = members.changes
            self._before = in_flight.numbers
            self._look()
            self._deliveries.queued.regroup()
            return
        held = self.members_hold
        if held and self._flight_changes != in_flight.changes:
            self._look()
        if held & ~self.members_hold or self._handover_changes != handovers.changes:
            self._handover_changes = handovers.changes
            self._deliveries.queued.unbar(self.bars)

    def _look(self) -> None:
        in_flight = self._deliveries.in_flight
        in_flight.clear()
        self._flight_changes = in_flight.changes
        own = self._members.slots.masks() if len(in_flight) else {}
        held = 0
        for portion in in_flight:
            if portion.sent <= self._before and portion.member is not None:
                held |= portion.slots() & ~own.get(portion.member, 0)
        self.members_hold = held

    def bars(self, batch: Stored | Portion) -> int:
        """The slots of which no event of this batch may be delivered now."""
        return self.members_hold | self._handovers.barred(self._group, batch)
