"""``/v1/subscriptions/{group}/pull``, ``/ack``, ``/nack``, ``/extend``: durable consumption over plain HTTP.

A gateway is one member of a group for all its callers; it joins at the first pull and leaves when nobody has asked for
a while. An acknowledgement id says where an event was delivered and its position, so that any gateway replica can
settle it: the replica joins the group at that instance, if it has not. What cannot be settled (a forged id, an instance
that is gone) is reported per id; such an event is delivered again.
"""

from __future__ import annotations

import asyncio
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from fastapi import Depends, FastAPI
from pydantic import Field

from fedbus.clock import Clock
from fedbus.errors import FedbusError, InvalidPositionError, NotFoundError, OverloadedError, UnavailableError
from fedbus.limits import Limits
from fedbus.position import LedgerId, Position
from fedbus_serve import views
from fedbus_serve.buses import Buses, Consumer
from fedbus_serve.control_cache import ControlCache
from fedbus_serve.control_changes import Body, own_page
from fedbus_serve.subscriptions import Group, Region, find_group

MOST_EVENTS, MOST_IDS = 1000, 10_000
LONGEST_WAIT_MS = 20_000  # shorter than any proxy's patience
IDLE_MS = 30_000  # at least so long a gateway stays a member without being asked
KNOWN_MS = 5_000  # how long a group's definition is believed

AckId = Annotated[str, Field(max_length=2048)]


class PullBody(Body):
    """How much, and how long to wait for it."""

    max: int = Field(100, ge=1, le=MOST_EVENTS, description="At most so many events.")
    wait_ms: int = Field(0, ge=0, le=LONGEST_WAIT_MS, description="Wait so long for the first.")


class SettleBody(Body):
    """Which deliveries."""

    ack_ids: list[AckId] = Field(max_length=MOST_IDS, description="As pull gave them.")


class NackBody(SettleBody):
    """Which deliveries, and when they come again."""

    delay_ms: int | None = Field(None, ge=0, description="None: as the group's back-off says.")
    dead_letter: str = Field("", max_length=200, description="A reason to send them to the dead-letter topic at once.")


class PulledEvent(views.View):
    """A delivery."""

    ack_id: str = Field(description="Pass it to ack, nack or extend.")
    topic: str
    delivery: int = Field(description="Counts from 1.")
    position: str
    event: dict[str, Any] = Field(description="A CloudEvent in the JSON format.")


class NotSettled(views.View):
    """An id that came to nothing; its event is delivered again."""

    ack_id: str
    code: str
    detail: str
    retryable: bool


class Settled(views.View):
    """What came of it: ``settled`` ids (durably, for ack), the others one by one."""

    settled: int
    failed: list[NotSettled]


class Delivered(NamedTuple):
    """What an acknowledgement id says."""

    group: int  # its name's CRC: an id of another group settles nothing
    instance: str
    ledger: str
    offset: int


_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(tuple[int, str, str, int])


def encode_ack_id(group: str, instance: str, position: Position) -> str:
    """Opaque and URL-safe."""
    return urlsafe_b64encode(_encode((zlib.crc32(group.encode()), instance, *position))).decode().rstrip("=")


def decode_ack_id(text: str, group: str) -> tuple[str, Position]:
    """(instance, position); raises :class:`InvalidPositionError` unless it is one of this group."""
    try:
        found = Delivered(*_decoder.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4))))
        LedgerId.parse(found.ledger)
    except (ValueError, msgspec.MsgspecError, InvalidPositionError):
        raise InvalidPositionError(f"{text[:60]!r} is no ack_id") from None
    if found.group != zlib.crc32(group.encode()) or found.offset < 0:
        raise InvalidPositionError(f"{text[:60]!r} is no ack_id of group {group!r}")
    return found.instance, Position(found.ledger, found.offset)


class _Membership:
    """A gateway's membership in one group. ``users`` are calls under way."""

    def __init__(self, consumer: Consumer, identity: tuple[Any, ...], now_ns: int) -> None:
        self.consumer = consumer
        self.identity = identity
        self.known_ns = now_ns
        self.used_ns = now_ns
        self.idle_ns = 0
        self.users = 0


class Pulls:
    """The memberships of one gateway; bounded by its limit on streams."""

    def __init__(self, buses: Buses, cache: ControlCache, limits: Limits, clock: Clock) -> None:
        self._buses = buses
        self._cache = cache
        self._limits = limits
        self._clock = clock
        self._open: dict[tuple[str | None, str], _Membership] = {}
        self._opening: dict[tuple[str | None, str], asyncio.Lock] = {}
        self._janitor: asyncio.Task[None] | None = None

    async def pull(self, group: str, region: str | None, body: PullBody) -> list[dict[str, Any]]:
        """Events for a caller."""
        member = await self._member(group, region)
        try:
            pulled = await member.consumer.pull(body.max, body.wait_ms / 1000)
        except NotFoundError:
            await self._leave((region, group))
            raise
        finally:
            self._used(member)
        return [
            {
                "ack_id": encode_ack_id(group, each.instance, each.position),
                "topic": each.event.topic,
                "delivery": each.event.delivery,
                "position": str(each.position),
                "event": each.event.to_dict(),
            }
            for each in pulled
        ]

    async def settle(
        self, group: str, region: str | None, ids: Sequence[str],
        settle: Callable[[Consumer, Sequence[tuple[str, Position]]], Coroutine[Any, Any, list[FedbusError | None]]],
    ) -> dict[str, Any]:  # fmt: skip
        """Do something with deliveries; what came of it."""
        failed: list[tuple[str, FedbusError]] = []
        known: list[tuple[str, tuple[str, Position]]] = []
        for text in ids:
            try:
                known.append((text, decode_ack_id(text, group)))
            except FedbusError as error:
                failed.append((text, error))
        if known:
            member = await self._member(group, region)
            try:
                outcomes = await settle(member.consumer, [where for _, where in known])
            finally:
                self._used(member)
            failed += [(text, each) for (text, _), each in zip(known, outcomes, strict=True) if each is not None]
        return {
            "settled": len(ids) - len(failed),
            "failed": [
                {"ack_id": text, "code": each.code, "detail": each.detail, "retryable": each.retryable}
                for text, each in failed
            ],
        }

    async def close(self) -> None:
        """Leave all groups."""
        if self._janitor is not None:
            self._janitor.cancel()
            self._janitor = None
        members, self._open = list(self._open.values()), {}
        await asyncio.gather(*(member.consumer.close() for member in members), return_exceptions=True)

    def _used(self, member: _Membership) -> None:
        member.users -= 1
        member.used_ns = self._clock.monotonic_ns()

    async def _member(self, group: str, region: str | None) -> _Membership:
        """The membership, made if there is none, or if the group is another one by now; one user more."""
        key = (region, group)
        lock = self._opening.setdefault(key, asyncio.Lock())
        async with lock:
            member = self._open.get(key)
            if member is None or self._clock.monotonic_ns() - member.known_ns > KNOWN_MS * 1_000_000:
                member = await self._renewed(key, member)
            member.users += 1
            return member

    async def _renewed(self, key: tuple[str | None, str], member: _Membership | None) -> _Membership:
        region, group = key
        try:
            asked, view = await find_group(self._cache, group, region)
        except UnavailableError:
            if member is not None:
                return member  # as it was known
            raise
        except FedbusError:
            await self._leave(key)
            raise
        seen = views.SubscriptionDetail.model_validate(view, from_attributes=True)
        home = seen.region if seen.region in self._cache.regions() else asked
        identity = (home, seen.created, seen.generation, seen.ack_deadline_ms)
        now_ns = self._clock.monotonic_ns()
        if member is not None and member.identity == identity:
            member.known_ns = now_ns
            return member
        await self._leave(key)
        if len(self._open) >= self._limits.gateway_streams:
            raise OverloadedError(
                f"this gateway pulls for {len(self._open)} groups already, its limit; try again later",
                retry_after_ms=1000,
            )
        bus = await self._buses.get(home)
        consumer = bus.consume(group, seen.filters, ack_deadline_ms=seen.ack_deadline_ms)
        try:
            await consumer.open()
        except BaseException:
            await consumer.close()
            raise
        member = self._open[key] = _Membership(consumer, identity, now_ns)
        member.idle_ns = max(IDLE_MS, seen.ack_deadline_ms) * 1_000_000
        if self._janitor is None:
            self._janitor = asyncio.create_task(self._leave_idle(), name="leave idle groups")
        return member

    async def _leave(self, key: tuple[str | None, str]) -> None:
        member = self._open.pop(key, None)
        if member is not None:
            await member.consumer.close()

    async def _leave_idle(self) -> None:
        """A member that nobody asks holds nothing: what it was given has passed its deadline."""
        while True:
            await asyncio.sleep(IDLE_MS / 4000)
            now_ns = self._clock.monotonic_ns()
            for key, member in list(self._open.items()):
                if not member.users and now_ns - member.used_ns > member.idle_ns:
                    await self._leave(key)
                    self._opening.pop(key, None)


def add_pulls(app: FastAPI, pulls: Pulls) -> None:
    """Add the routes."""
    guard = [Depends(own_page)]
    path = "/v1/subscriptions/{group}/"

    @app.post(path + "pull", response_model=list[PulledEvent], dependencies=guard, summary="Receive events of a group")
    async def pull(group: Group, body: PullBody, region: Region = None) -> list[dict[str, Any]]:
        return await pulls.pull(group, region, body)

    @app.post(path + "ack", response_model=Settled, dependencies=guard, summary="Acknowledge; durable when answered")
    async def ack(group: Group, body: SettleBody, region: Region = None) -> dict[str, Any]:
        return await pulls.settle(group, region, body.ack_ids, lambda consumer, where: consumer.ack(where))

    @app.post(path + "nack", response_model=Settled, dependencies=guard, summary="Give back, to be delivered again")
    async def nack(group: Group, body: NackBody, region: Region = None) -> dict[str, Any]:
        async def give_back(consumer: Consumer, instance: str, position: Position) -> None:
            await consumer.nack(instance, position, delay_ms=body.delay_ms, dead_letter=body.dead_letter)

        return await pulls.settle(group, region, body.ack_ids, _one_by_one(give_back))

    @app.post(path + "extend", response_model=Settled, dependencies=guard, summary="Ask for more time")
    async def extend(group: Group, body: SettleBody, region: Region = None) -> dict[str, Any]:
        async def ask(consumer: Consumer, instance: str, position: Position) -> None:
            await consumer.extend(instance, position)

        return await pulls.settle(group, region, body.ack_ids, _one_by_one(ask))


def _one_by_one(
    settle: Callable[[Consumer, str, Position], Coroutine[Any, Any, None]],
) -> Callable[[Consumer, Sequence[tuple[str, Position]]], Coroutine[Any, Any, list[FedbusError | None]]]:
    async def each(consumer: Consumer, where: Sequence[tuple[str, Position]]) -> list[FedbusError | None]:
        outcomes: list[FedbusError | None] = []
        for instance, position in where:
            try:
                await settle(consumer, instance, position)
            except FedbusError as error:
                outcomes.append(error)
            else:
                outcomes.append(None)
        return outcomes

    return each
