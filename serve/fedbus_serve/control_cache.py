"""What the gateway knows of the control plane: asked of the managers at most once a second, kept when they are away.

The data plane does not depend on it: a gateway goes on publishing while every manager is dead, and answers questions
about the control plane with what it heard last, marked ``stale``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from fedbus.client.bootstrap import Bootstrap
from fedbus.clock import Clock
from fedbus.errors import FedbusError, NotFoundError, UnavailableError

Network = Literal["internal", "external"]
Resource = Literal[
    "regions",
    "instances",
    "ledgers",
    "forecasts",
    "directives",
    "routing",
    "slas",
    "triggers",
    "topics",
    "subscriptions",
]

MAX_AGE_MS = 1000
PATIENCE_S = 0.3  # how long a reader waits for news when there is an older answer
TIMEOUT_S = 3.0
CHANGE_S = 11.0
_NS_PER_MS = 1_000_000

log = logging.getLogger(__name__)


class ControlSource(Protocol):
    """The control plane as the gateway sees it; the real one asks the managers' actors, with a timeout."""

    def regions(self) -> Sequence[str]:
        """The regions of the federation at the moment, the home region first; known without asking anybody."""
        ...

    async def bootstrap(self, network: Network) -> Bootstrap:
        """Routing table (with the endpoints callers of that network can reach), nearest region, limits, schemas."""
        ...

    async def read(self, resource: Resource, region: str) -> Sequence[Any]:
        """One region's part of a resource: views of :mod:`fedbus_serve.views`, or dicts of their fields.

        ``slas``, ``triggers``, ``topics`` and ``subscriptions`` are the federation's: any region's manager answers
        them. Raises :class:`FedbusError` if the region's manager is away.
        """
        ...

    async def change(self, region: str, change: str, name: str, value: Any = None) -> dict[str, Any]:
        """An operator's change at one region's manager; its answer. Raises :class:`FedbusError` if it refuses."""
        ...

    async def query(self, region: str, query: str, asked: Any = None) -> Any:
        """A question that needs one region's answer of the moment. Raises :class:`FedbusError`."""
        ...


class Reading(NamedTuple):
    """An answer, when it was got (the gateway's wall time), and whether newer ones fail to come."""

    value: Any
    read_at_ns: int
    stale: bool


class _Entry:
    __slots__ = ("asked_ns", "failure", "fetch", "reading")

    def __init__(self) -> None:
        self.reading: Reading | None = None
        self.asked_ns = -(10**18)
        self.fetch: asyncio.Task[None] | None = None
        self.failure: FedbusError | None = None


class ControlCache:
    """Single-flight cache over a :class:`ControlSource`; bounded by resources × regions that there ever were."""

    def __init__(self, source: ControlSource, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._entries: dict[tuple[str, str], _Entry] = {}

    def regions(self) -> tuple[str, ...]:
        """The regions at the moment, the home region first."""
        return tuple(self._source.regions())

    def check_region(self, region: str) -> str:
        """Return the region, or raise :class:`NotFoundError`."""
        if region not in (regions := self.regions()):
            raise NotFoundError(f"region {region[:80]!r} is none of this federation's: {', '.join(regions)}")
        return region

    async def bootstrap(self, network: Network) -> Reading:
        """The bootstrap document; raises :class:`UnavailableError` if it was never heard."""
        return await self._read(("bootstrap", network), lambda: self._source.bootstrap(network))

    async def read(self, resource: Resource, region: str) -> Reading:
        """A region's part of a resource; raises :class:`UnavailableError` if it was never heard."""
        return await self._read((resource, region), lambda: self._source.read(resource, region))

    async def change(self, region: str, change: str, name: str, value: Any = None) -> dict[str, Any]:
        """Change something in a region; what is read of it afterwards is asked for anew."""
        try:
            async with asyncio.timeout(CHANGE_S):
                return await self._source.change(region, change, name, value)
        except TimeoutError:
            raise UnavailableError(
                f"region {region}: no answer within {CHANGE_S:g} s; it may have been done: look, then repeat it",
                retry_after_ms=1000,
            ) from None
        finally:
            for (_, of_region), entry in self._entries.items():
                if of_region == region:
                    entry.asked_ns = -(10**18)

    async def query(self, region: str, query: str, asked: Any = None) -> Any:
        """Ask a region now, past the cache; :class:`UnavailableError` if it does not answer."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._source.query(region, query, asked)
        except TimeoutError:
            raise UnavailableError(
                f"region {region}: no answer within {TIMEOUT_S:g} s; try again", retry_after_ms=1000
            ) from None

    async def close(self) -> None:
        """End what is under way."""
        fetches = [entry.fetch for entry in self._entries.values() if entry.fetch is not None]
        for fetch in fetches:
            fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)

    async def _read(self, key: tuple[str, str], ask: Callable[[], Awaitable[Any]]) -> Reading:
        entry = self._entries.setdefault(key, _Entry())
        age_ns = self._clock.monotonic_ns() - entry.asked_ns
        if entry.fetch is None and age_ns >= MAX_AGE_MS * _NS_PER_MS:
            entry.asked_ns = self._clock.monotonic_ns()
            entry.fetch = asyncio.create_task(self._fetch(key, entry, ask), name=f"control {key[0]} {key[1]}")
        if entry.fetch is not None:
            await asyncio.wait((entry.fetch,), timeout=PATIENCE_S if entry.reading is not None else None)
        if entry.reading is None:
            failure = entry.failure.detail if entry.failure is not None else "it did not answer"
            raise UnavailableError(f"{key[0]} of {key[1]} are not known: {failure}", retry_after_ms=1000)
        late = entry.fetch is not None and not entry.fetch.done()
        return entry.reading._replace(stale=late or entry.failure is not None)

    async def _fetch(self, key: tuple[str, str], entry: _Entry, ask: Callable[[], Awaitable[Any]]) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                value = await ask()
            entry.reading = Reading(value, self._clock.now_ns(), stale=False)
            entry.failure = None
        except FedbusError as error:
            entry.failure = error
        except TimeoutError:
            entry.failure = UnavailableError(f"no answer within {TIMEOUT_S:g} s")
        except Exception as error:  # noqa: BLE001 - whatever an actor call raises, who asks gets the last answer
            log.warning("control source failed on %s of %s: %r", *key, error)
            entry.failure = UnavailableError(f"the manager's answer failed ({type(error).__name__})")
        finally:
            entry.fetch = None
