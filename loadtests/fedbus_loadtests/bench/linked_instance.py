"""A bus instance in a process of its own that has a link endpoint, and pulls from another region or is pulled from.

What a manager would tell it is in its command line; both sides of the link are encrypted and know one key each.
"""

from __future__ import annotations

import signal
from pathlib import Path
from threading import Event

import click

from fedbus.broker.effects import PeerLink
from fedbus.broker.protocol import LinkFilter
from fedbus.limits import GIB, Limits
from fedbus_actors.bus_instance import BusInstance, InstanceConfig
from fedbus_actors.region_keys import open_keys

INSTANCE = "b1"


@click.command()
@click.option("--region", required=True)
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The region's directory, with its keys.")
@click.option("--admit", type=(str, str), multiple=True, help="REGION KEY: who may pull.")
@click.option("--pull", type=(str, str, str, str), multiple=True, help="LEDGER ENDPOINT KEY FILTER.")
def main(
    region: str, data: Path, admit: tuple[tuple[str, str], ...], pull: tuple[tuple[str, str, str, str], ...]
) -> None:
    """Run it until SIGINT or SIGTERM."""
    ended = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    open_keys(data)
    # Which ledger is pulled is fixed: without a manager nobody would follow its origin to the next one.
    limits = Limits(ledger_roll_bytes=1024 * GIB)
    directory = str(data / INSTANCE)
    bus = BusInstance(InstanceConfig(region, INSTANCE, directory, limits=limits, keys_directory=str(data)))
    bus.apply_peers(dict(admit))
    bus.apply_links([PeerLink(ledger, at, [LinkFilter(pattern, 0)], key) for ledger, at, key, pattern in pull])
    click.echo(f"link tcp://127.0.0.1:{bus.link_port}")
    click.echo(f"clients tcp://127.0.0.1:{bus.port}")
    ended.wait()
    bus.stop()


if __name__ == "__main__":
    main()
