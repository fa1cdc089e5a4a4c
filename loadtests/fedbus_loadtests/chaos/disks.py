"""What the disks of a region hold in the end: every event of every copy, as entries of a history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c

from fedbus.batch import Batch
from fedbus.broker.record import Kind
from fedbus.errors import InvalidEventError
from fedbus.event import Event
from fedbus.storage.segment import segment_paths
from fedbus.topic import RESERVED_PREFIX, FilterSet
from fedbus_loadtests.chaos.bit_rot import all_ledgers, records
from fedbus_loadtests.chaos.recorder import Recorder


def record_disk(directory: Path, target: str, recorder: Recorder) -> None:
    """Every event that was published to this region and can be read back from the directory of ``target``."""
    for place in all_ledgers(directory):
        for path in segment_paths(place):
            ledger, whole = records(path)
            for item in whole:
                if item.record.kind is Kind.EVENTS and item.record.events_meta().origin is None:
                    batch = Batch.decode(item.record.index, item.record.payload)
                    _record_batch(batch, ledger, item.record.first_offset, target, recorder)


def record_forwarded(directories: Iterable[Path], target: str, topics: FilterSet, recorder: Recorder) -> None:
    """Every event of these topics that links brought to the region ``target``, with both its places.

    The instances' directories hold copies of one another's ledgers: of those one is looked at.
    """
    seen: set[tuple[str, int]] = set()
    for place in [place for directory in directories for place in all_ledgers(directory)]:
        for path in segment_paths(place):
            ledger, whole = records(path)
            for item in whole:
                origin = item.record.events_meta().origin if item.record.kind is Kind.EVENTS else None
                if origin is None or (ledger, item.record.number) in seen:
                    continue
                seen.add((ledger, item.record.number))
                batch = Batch.decode(item.record.index, item.record.payload)
                if not any(map(topics.matches, batch.topics)):
                    continue
                born = [offset for first, end in origin.ranges for offset in range(first, end)]
                for nth, (topic, event) in enumerate(_events(batch)):
                    if event is not None and topics.matches(topic):
                        recorder.write(
                            "ok", "forward", target=target, position=f"{origin.ledger}:{born[nth]}",
                            into=f"{ledger}:{item.record.first_offset + nth}", **_content(topic, event),
                        )  # fmt: skip


def _record_batch(batch: Batch, ledger: str, first_offset: int, target: str, recorder: Recorder) -> None:
    for offset, (topic, event) in enumerate(_events(batch), first_offset):
        if event is not None and not topic.startswith(RESERVED_PREFIX):
            position = f"{ledger}:{offset}"
            recorder.write("ok", "store", target=target, position=position, **_content(topic, event))


def _events(batch: Batch) -> Iterator[tuple[str, Event | None]]:
    """Topic and event of each place; ``None`` for bytes that are no event."""
    for topic, _, data in batch.events():
        try:
            yield topic, Event.decode(data)
        except InvalidEventError:
            yield topic, None


def _content(topic: str, event: Event) -> dict[str, Any]:
    crc = int(google_crc32c.value(event.payload or b""))
    return {"id": event.id, "topic": topic, "key": event.key or "", "crc": crc}
