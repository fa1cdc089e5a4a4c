"""``python -m fedbus_loadtests.chaos.client SPEC.json``: one client process of a fault run.

SIGTERM ends it in order (what was begun is settled), SIGUSR1 makes readers hurry. It also ends when its standard input
does: the run that started it is gone then.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

import fedbus
from fedbus.client.bus import Bus
from fedbus.errors import FedbusError
from fedbus_loadtests.chaos.client_spec import ClientSpec
from fedbus_loadtests.chaos.publisher import Publisher
from fedbus_loadtests.chaos.reader import Reader
from fedbus_loadtests.chaos.recorder import Recorder

OPEN_AGAIN_S = 0.2


async def run(spec: ClientSpec) -> None:
    """Do what the spec says until a signal ends it."""
    recorder = Recorder(Path(spec.history), spec.process)
    stopped, hurrying = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    loop.add_signal_handler(signal.SIGUSR1, hurrying.set)
    loop.add_reader(sys.stdin.fileno(), stopped.set)
    bus = await _open(spec, stopped)
    if bus is None:
        return
    publishers = [Publisher(each, bus, recorder, spec.former) for each in spec.publishers]
    readers = [Reader(each, bus, recorder) for each in spec.readers]
    clients: list[Publisher | Reader] = [*publishers, *readers]
    work = asyncio.gather(*(client.run() for client in clients))
    hurry = asyncio.create_task(_hurry(hurrying, readers))
    ending = asyncio.create_task(stopped.wait())
    waiting: set[asyncio.Future[Any]] = {ending, work}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    loop.remove_reader(sys.stdin.fileno())
    for client in clients:
        client.stop()
    await work
    hurry.cancel()
    await bus.close()
    recorder.close()


async def _open(spec: ClientSpec, stopped: asyncio.Event) -> Bus | None:
    """A bus, however long the federation takes to be found."""
    while not stopped.is_set():
        bus = fedbus.connect(
            spec.urls, region=spec.region or None, source="/chaos", publish_timeout_ms=spec.publish_timeout_ms
        )
        try:
            await bus.open()
        except FedbusError:
            await asyncio.sleep(OPEN_AGAIN_S)
        else:
            return bus
    return None


async def _hurry(told: asyncio.Event, readers: Sequence[Reader]) -> None:
    await told.wait()
    for reader in readers:
        reader.hurry()


if __name__ == "__main__":
    asyncio.run(run(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=ClientSpec)))
