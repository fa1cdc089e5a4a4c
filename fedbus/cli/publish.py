"""``fedbus publish``: one event from the command line, or a file or pipe of them."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from io import BufferedReader
from typing import TYPE_CHECKING, Any

import click
import msgspec

from fedbus.cli.ndjson import Lines, pointed_at
from fedbus.cli.parameters import Attribute, Topic
from fedbus.cli.target import Target
from fedbus.errors import FedbusError
from fedbus.event import is_json

if TYPE_CHECKING:
    from fedbus.client.bus import Bus
    from fedbus.client.receipt import Receipt
    from fedbus.event import Event

EVENTS_AT_ONCE = 4000

Report = Callable[[int, int], None]  # bytes read, events acknowledged


@click.command()
@click.argument("topic", type=Topic())
@click.option("--data", help="The event's data, as JSON (as text with another --content-type).")
@click.option("--file", "file", type=click.File("rb"), help="NDJSON, an event per line; - reads standard input.")
@click.option("--key", help="Events of one key stay in order.")
@click.option("--key-field", metavar="POINTER", help="Take the key from the data: a JSON Pointer, /customer/id.")
@click.option("--content-type", help="Content type of the data.")
@click.option("--attr", "attributes", multiple=True, type=Attribute(), metavar="K=V", help="A CloudEvents attribute.")
@click.option("--region", help="Publish in this region.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON line per event: id, position, instance, duplicate.")
@click.pass_obj
def publish(
    target: Target, /, topic: str, data: str | None, file: BufferedReader | None, region: str | None, **how: Any
) -> None:
    """Publish to TOPIC and print the ids of what is durable.

    In a file, a line with "specversion" is a CloudEvent, any other line is data. The first bad line ends it.
    """
    if (data is None) == (file is None):
        raise click.UsageError("give the event with --data JSON, or events with --file FILE (- for standard input)")
    how["attributes"] = dict(how["attributes"])
    show = _show_json if how.pop("as_json") else _show_id
    if data is not None:
        payload = _payload(data, how["content_type"])
        key = how["key"]
        if how["key_field"] is not None:
            key = pointed_at(msgspec.json.decode(payload), how["key_field"], "--data")
        options = {"key": key, "content_type": how["content_type"], "attributes": how["attributes"] or None}
        options["content_type"] = options["content_type"] or "application/json"
        show([target.run(lambda bus: bus.publish(topic, payload, **options), region)])
    elif file is not None:
        _publish_file(target, topic, file, region, show, how)


def _payload(data: str, content_type: str | None) -> bytes:
    if content_type is None or is_json(content_type):
        try:
            msgspec.json.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise click.UsageError(
                f"--data is not JSON ({error}): quote it, or give --content-type text/plain"
            ) from None
    return data.encode()


def _publish_file(
    target: Target,
    topic: str,
    file: BufferedReader,
    region: str | None,
    show: Callable[[list[Receipt]], None],
    how: dict[str, Any],
) -> None:
    from fedbus.cli.progress import publishing

    async def work(bus: Bus) -> None:
        from fedbus.clock import SystemClock

        lines = Lines(topic, bus.source, secrets.token_hex(8), SystemClock(), **how)
        with publishing(file) as report:
            await _publish_lines(bus, lines, file, show, report)

    target.run(work, region)


async def _publish_lines(
    bus: Bus, lines: Lines, file: BufferedReader, show: Callable[[list[Receipt]], None], report: Report
) -> None:
    from fedbus.cli.lines import read_lines

    number = done = read_bytes = 0
    waiting: list[tuple[int, Event]] = []
    try:
        async for some in read_lines(file):
            try:
                for line in some:
                    number += 1
                    read_bytes += len(line) + 1
                    if line.strip():
                        waiting.append((number, lines.event(number, line)))
                    if len(waiting) >= EVENTS_AT_ONCE:
                        done += await _publish_some(bus, lines.topic, waiting, show)
                        report(read_bytes, done)
            finally:  # also what stands before a bad line
                done += await _publish_some(bus, lines.topic, waiting, show)
                report(read_bytes, done)
    except FedbusError as error:
        error.add_note(f"{done} event(s) before that are durable; nothing after it was sent")
        raise


async def _publish_some(
    bus: Bus, topic: str, waiting: list[tuple[int, Event]], show: Callable[[list[Receipt]], None]
) -> int:
    """Publish and forget ``waiting``; returns how many are durable, raises the first failure with its line."""
    events = list(waiting)
    waiting.clear()
    outcomes = await bus.publish_events([(topic, event) for _, event in events])
    receipts = [outcome for outcome in outcomes if not isinstance(outcome, FedbusError)]
    show(receipts)
    for (number, _), outcome in zip(events, outcomes, strict=True):
        if isinstance(outcome, FedbusError):
            outcome.add_note(
                f"first at line {number}; of the {len(events)} lines around it {len(receipts)} are durable"
            )
            raise outcome
    return len(receipts)


def _show_id(receipts: list[Receipt]) -> None:
    if receipts:
        click.echo("\n".join(receipt.id for receipt in receipts))


def _show_json(receipts: list[Receipt]) -> None:
    for receipt in receipts:
        row = {
            "id": receipt.id,
            "position": str(receipt.position),
            "instance": receipt.instance,
            "duplicate": receipt.duplicate,
        }
        click.echo(msgspec.json.encode(row))
