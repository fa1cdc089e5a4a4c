"""All outboxes of a bus: the usual one, and one for each set of regions that topics are pinned to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from fedbus.client.lane import Lane
from fedbus.client.outbox import Outbox


class Outboxes:
    """``usual`` knows all regions; ``make`` gives one that knows these alone, the first before the others."""

    def __init__(self, usual: Outbox, make: Callable[[Sequence[str | None]], Outbox]) -> None:
        self._usual = usual
        self._make = make
        self._pinned: dict[tuple[str, ...], Outbox] = {}

    def __iter__(self) -> Iterator[Outbox]:
        yield self._usual
        yield from list(self._pinned.values())

    def of(self, regions: tuple[str, ...]) -> Outbox:
        """Of topics that are pinned to these regions: home first, if it is one of them, then the nearest."""
        found = self._pinned.get(regions)
        if found is None:
            near = [region for region, _ in self._usual.router.failover()]
            order = sorted(regions, key=lambda each: (near.index(each) if each in near else len(near), each))
            found = self._pinned[regions] = self._make(order)
        return found

    def lanes(self) -> Iterator[tuple[Outbox, Lane]]:
        """Every lane with its outbox."""
        for outbox in self:
            for lane in list(outbox.lanes.values()):
                yield outbox, lane
