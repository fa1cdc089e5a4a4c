"""Where a subscription starts, as users say it."""

from __future__ import annotations

from datetime import UTC, datetime

from fedbus.broker.protocol import EARLIEST, LATEST, Start
from fedbus.errors import InvalidEventError, InvalidPositionError
from fedbus.event import check_time
from fedbus.position import Position, decode_cursor

StartLike = str | datetime | Position | Start


def parse_start(start: StartLike) -> Start:
    """``earliest``, ``latest``, a time (RFC 3339 text or datetime; naive means UTC), a position or a cursor.

    A position is inclusive. Raises :class:`InvalidPositionError` on anything else.
    """
    if isinstance(start, Start):
        return start
    if isinstance(start, Position):
        return Start("cursor", cursor={start.ledger: start.offset})
    if isinstance(start, datetime):
        moment = start if start.tzinfo is not None else start.replace(tzinfo=UTC)
        return Start("time", time_ms=max(0, int(moment.timestamp() * 1000)))
    if start in ("earliest", "latest"):
        return EARLIEST if start == "earliest" else LATEST
    if "/" in start:
        return parse_start(Position.parse(start))
    try:
        return parse_start(datetime.fromisoformat(str(check_time(start)).upper()))
    except InvalidEventError:
        pass
    try:
        return Start("cursor", cursor=decode_cursor(start))
    except InvalidPositionError:
        raise InvalidPositionError(
            f"{start[:60]!r} is no start: use earliest, latest, a time (2026-01-31T12:00:00Z), "
            "a position (region/instance/epoch:offset) or a cursor"
        ) from None
