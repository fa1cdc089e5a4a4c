"""The gateway on Ray Serve: the one place where :class:`~fedbus_serve.asgi.Gateway` becomes a deployment.

Serve's own proxy manages some 160 requests a second; in HAProxy mode it is thousands. That mode is chosen by the
environment in which the cluster's *head* was started, so all that can be done here is to look and say so.
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fedbus.limits import DEFAULT, Limits
from fedbus_serve.answer import AsgiApp, Receive, Scope, Send
from fedbus_serve.asgi import Gateway

if TYPE_CHECKING:
    from ray.serve import Application

APPLICATION = "fedbus"
FAST_PROXY = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
"""What the environment must hold when the head starts, for Serve to put HAProxy in front."""


def build_gateway(
    make: Callable[[], Gateway], *, replicas: int = 1, cpus: float = 0.1, limits: Limits = DEFAULT
) -> Application:
    """The Serve application; run it with ``serve.run(app, name=APPLICATION, route_prefix=…)``.

    ``make`` is called in each replica (so it has to be picklable: a function, or a partial of one, over actor handles
    and options) and returns its gateway. Its buses connect when the first request comes, in the loop of the requests.
    """
    from ray import serve  # a second or two that whoever only makes ids need not wait

    def application() -> AsgiApp:
        gateway = make()
        if warning := slow_proxy_warning():
            gateway.warn(warning)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await gateway(scope, receive, send)

        return app

    # Beyond Serve's own bound requests would wait in HAProxy unanswered, so ours comes first, with its 429.
    bound = limits.gateway_requests + limits.gateway_streams + 64
    deployment: Any = serve.deployment(
        name="gateway", num_replicas=replicas, max_ongoing_requests=bound, ray_actor_options={"num_cpus": cpus},
        graceful_shutdown_timeout_s=2.0,
    )  # fmt: skip
    return deployment(serve.ingress(application)()).bind()  # type: ignore[no-any-return]


def slow_proxy_warning() -> str:
    """What to tell the operator if this replica's cluster runs Serve with its slow proxy; empty if it does not."""
    missing = [f"{name}={value}" for name, value in FAST_PROXY.items() if os.environ.get(name) != value]
    if not missing:
        return ""
    return (
        f"Ray Serve runs with its slow proxy (some 160 requests/s): start the cluster's head with {' '.join(missing)} "
        "in its environment"
    )


def event_ids() -> Callable[[], str]:
    """Identifiers for events made of plain data: a random part of this process, then a number."""
    origin, numbers = secrets.token_hex(8), itertools.count(1)
    return lambda: f"{origin}-{next(numbers)}"
