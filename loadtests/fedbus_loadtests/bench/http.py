"""``bench http``: single CloudEvents and batches through the gateway, against an empty ASGI app on the same Ray Serve.

Starts a federation of one region in this process, and the empty deployment beside its gateway.
"""

from __future__ import annotations

import asyncio
import base64
import tempfile
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from fedbus.errors import UnavailableError
from fedbus.options import FederationOptions
from fedbus_loadtests.bench.http_connection import HttpConnection, post
from fedbus_loadtests.bench.params import Params, Say
from fedbus_loadtests.bench.report import Report
from fedbus_loadtests.bench.system import Stopwatch, random_payloads
from fedbus_loadtests.ports import free_blocks, free_port

CONNECTIONS = 32
BATCH = 100
PORTS = 20
OK = range(200, 300)
PATH = "/v1/topics/bench.http/events"
EMPTY = "/bench-empty"


async def http(params: Params, say: Say) -> Report:
    """Rounds of empty, single and batched requests in turn."""
    from fedbus_actors.launch import launch

    with tempfile.TemporaryDirectory(prefix="fedbus-bench-") as directory:
        options = _options(Path(directory))
        federation = launch(options, progress=say)
        await asyncio.to_thread(federation.start)
        try:
            _deploy_empty()
            rates = await _rounds(options.gateway.port, params, say)
        finally:
            await asyncio.to_thread(federation.stop)
    medians = {name: median(values) for name, values in rates.items()}
    ours = {
        "events_per_s": round(medians["single"], 1),
        "batch_events_per_s": round(medians["batch"], 1),
        "rounds": [round(rate, 1) for rate in rates["single"]],
        "class": "fsync before 202", "quorum": "1 of 1", "tuning": {"connections": CONNECTIONS, "batch": BATCH},
    }  # fmt: skip
    empty = {"events_per_s": round(medians["empty"], 1), "class": "none: an empty raw ASGI deployment answers 202"}
    return Report(
        bench="http", params=params.to_dict(), fedbus=ours, peers={"empty_serve": empty},
        ratio={"empty_serve": round(medians["single"] / medians["empty"], 4)},
        more={"ratio_batch": round(medians["batch"] / medians["single"], 2)},
    )  # fmt: skip


def _options(directory: Path) -> FederationOptions:
    first = free_blocks(1, PORTS, 2)
    return FederationOptions.model_validate(
        {
            "name": "bench-http",
            "regions": {
                "bench.local": {
                    "listen": {"ports": f"{first}-{first + PORTS - 1}"},
                    "instances": {"min": 1, "max": 1},  # another one would start in the middle of a round
                }
            },
            "gateway": {"port": free_port()},
            "data": {"directory": str(directory)},
        }
    )


def _deploy_empty() -> None:
    from ray import serve

    async def empty(scope: Any, receive: Any, send: Any) -> None:
        """Read the body, answer 202."""
        if scope["type"] == "http":
            while (await receive()).get("more_body"):
                pass
            await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

    def application() -> Any:
        return empty

    deployment: Any = serve.deployment(name="empty", num_replicas=1, ray_actor_options={"num_cpus": 0.1})
    deployment = deployment(serve.ingress(application)())
    serve.run(deployment.bind(), name="bench-empty", route_prefix=EMPTY, blocking=False)


async def _rounds(port: int, params: Params, say: Say) -> dict[str, list[float]]:
    payloads = random_payloads(params.payload_bytes, 1000)
    encoded = [base64.b64encode(payload).decode() for payload in payloads]
    numbers = count()

    def single(path: str) -> bytes:
        number = next(numbers)
        headers = {
            "ce-specversion": "1.0", "ce-id": str(number), "ce-source": "bench", "ce-type": "bench",
            "content-type": "application/octet-stream",
        }  # fmt: skip
        return post(path, headers, payloads[number % len(payloads)])

    def batch() -> bytes:
        events = [
            {"specversion": "1.0", "id": str(number), "source": "bench", "type": "bench",
             "data_base64": encoded[number % len(encoded)]}
            for number in (next(numbers) for _ in range(BATCH))
        ]  # fmt: skip
        return post(PATH, {"content-type": "application/cloudevents-batch+json"}, msgspec.json.encode(events))

    kinds = {"empty": lambda: single(EMPTY), "single": lambda: single(PATH), "batch": batch}
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    loop = asyncio.get_running_loop()
    connections = [(await loop.create_connection(HttpConnection, "127.0.0.1", port))[1] for _ in range(CONNECTIONS)]
    try:
        for number in range(-1, params.rounds):  # the first is a warm-up
            for name, make in kinds.items():
                rate = await _rate(connections, make, params.round_s) * (BATCH if name == "batch" else 1)
                if number >= 0:
                    rates[name].append(rate)
                    say(f"http round {number + 1}/{params.rounds}: {name} {rate:,.0f} events/s")
    finally:
        for connection in connections:
            connection.close()
    return rates


async def _rate(connections: list[HttpConnection], make: Any, seconds: float) -> float:
    """Requests per second that all connections together get answered."""
    watch, answered = Stopwatch(), 0

    async def one_after_another(connection: HttpConnection) -> None:
        nonlocal answered
        while watch.seconds < seconds:
            if (status := await connection.request(make())) not in OK:
                raise UnavailableError(f"the gateway answered {status}")
            answered += 1

    await asyncio.gather(*(one_after_another(connection) for connection in connections))
    return answered / watch.seconds
