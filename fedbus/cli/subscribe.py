"""``fedbus subscribe``: events to standard output, live or as a member of a durable group."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
import msgspec

from fedbus.cli.parameters import Filter, Start
from fedbus.cli.target import Target

if TYPE_CHECKING:
    from fedbus.client.bus import Bus
    from fedbus.event import Event

EVENTS_AT_ONCE = 500
PATIENCE_S = 3600.0


@click.command()
@click.argument("filter", type=Filter())
@click.option("--group", help="Receive as a member of this durable group; acknowledged when printed.")
@click.option("--from", "start", type=Start(), help="earliest, latest, a time, a position or a cursor.")
@click.option("--region", help="Subscribe in this region.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print CloudEvents as JSON lines, with topic, position, delivery."
)
@click.option("--max", "--count", "most", type=click.IntRange(min=1), help="End after that many events.")
@click.option("--no-ack", is_flag=True, help="With --group: acknowledge nothing.")
@click.pass_obj
def subscribe(target: Target, /, filter: str, group: str | None, start: Any, region: str | None, **how: Any) -> None:
    """Print events whose topic matches FILTER (* is one token, > the rest: 'orders.>') until Ctrl-C.

    Without --group: those that come from now on. With --group: each event of the group once, from its beginning.
    """

    async def work(bus: Bus) -> None:
        left = how["most"]
        options = {} if left is None else {"max_in_flight": min(left, 2000)}
        async with bus.subscribe(filter, group, start, **options) as subscription:
            while left is None or left > 0:
                events = await subscription.take(min(EVENTS_AT_ONCE, left or EVENTS_AT_ONCE), PATIENCE_S)
                _print(events, as_json=how["as_json"])
                if group and not how["no_ack"]:
                    for event in events:
                        await event.ack()
                left = None if left is None else left - len(events)

    target.run(work, region)


def _print(events: list[Event], *, as_json: bool) -> None:
    out = sys.stdout
    for event in events:
        if as_json:
            row = event.to_dict() | {"topic": event.topic, "position": str(event.position), "delivery": event.delivery}
            out.write(msgspec.json.encode(row).decode() + "\n")
        else:
            data = event.payload or b""
            key = f" key={event.key}" if event.key else ""
            again = f" delivery={event.delivery}" if event.delivery > 1 else ""
            out.write(f"{event.time_text or '-'} {event.topic}{key}{again} {_readable(data)}\n")
    out.flush()


def _readable(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return f"<{len(data)} bytes>"
    return text if text.isprintable() else repr(text)
