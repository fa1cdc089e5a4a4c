"""Publishing to topics that are pinned to regions: through an outbox of their own, which knows only these regions.

What is pinned is stored in its regions alone (``TopicRule.forward``), so its batches never share a window, a lane or a
fallback with others. A producer makes what it needs for such topics when the first event comes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fedbus.broker.policies import Policies

if TYPE_CHECKING:
    from fedbus.client.producer import Producer


class PinnedProducers:
    """One producer's way to regions: per set of regions another producer, with the same settings.

    Without ``make`` there is none: all goes through the one producer.
    """

    def __init__(self, policies: Policies, make: Callable[[tuple[str, ...]], Producer] | None = None) -> None:
        self._policies = policies
        self._make = make
        self._producers: dict[tuple[str, ...], Producer] = {}  # as many as policies pin to different regions

    def of(self, topic: str, otherwise: Producer) -> Producer:
        """Who publishes to this topic; ``otherwise``: if it is not pinned."""
        if self._make is None or not self._policies.is_pinned(topic):
            return otherwise
        rule = self._policies.rule(topic)
        found = self._producers.get(rule.regions)
        if found is None:
            found = self._producers[rule.regions] = self._make(rule.regions)
        return found

    @property
    def acknowledged(self) -> int:
        """How many of its events are durable."""
        return sum(producer.acknowledged for producer in self._producers.values())

    async def flush(self) -> None:
        """As of a producer."""
        for producer in list(self._producers.values()):
            await producer.flush()

    async def close(self, kind: type[BaseException] | None, error: BaseException | None) -> None:
        """As the end of a producer's context."""
        for producer in list(self._producers.values()):
            await producer.__aexit__(kind, error, None)
