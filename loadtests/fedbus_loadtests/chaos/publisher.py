"""A publisher of a fault run: numbered events at a steady rate, each recorded before it is sent and when it is known.

After its process was killed, the next incarnation publishes what it does not know the fate of again, with the same ids
and in the same order, and then goes on: what a careful application does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from random import Random

import google_crc32c

from fedbus.client.bus import Bus
from fedbus.errors import ClosedError, FedbusError, SequenceError
from fedbus_loadtests.chaos.client_spec import PublisherSpec
from fedbus_loadtests.chaos.entry import Kind
from fedbus_loadtests.chaos.history import read_history
from fedbus_loadtests.chaos.recorder import Recorder

BEAT_S = 0.005
NOT_STORED = "nothing of them is stored"  # what a time-out says when no try was sent
POISON = b"poison"
KEYED = 0.9  # so many of the events have a key


class NumberedEvent:
    """An event that follows from its number: topic, key and data are the same whenever it is made."""

    def __init__(self, spec: PublisherSpec, sequence: int) -> None:
        random = Random(f"{spec.seed}/{spec.name}/{sequence}")
        self.id = f"{spec.name}/{sequence}"
        self.sequence = sequence
        self.topic = random.choice(spec.topics)
        self.key = f"{spec.name}.k{random.randrange(spec.keys)}" if spec.keys and random.random() < KEYED else ""
        poison = bool(spec.poison_every) and sequence % spec.poison_every == 0
        self.data = POISON if poison else random.randbytes(random.randint(8, spec.most_bytes))
        self.crc = int(google_crc32c.value(self.data))


class Publisher:
    """Publishes through ``bus`` from :meth:`run` until :meth:`stop`."""

    def __init__(self, spec: PublisherSpec, bus: Bus, recorder: Recorder, former: Iterable[str]) -> None:
        self._spec = spec
        self._producer = bus.producer(linger_ms=0, idempotent=spec.idempotent)
        self._recorder = recorder
        self._again, self._next = _unfinished(spec, [Path(path) for path in former])
        self._open: set[asyncio.Task[None]] = set()
        self._stopping = False

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping = True

    async def run(self) -> None:
        """Publish; returns when everything begun is settled."""
        loop = asyncio.get_running_loop()
        due, last_s = 0.0, loop.time()
        while not self._stopping:
            now_s = loop.time()
            due = min(due + (now_s - last_s) * self._spec.rate_eps, self._spec.outstanding)
            last_s = now_s
            while (due >= 1 or self._again) and len(self._open) < self._spec.outstanding:
                due = max(0.0, due - 1)
                task = asyncio.create_task(self._publish(NumberedEvent(self._spec, self._number())))
                self._open.add(task)
                task.add_done_callback(self._open.discard)
            await asyncio.sleep(BEAT_S)
        while self._open:
            await asyncio.wait(self._open)

    def _number(self) -> int:
        if self._again:
            return self._again.pop(0)
        self._next += 1
        return self._next - 1

    async def _publish(self, event: NumberedEvent) -> None:
        write = self._recorder.write
        write(
            "invoke", "publish", id=event.id, topic=event.topic, key=event.key, producer=self._spec.name,
            sequence=event.sequence, crc=event.crc, idempotent=self._spec.idempotent,
        )  # fmt: skip
        try:
            receipt = await self._producer.publish(event.topic, event.data, key=event.key or None, id=event.id)
        except FedbusError as error:
            unknown = error.retryable or isinstance(error, ClosedError | SequenceError)
            kind: Kind = "info" if unknown and NOT_STORED not in error.detail else "fail"
            write(kind, "publish", id=event.id, detail=f"{error.code}: {error.detail[:200]}")
        else:
            write("ok", "publish", id=event.id, position=str(receipt.position), duplicate=receipt.duplicate)


def _unfinished(spec: PublisherSpec, former: list[Path]) -> tuple[list[int], int]:
    """Sequences of former incarnations whose fate is unknown, in order, and the next new one."""
    begun: dict[int, None] = {}
    known: set[str] = set()
    for path in former:
        for entry in read_history(path):
            if entry.operation != "publish":
                continue
            if entry.kind == "invoke" and entry.producer == spec.name:
                begun[entry.sequence] = None
            elif entry.kind in ("ok", "fail"):
                known.add(entry.id)
    again = sorted(sequence for sequence in begun if f"{spec.name}/{sequence}" not in known)
    return again, max(begun, default=0) + 1
