"""Deploying the gateway: puts the control plane's actors behind it and hands it to Ray Serve."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from threading import Event
from typing import Any

import msgspec
from ray import serve

from fedbus.broker.policies import Policies, TopicRule
from fedbus.clock import SystemClock
from fedbus.errors import FedbusError
from fedbus.options.federation import FederationOptions
from fedbus.schema.registry import Registry
from fedbus.schema.subjects import SubjectPolicy, SubjectSchemas
from fedbus.threads import spawn
from fedbus_serve.asgi import Gateway
from fedbus_serve.control_calls import ControlCalls, ManagedSchemaStore
from fedbus_serve.federation_source import FederationSource, Members
from fedbus_serve.gateway import APPLICATION, build_gateway, event_ids
from fedbus_serve.registry import registry_app
from fedbus_serve.schema_memory import SchemaMemory

POLL_S = 1.0

log = logging.getLogger(__name__)


def deploy_gateway(options: FederationOptions, regions: Sequence[str]) -> None:
    """Start Serve on the address of these regions' gateway (if it does not run yet), and the gateway in it.

    Returns when it runs.
    """
    gateway = options.gateway_of(regions[0])
    serve.start(http_options={"host": gateway.host, "port": gateway.port, "location": "HeadOnly"})
    application = build_gateway(partial(_make, options, tuple(regions)), limits=options.limits)
    serve.run(application, name=APPLICATION, route_prefix=gateway.route_prefix, blocking=False)


def _make(options: FederationOptions, regions: Sequence[str]) -> Gateway:
    """One replica's gateway."""
    managers = ControlCalls(options.name, regions)
    registry = Registry(ManagedSchemaStore(managers, options.schema_home))
    policies = Policies(options.topics.rules(), auto_create=options.topics.auto_create)

    def policy_of(topic: str) -> SubjectPolicy:
        rule = policies.rule(topic)
        return SubjectPolicy(rule.schema_subject, rule.validation)

    schemas = SubjectSchemas(policy_of)
    members = Members(regions, tuple(options.regions))
    followed = Registry(ManagedSchemaStore(managers, options.schema_home))
    memory = SchemaMemory(options.data.root / options.name / regions[0])
    schemas.replace(memory.recall())
    spawn("schema-watch", partial(_every_second, partial(_follow_schemas, followed, schemas, memory)))
    spawn("home-watch", partial(_every_second, partial(_follow_home, managers, members, policies)))
    control = FederationSource(options, managers, members, partial(_pushed, policies, schemas), SystemClock())
    app = registry_app(registry, on_change=schemas.replace)
    return Gateway(control, new_id=event_ids(), registry=app, check_schema=schemas.check, limits=options.limits)


def _pushed(policies: Policies, schemas: SubjectSchemas) -> dict[str, Any]:
    """Schemas and policies for clients (``fedbus.client.schema_guard.PushedSchemas``)."""
    return {
        "newest": {subject: (v.version, v.id, v.text) for subject, v in schemas.newest.items()},
        "policies": [(rule.filter, rule.schema_subject, rule.validation) for rule in policies.rules],
    }


def _every_second(step: Callable[[], None]) -> None:
    pause = Event()
    while True:
        try:
            step()
        except FedbusError as error:
            log.debug("what is known stays as it was: %s", error.detail)
        except Exception:  # the next one may succeed
            log.exception("following the control plane failed")
        pause.wait(POLL_S)


def _follow_schemas(registry: Registry, schemas: SubjectSchemas, memory: SchemaMemory) -> None:
    """Take over what other replicas, regions, or an earlier incarnation have registered."""
    schemas.replace(registry.read().latest())
    memory.keep(schemas.newest)


def _follow_home(managers: ControlCalls, members: Members, policies: Policies) -> None:
    """Take over the regions there are, and the topics' policies, from the first own manager that answers."""
    for region in managers.own:
        try:
            answer = managers.ask_and_wait(region, "query", "topic_rules")
        except FedbusError:
            continue
        rules = msgspec.convert(answer["rules"], list[TopicRule])
        policies.apply(answer["version"], rules, auto_create=answer["auto_create"])
        members.learn(managers.ask_and_wait(region, "peers"))
        return
