"""V9: order per origin and key survives links, nothing comes back to where it was born, each event crosses once."""

from __future__ import annotations

from itertools import pairwise

from fedbus_loadtests.chaos.checks.homes import NS_PER_S, Homes
from fedbus_loadtests.chaos.entry import REGION_FAULTS, Entry, epoch_of, region_of, writer_of
from fedbus_loadtests.chaos.promise import Promise
from fedbus_loadtests.chaos.published import Published
from fedbus_loadtests.chaos.violation import Violations

Stream = tuple[str, str, str, str]  # subscription, writer at the origin, producer, key


class Links:
    """By the disks: one place per region and origin position. By deliveries: one first delivery per home of the group.

    Within a ledger order is V4's; here it is that of the ledgers of one writer, of which a later one follows.
    """

    def __init__(self, promise: Promise, published: Published, homes: Homes) -> None:
        self.violations = Violations("V9")
        self._settle_ns = round(promise.settle_s * NS_PER_S)
        self._published = published
        self._homes = homes
        self._into: dict[tuple[str, str], Entry] = {}  # region, position → where it first was seen
        self._first: dict[tuple[str, str], Entry] = {}  # subscription, position → its latest first delivery
        self._streams: dict[Stream, list[Entry]] = {}
        self._fault_ns = -(1 << 62)

    def see(self, entry: Entry) -> None:
        """What crossed, and what was delivered far from where it was born."""
        if entry.operation == "forward":
            self._crossed(entry)
        elif entry.operation in ("fault", "heal") and entry.fault not in REGION_FAULTS:
            self._fault_ns = entry.time_ns
        elif entry.operation == "deliver" and entry.kind == "ok" and entry.delivery == 1 and not entry.live:
            homes = self._homes.of(entry.subscription)
            if homes:
                self._delivered(entry, linked=region_of(entry.position) not in homes)

    def _crossed(self, entry: Entry) -> None:
        region = region_of(entry.into)
        if region == region_of(entry.position):
            self.violations.add(f"{entry.position} came back to {region} and is at {entry.into} too", entry)
        first = self._into.setdefault((region, entry.position), entry)
        if first.into != entry.into:
            self.violations.add(f"{region} has {entry.position} at {first.into} and at {entry.into}", first, entry)

    def _delivered(self, entry: Entry, *, linked: bool) -> None:
        before = self._first.get((entry.subscription, entry.position))
        self._first[entry.subscription, entry.position] = entry
        if before is not None:
            counted_anew = self._fault_ns + self._settle_ns >= before.time_ns
            unsure = self._homes.unsure(entry.subscription, before.time_ns, entry.time_ns)
            if not counted_anew and not unsure:
                text = f"{entry.subscription} got {entry.position} twice for the first time, at one home"
                self.violations.add(text, before, entry)
            return
        publication = self._published.by_id.get(entry.id)
        if linked and publication is not None and publication.invoked.key:
            invoked = publication.invoked
            stream = (entry.subscription, writer_of(entry.ledger), invoked.producer, invoked.key)
            self._streams.setdefault(stream, []).append(entry)

    def end(self) -> None:
        """Ledgers of one writer follow one another."""
        for (subscription, writer, _, key), delivered in self._streams.items():
            places = [entry for entry in delivered if self._acked_at(entry)]
            for before, after in pairwise(places):
                if epoch_of(before.ledger) > epoch_of(after.ledger):
                    text = f"{subscription} first got {after.id} of key {key} after {before.id}, both from {writer}"
                    self.violations.add(text, before, after)

    def _acked_at(self, entry: Entry) -> bool:
        return any(acked.position == entry.position for acked in self._published.by_id[entry.id].acked)
