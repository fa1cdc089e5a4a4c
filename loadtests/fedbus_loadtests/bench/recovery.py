"""``bench recovery``: kill -9 on an instance with a large ledger, start it again; warm page cache."""

from __future__ import annotations

from statistics import median

import psutil

from fedbus_loadtests.bench.bus_under_test import BusUnderTest
from fedbus_loadtests.bench.params import Params, Say
from fedbus_loadtests.bench.report import Report
from fedbus_loadtests.bench.system import Load, Stopwatch, random_payloads

MIB = 2**20
EVENT_BYTES = 4096


async def recovery(params: Params, say: Say) -> Report:
    """Seconds from the start of the process (imports included) to the first acknowledged event."""
    async with BusUnderTest() as empty:
        empty_s, empty_mib = await _restarts(empty, params.rounds)
    async with BusUnderTest() as system:
        events = params.size_mib * MIB // EVENT_BYTES
        await system.publish(Load(events, random_payloads(EVENT_BYTES, 4096)))
        stored = sum(file.stat().st_size for file in system.directory.rglob("*.seg"))
        large_s, large_mib = await _restarts(system, params.rounds)
    figures = {
        "p50_s": round(median(large_s), 3), "rounds": [round(each, 3) for each in large_s],
        "empty_p50_s": round(median(empty_s), 3), "recovery_s": round(median(large_s) - median(empty_s), 3),
        "stored_mib": round(stored / MIB), "rss_mib": round(large_mib, 1), "empty_rss_mib": round(empty_mib, 1),
        "added_mib": round(large_mib - empty_mib, 1),
    }  # fmt: skip
    say(str(figures))
    return Report(bench="recovery", params=params.to_dict(), fedbus=figures)


async def _restarts(system: BusUnderTest, rounds: int) -> tuple[list[float], float]:
    """Seconds of every restart, and resident MiB after the last."""
    seconds, resident = [], 0
    for _ in range(rounds):
        assert system.server is not None, "the system is started"
        system.server.kill()
        watch = Stopwatch()
        await system.start_instance()
        async with system.connect() as bus:
            await bus.publish("warm.up", b"")
        seconds.append(watch.seconds)
        resident = psutil.Process(system.server.pid).memory_info().rss
    return seconds, resident / MIB
