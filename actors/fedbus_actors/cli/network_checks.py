"""Checks of ports, of the gateway's clock against ours, and of who could listen in."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from email.utils import parsedate_to_datetime

import httpx

from fedbus.clock import SystemClock
from fedbus.errors import EnvironmentUnusableError
from fedbus.options import FederationOptions
from fedbus_actors.cli.finding import Finding, graded
from fedbus_actors.cli.holder import running_regions
from fedbus_actors.ports import wanted_ports
from fedbus_actors.region_keys import public_key

SKEW_WARN_S, SKEW_FAIL_S = 2.0, 30.0  # the header Date has whole seconds
TIMEOUT_S = 3.0


def ports(options: FederationOptions, regions: Sequence[str]) -> Iterator[Finding]:
    """What a start would bind; ports of regions that run already are their own."""
    try:
        running = running_regions(options.data.root / options.name)
    except EnvironmentUnusableError as error:
        yield Finding("fail", "federation", error.detail)
        return
    for process in set(running.values()):
        who = ", ".join(region for region, each in running.items() if each == process)
        everything = set(running) >= set(options.startable) and len(set(running.values())) == 1
        yield Finding("ok", "ports", f"{options.name if everything else who} runs already, as process {process.pid}")
    if stopped := [region for region in regions if region not in running]:
        wanted = wanted_ports(options, stopped)
        taken = [(port, key) for host, port, _, key in wanted if not bindable(host, port)]
        for port, key in taken:
            yield Finding("fail", f"port {port}", "in use", f"stop what uses it, or choose another with {key}")
        if not taken:
            gateway = options.gateway_of(stopped[0])
            yield Finding("ok", "ports", f"{len(wanted)} free, the gateway's is {gateway.port}")


def bindable(host: str, port: int) -> bool:
    """Whether we could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def clock_skew(url: str) -> Iterator[Finding]:
    """Our clock against the gateway's, as its answers are dated."""
    if not url.startswith("http"):
        return
    clock = SystemClock()
    try:
        began_ns = clock.now_ns()
        answer = httpx.get(f"{url.rstrip('/')}/healthz", timeout=TIMEOUT_S, trust_env=False)
        ended_ns = clock.now_ns()
    except (httpx.HTTPError, httpx.InvalidURL):
        yield Finding("ok", "clock skew", f"not measured: no gateway answers at {url}")
        return
    if "date" not in answer.headers:
        yield Finding("ok", "clock skew", f"not measured: {url} does not date its answers")
        return
    try:
        theirs_s = parsedate_to_datetime(answer.headers["date"]).timestamp() + 0.5
    except ValueError:
        yield Finding("warn", "clock skew", f"{url} answers with a date that is none", "is this a fedbus gateway?")
        return
    skew_s = abs(theirs_s - (began_ns + ended_ns) / 2e9)
    remedy = "" if skew_s < SKEW_WARN_S else "let both machines set their clocks (NTP): times and forecasts mix them"
    yield Finding(graded(skew_s, SKEW_WARN_S, SKEW_FAIL_S), "clock skew", f"{skew_s:.1f} s to {url}", remedy)


def plaintext(options: FederationOptions, regions: Sequence[str]) -> Iterator[Finding]:
    """What clients and a region's own instances say is not encrypted: it should not be reachable from elsewhere."""
    exposed = [name for name in regions if not options.regions[name].is_loopback]
    exposed += [] if options.gateway_of(regions[0]).is_loopback else ["gateway"]
    if exposed:
        remedy = "everybody who reaches it may read and publish all: keep it in a private network"
        yield Finding("warn", "security", f"{', '.join(exposed)}: beyond this machine, in plain text", remedy)
    else:
        yield Finding("ok", "security", "everything listens on this machine only")


def keys(options: FederationOptions, regions: Sequence[str]) -> Iterator[Finding]:
    """By which key each region is known: a region without one is not spoken to."""
    directory = options.data.root / options.name
    lacking = [
        name for name, region in options.regions.items()
        if name not in regions and region.public_key is None and not public_key(directory / name)
    ]  # fmt: skip
    for name in regions:
        own, written = public_key(directory / name), options.regions[name].public_key
        if own and written is not None and own != written:
            remedy = f"write {own} there, and tell the other regions, or restore {directory / name}/keys"
            yield Finding("fail", "keys", f"regions.{name}.public_key is not that of its data directory", remedy)
    if lacking:
        remedy = (
            "write what `fedbus region key` prints there as public_key; on this machine it is made by its first start"
        )
        yield Finding("warn", "keys", f"no public key of {', '.join(lacking)}", remedy)
    else:
        yield Finding("ok", "keys", f"of {len(options.regions)} region(s); those here get theirs at the first start")


def ray_authentication(options: FederationOptions, regions: Sequence[str]) -> Iterator[Finding]:
    """A cluster of ours gets its own token; an existing one needs its mode said explicitly, or joining fails late."""
    mode, token = os.environ.get("RAY_AUTH_MODE"), "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ
    elsewhere = [name for name in regions if not options.regions[name].is_local]
    if not elsewhere:
        yield Finding("ok", "Ray token", "made anew for each start of the local cluster")
    elif mode is None:
        remedy = (
            "export RAY_AUTH_MODE=token (with RAY_AUTH_TOKEN_PATH) or RAY_AUTH_MODE=disabled, as the cluster has it"
        )
        yield Finding("warn", "Ray token", f"RAY_AUTH_MODE is not set, {', '.join(elsewhere)} join a cluster", remedy)
    elif mode == "token" and not token:
        yield Finding("warn", "Ray token", "RAY_AUTH_MODE=token without a token", "export RAY_AUTH_TOKEN_PATH")
    else:
        yield Finding("ok", "Ray token", f"RAY_AUTH_MODE={mode}")
