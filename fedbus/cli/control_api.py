"""The gateway's control API as commands use it: JSON in, JSON out, a failure as a typed error in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Any
from urllib.parse import quote

import click
import httpx
import msgspec

from fedbus.cli.target import Target
from fedbus.clock import SystemClock
from fedbus.errors import FedbusError, NotFoundError, UnavailableError, error_types, from_code

TIMEOUT_S = 15.0
POLL_S = 0.5

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


class ControlApi:
    """The first gateway of the target that answers."""

    def __init__(self, target: Target) -> None:
        self._urls = [url.rstrip("/") for url in target.urls]
        if not any(url.startswith("http") for url in self._urls):
            raise click.UsageError(f"this needs a gateway (http://…), and {', '.join(self._urls)} is none; give --url")
        self._headers = {"authorization": f"Bearer {target.token}"} if target.token else {}

    def page(self, resource: str, **query: str) -> dict[str, Any]:
        """A resource: ``items``, ``stale``, ``stale_regions``, ``as_of``; all its pages in one."""
        page: dict[str, Any] = self.call("GET", f"/v1/{resource}", query=query)
        following = page["next"]
        while following is not None:
            more = self.call("GET", f"/v1/{resource}", query=query | {"after": following})
            page["items"] += more["items"]
            following = more["next"]
        return page | {"next": None}

    def items(self, resource: str, **query: str) -> list[dict[str, Any]]:
        """The items of a resource; what is stale is said on stderr."""
        page = self.page(resource, **query)
        warn_of_stale(page["stale_regions"])
        return list(page["items"])

    def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, query: dict[str, str] | None = None
    ) -> Any:
        """One request; raises the error that the problem document names, UnavailableError if no gateway answers."""
        content = None if body is None else msgspec.json.encode(body)
        headers = self._headers | ({"content-type": "application/json"} if body is not None else {})
        failure = ""
        for url in self._urls:
            try:
                answer = httpx.request(
                    method,
                    url + path,
                    content=content,
                    params=query,
                    headers=headers,
                    timeout=TIMEOUT_S,
                    trust_env=False,
                )
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                failure = f"no gateway answers at {url} ({error}): is `fedbus up` running? Choose another with --url"
                continue
            return _content(answer, url)
        raise UnavailableError(failure)


def _content(answer: httpx.Response, url: str) -> Any:
    try:
        value = msgspec.json.decode(answer.content)
    except msgspec.DecodeError:
        raise UnavailableError(
            f"{url} answered {answer.status_code} and no JSON: no fedbus gateway, or one that is just starting"
        ) from None
    if answer.is_success:
        return value
    if isinstance(value, dict) and "detail" in value:
        code, detail = str(value.get("type", "")), str(value["detail"])
        if code not in error_types():
            raise click.ClickException(f"{detail} [{code}]")
        wait_s = answer.headers.get("retry-after", "")
        raise from_code(code, detail, retry_after_ms=int(wait_s) * 1000 if wait_s.isdecimal() else 0)
    raise FedbusError(f"{url} answered {answer.status_code}: {str(value)[:200]}")


def segment(text: str) -> str:
    """Text as one part of a path."""
    return quote(text, safe="")


def find_instance(api: ControlApi, name: str) -> dict[str, Any]:
    """The instance of that name, with or without its region; NotFoundError names what there is."""
    instances = api.items("instances")
    full = [each["instance"] for each in instances]
    found = [each for each in instances if each["instance"] == name or each["instance"].endswith(f"/{name}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise NotFoundError(
            f"{name} is in several regions: write one of {', '.join(each['instance'] for each in found)}"
        )
    raise NotFoundError(f"no instance {name}; there are {', '.join(full) or 'none'}")


def wait_for(change: Callable[[], dict[str, Any]], patience_s: float) -> dict[str, Any]:
    """Send a change again for as long as the answer asks for that; raises what it says after ``patience_s``.

    Where no gateway answers at all, that is raised at once.
    """
    clock, pause = SystemClock(), Event()
    deadline_ns = clock.monotonic_ns() + int(patience_s * 1e9)
    while True:
        try:
            return change()
        except UnavailableError as error:
            if not error.retry_after_ms or clock.monotonic_ns() >= deadline_ns:
                raise
        pause.wait(POLL_S)


def wait_until(done: Callable[[], bool], patience_s: float, what: str) -> None:
    """Ask until it is done, also through moments without an answer; UnavailableError when it takes too long."""
    clock, pause = SystemClock(), Event()
    deadline_ns = clock.monotonic_ns() + int(patience_s * 1e9)
    while clock.monotonic_ns() < deadline_ns:
        try:
            if done():
                return
        except UnavailableError:
            pass
        pause.wait(POLL_S)
    raise UnavailableError(f"{what}: not done after {patience_s:.0f} s; `fedbus status` shows how it goes on")


def report_spread(spread: dict[str, Any], said: str) -> None:
    """Say what came of a change of the whole federation; regions that did not take part are a failure."""
    click.echo(f"{said} in {', '.join(spread['regions'])}")
    if spread["failed"]:
        whys = "\n".join(f"  {region}: {why}" for region, why in spread["failed"].items())
        raise UnavailableError(f"some regions did not take it; run the same command again:\n{whys}")


def warn_of_stale(regions: list[str]) -> None:
    """What is shown of these regions is what was heard of them last."""
    if regions:
        click.echo(f"stale: the manager of {', '.join(regions)} does not answer; it restarts by itself", err=True)


def print_json(value: Any) -> None:
    """One JSON document."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
