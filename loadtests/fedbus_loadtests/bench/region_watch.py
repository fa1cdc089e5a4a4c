"""What a managed region says of itself over HTTP: its instances and ledgers, and whether it is as it should be."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from fedbus.errors import EnvironmentUnusableError
from fedbus_loadtests.bench.system import Stopwatch

READY_S = 90.0
POLL_S = 0.25
SERVING = ("healthy", "degraded")


class RegionWatch:
    """Looks at the region behind a gateway."""

    def __init__(self, url: str, instances: int, replicas: int) -> None:
        self._url = url
        self._instances = instances
        self._replicas = replicas

    async def rows(self, resource: str) -> list[dict[str, Any]]:
        """All rows of a resource of the control API."""
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.get(f"{self._url}/v1/{resource}")
        answer.raise_for_status()
        return list(answer.json()["items"])

    async def processes(self) -> dict[str, int]:
        """The process of every instance that serves."""
        rows = await self.rows("instances")
        return {row["instance"]: row["pid"] for row in rows if row["pid"] and row["state"] in SERVING}

    async def complete(self, without: int | None = None) -> None:
        """Wait until all instances serve (none in process ``without``), each writing a ledger with all its copies."""
        watch = Stopwatch()
        while (missing := await self._missing(without)) and watch.seconds < READY_S:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        if missing:
            raise EnvironmentUnusableError(f"the region is not complete after {READY_S:.0f} s: {missing}")

    async def _missing(self, without: int | None) -> str:
        try:
            processes = await self.processes()
            writing = [row for row in await self.rows("ledgers") if row["state"] == "OPEN"]
        except httpx.HTTPError as error:
            return f"its gateway does not answer ({type(error).__name__})"
        if len(processes) < self._instances or without in processes.values():
            return f"{len(processes)} of {self._instances} instances serve"
        whole = [row for row in writing if row["copies"] >= self._replicas]
        if len(whole) < self._instances:
            return f"{len(whole)} of {self._instances} open ledgers have {self._replicas} copies"
        return ""
