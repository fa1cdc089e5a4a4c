"""The homes of groups, seen from one region: which it dispatches, what happens when one comes or goes (rule 13)."""

from __future__ import annotations

from collections.abc import Callable

from fedbus.broker.group import Group
from fedbus.broker.group_spec import GroupSpec
from fedbus.broker.ledger import Ledgers


class GroupHomes:
    """``region``: the own one; ``ends``: up to where events of each origin ledger have come here."""

    def __init__(self, region: str, ledgers: Ledgers) -> None:
        self.ends: Callable[[], dict[str, int]] = dict
        self._region = region
        self._ledgers = ledgers

    def here(self, spec: GroupSpec) -> bool:
        """Whether this region dispatches it."""
        return spec.home.region in ("", self._region)

    def change(self, group: Group, spec: GroupSpec) -> None:
        """Other options, another home (or back again)."""
        group.change(spec)
        before, group.here = group.here, self.here(spec)
        if before is not group.here:
            group.settlement.dispatched_before(self.ends())  # late acknowledgements are taken, wherever it was sent
        if before and not group.here:
            self.withdraw(group)

    def withdraw(self, group: Group) -> None:
        """What is dispatched and not settled will be dispatched elsewhere; if it comes back it goes on from there."""
        low = group.low(self._ledgers)
        for portion in group.deliveries:
            group.settlement.withdraw(portion.origin_ledger, portion.ranges)
        for ledger in {portion.ledger for portion in group.deliveries}:
            group.deliveries.drop(ledger)
            if ledger in low:
                group.cursor.positions[ledger] = low[ledger]
