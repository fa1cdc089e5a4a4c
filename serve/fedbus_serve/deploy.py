"""Deploying the gateway: puts the control plane's actors behind it and hands it to Ray Serve."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from threading import Event
from typing import Any, cast

import msgspec
import ray
from ray import serve

from fedbus.broker.policies import Policies, TopicRule
from fedbus.client.bootstrap import Bootstrap, bootstrap_from
from fedbus.errors import FedbusError, UnavailableError
from fedbus.options.federation import FederationOptions
from fedbus.schema.registry import Registry
from fedbus.schema.rows import Change, Snapshot
from fedbus.schema.subjects import SubjectPolicy, SubjectSchemas
from fedbus.threads import spawn
from fedbus_actors import remote
from fedbus_serve.asgi import Gateway
from fedbus_serve.control_cache import Network, Resource
from fedbus_serve.gateway import APPLICATION, build_gateway, event_ids
from fedbus_serve.registry import registry_app

ASK_S = 3.0
SCHEMA_POLL_S = 1.0

log = logging.getLogger(__name__)


class ManagedFederation:
    """The control plane through the managers' actors (implements ``control_cache.ControlSource``)."""

    def __init__(self, federation: str, regions: Sequence[str], schemas: Callable[[], dict[str, Any]]) -> None:
        self._federation = federation
        self._regions = tuple(regions)
        self._schemas = schemas

    def regions(self) -> Sequence[str]:
        """In the order of the federation file; the first is the gateway's home."""
        return self._regions

    async def bootstrap(self, network: Network) -> Bootstrap:
        """From the first region whose manager answers."""
        failure: FedbusError = UnavailableError("no manager answers", retry_after_ms=1000)
        for region in self._regions:
            try:
                return bootstrap_from(await self._ask(region, "bootstrap") | {"schemas": self._schemas()})
            except FedbusError as error:
                failure = error
        raise failure

    async def read(self, resource: Resource, region: str) -> Sequence[Any]:
        """One region's part of a resource."""
        return cast("Sequence[Any]", await self._ask(region, "read", resource))

    async def change(self, region: str, change: str, name: str, value: Any = None) -> dict[str, Any]:
        """An operator's change, at one region's manager."""
        return cast("dict[str, Any]", await self._ask(region, "change", change, name, value))

    async def query(self, region: str, query: str, asked: Any = None) -> Any:
        """A question that needs an answer of the moment."""
        return await self._ask(region, "query", query, asked)

    async def _ask(self, region: str, method: str, *arguments: Any) -> Any:
        handle = remote.find(remote.manager_name(self._federation, region))
        if handle is None:
            raise UnavailableError(
                f"the manager of region {region} is away; it restarts by itself", retry_after_ms=1000
            )
        return await remote.answer(getattr(handle, method).remote(*arguments), f"manager of region {region}", ASK_S)


class ManagedSchemaStore:
    """The registry's rows in its home region's store (implements ``fedbus.schema.store.SchemaStore``)."""

    def __init__(self, federation: str, region: str) -> None:
        self._name = remote.manager_name(federation, region)
        self._region = region

    def revision(self) -> int:
        """See :class:`fedbus.schema.store.SchemaStore`."""
        return int(self._ask("revision"))

    def load(self, after_schema_id: int) -> Snapshot:
        """See :class:`fedbus.schema.store.SchemaStore`."""
        return cast("Snapshot", self._ask("load", after_schema_id))

    def commit(self, expected_revision: int, change: Change) -> bool:
        """See :class:`fedbus.schema.store.SchemaStore`."""
        return bool(self._ask("commit", expected_revision, change))

    def _ask(self, call: str, *arguments: Any) -> Any:
        handle = remote.find(self._name)
        answer: Any = None
        if handle is not None:
            answer = remote.ask({0: partial(handle.schemas.remote, call, *arguments)}, ASK_S)[0]
        if isinstance(answer, ray.exceptions.RayTaskError) and isinstance(answer.cause, FedbusError):
            raise answer.cause
        if handle is None or isinstance(answer, Exception):
            log.warning("schema store of %s: %s failed: %r", self._region, call, answer)
            raise UnavailableError(
                f"the schema registry's home, region {self._region}, does not answer; schemas known here still work",
                retry_after_ms=1000,
            )
        return answer


def deploy_gateway(options: FederationOptions) -> None:
    """Start Serve on the gateway's address (if it does not run yet) and the gateway in it; returns when it runs."""
    gateway = options.gateway
    serve.start(http_options={"host": gateway.host, "port": gateway.port, "location": "HeadOnly"})
    application = build_gateway(partial(_make, options), limits=options.limits)
    serve.run(application, name=APPLICATION, route_prefix=gateway.route_prefix, blocking=False)


def _make(options: FederationOptions) -> Gateway:
    """One replica's gateway."""
    regions = list(options.regions)
    registry = Registry(ManagedSchemaStore(options.name, regions[0]))

    policies = Policies(options.topics.rules(), auto_create=options.topics.auto_create)

    def policy_of(topic: str) -> SubjectPolicy:
        rule = policies.rule(topic)
        return SubjectPolicy(rule.schema_subject, rule.validation)

    schemas = SubjectSchemas(policy_of)
    followed = Registry(ManagedSchemaStore(options.name, regions[0]))
    spawn("schema-watch", partial(_follow, followed, schemas, remote.manager_name(options.name, regions[0]), policies))
    control = ManagedFederation(options.name, regions, partial(_pushed, policies, schemas))
    app = registry_app(registry, on_change=schemas.replace)
    return Gateway(control, new_id=event_ids(), registry=app, check_schema=schemas.check, limits=options.limits)


def _pushed(policies: Policies, schemas: SubjectSchemas) -> dict[str, Any]:
    """Schemas and policies for clients (``fedbus.client.schema_guard.PushedSchemas``)."""
    return {
        "newest": {subject: (v.version, v.id, v.text) for subject, v in schemas.newest.items()},
        "policies": [(rule.filter, rule.schema_subject, rule.validation) for rule in policies.rules],
    }


def _follow(registry: Registry, schemas: SubjectSchemas, manager: str, policies: Policies) -> None:
    """Take over what other replicas (or an earlier incarnation) have registered, and the topics' policies."""
    pause = Event()
    while True:
        try:
            schemas.replace(registry.read().latest())
        except FedbusError as error:
            log.debug("schemas are as they were: %s", error.detail)
        handle = remote.find(manager)
        answer = remote.ask({0: partial(handle.query.remote, "topic_rules")}, ASK_S)[0] if handle is not None else None
        if isinstance(answer, dict):
            rules = msgspec.convert(answer["rules"], list[TopicRule])
            policies.apply(answer["version"], rules, auto_create=answer["auto_create"])
        pause.wait(SCHEMA_POLL_S)
