"""What the disks of a region hold in the end: every event of every copy, as entries of a history."""

from __future__ import annotations

from pathlib import Path

import google_crc32c

from fedbus.batch import Batch
from fedbus.broker.record import Kind
from fedbus.errors import InvalidEventError
from fedbus.event import Event
from fedbus.storage.segment import segment_paths
from fedbus.topic import RESERVED_PREFIX
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


def _record_batch(batch: Batch, ledger: str, first_offset: int, target: str, recorder: Recorder) -> None:
    for offset, (topic, _, data) in enumerate(batch.events(), first_offset):
        if topic.startswith(RESERVED_PREFIX):
            continue
        try:
            event = Event.decode(data)
        except InvalidEventError:
            continue
        recorder.write(
            "ok", "store", target=target, position=f"{ledger}:{offset}", id=event.id, topic=topic,
            key=event.key or "", crc=int(google_crc32c.value(event.payload or b"")),
        )  # fmt: skip
