"""Publishing over HTTP as a careful client does it: sent again with the same ids until it is accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx
import msgspec

from fedbus.event import Event

ACCEPTED = 202
BATCH_TYPE = "application/cloudevents-batch+json"
TRIES = 60
AGAIN_S = 0.5
TIMEOUT_S = 15.0


class GatewayPublisher:
    """Publishes batches through a gateway; what it was answered instead of 202 goes to ``troubles``, once each."""

    def __init__(self, url: str, troubles: list[str]) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, trust_env=False)
        self._troubles = troubles

    async def accepts(self, region: str, topic: str, events: Sequence[Event]) -> bool:
        """Whether the events are durable in the region; false after half a minute of refusals."""
        body = msgspec.json.encode([event.to_dict() for event in events])
        for _ in range(TRIES):
            try:
                answer = await self._http.post(
                    f"/v1/topics/{topic}/events",
                    params={"region": region},
                    content=body,
                    headers={"content-type": BATCH_TYPE},
                )
            except httpx.HTTPError as error:
                said = repr(error)
            else:
                if answer.status_code == ACCEPTED:
                    return True
                said = f"{answer.status_code} {answer.text[:200]}"
            if said not in self._troubles:
                self._troubles.append(said)
            await asyncio.sleep(AGAIN_S)
        return False

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
