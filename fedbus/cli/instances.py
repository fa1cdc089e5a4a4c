"""``fedbus scale``, ``drain``, ``restart``: the operator's hand on instances."""

from __future__ import annotations

import click

from fedbus.cli.control_api import ControlApi, find_instance, segment, wait_until
from fedbus.cli.parameters import Duration
from fedbus.cli.target import Target
from fedbus.errors import FedbusError

DRAIN_PATIENCE_S = 120.0
RESTART_PATIENCE_S = 60.0

_wait = click.option("--wait/--no-wait", default=True, show_default=True, help="Return when it is done.")


@click.command()
@click.argument("region")
@click.option("--instances", type=click.IntRange(min=1), help="So many, whatever load and forecast say.")
@click.option("--size", help="Size of new instances while it holds; none: the region's.")
@click.option("--for", "duration_ms", type=Duration(), default="30m", show_default=True, help="Then it expires.")
@click.option("--auto", is_flag=True, help="Take the override back: scale by load and forecast again.")
@click.pass_obj
def scale(
    target: Target, region: str, instances: int | None, size: str | None, duration_ms: int, *, auto: bool
) -> None:
    """Fix the number of instances of REGION for a while."""
    if auto == (instances is not None):
        raise click.UsageError("give --instances N, or --auto to scale by load and forecast again")
    path = f"/v1/regions/{segment(region)}/scale"
    if auto:
        ControlApi(target).call("DELETE", path)
        click.echo(f"{region}: scaled by load and forecast again")
        return
    body = {"instances": instances, "size": size, "expires_in_s": duration_ms / 1000}
    done = ControlApi(target).call("PUT", path, body)
    click.echo(f"{region}: {instances} instances until {done['expires']}; `fedbus status` shows them come and go")


@click.command()
@click.argument("instance")
@_wait
@click.pass_obj
def drain(target: Target, instance: str, *, wait: bool) -> None:
    """Take INSTANCE (region/b1) out of service for good: it delivers its backlog, another one serves its ledgers.

    If load, forecast or the region's minimum ask for it, another instance takes its place: scale the region down first.
    """
    api = ControlApi(target)
    found = find_instance(api, instance)
    name, region = found["instance"], found["region"]
    order = api.call("POST", f"{_path(found)}/drain").get("directive")
    if not wait:
        click.echo(f"{name}: drain ordered, directive {order}")
        return
    settled: list[dict[str, str]] = []

    def finished() -> bool:
        ours = (each for each in api.page("directives", region=region)["items"] if each["id"] == order)
        settled.extend(each for each in ours if each["finished"] is not None)
        return bool(settled)

    wait_until(finished, DRAIN_PATIENCE_S, f"{name} drains")
    if settled[0]["state"] != "done":
        raise FedbusError(f"{name}: the drain {settled[0]['state']}: {settled[0]['outcome']}")
    click.echo(f"{name}: drained, {settled[0]['outcome']}")


@click.command()
@click.argument("instance")
@_wait
@click.pass_obj
def restart(target: Target, instance: str, *, wait: bool) -> None:
    """Restart INSTANCE (region/b1) on its data: what is under way is stored and answered first."""
    api = ControlApi(target)
    before = find_instance(api, instance)
    name = before["instance"]
    ledger = api.call("POST", f"{_path(before)}/restart").get("ledger")
    if not wait:
        click.echo(f"{name}: restart ordered")
        return

    def back() -> bool:
        now = next((each for each in api.page("instances")["items"] if each["instance"] == name), None)
        return now is not None and now["ledger"] not in ("", ledger) and now["state"] in ("healthy", "degraded")

    wait_until(back, RESTART_PATIENCE_S, f"{name} restarts")
    click.echo(f"{name}: restarted, it takes events again")


def _path(instance: dict[str, str]) -> str:
    return f"/v1/instances/{segment(instance['region'])}/{segment(instance['instance'].rpartition('/')[2])}"
