"""Publishing: from a request's body to the answer of the bus. The gateway's hot path: no framework, little per event.

An event is answered for when it is durable. Validation, schema included, is all or nothing and comes before anything is
sent; storage is per owner (rule 12): either everything is durable (202) or each index gets its own outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs

from fedbus.clock import Clock
from fedbus.errors import FedbusError, SchemaMismatchError, TooLargeError, UnavailableError
from fedbus.limits import Limits
from fedbus_serve.admission import Admission, Admitted
from fedbus_serve.answer import Answer, Header, Receive, Scope, json_answer
from fedbus_serve.buses import Buses, Receipt
from fedbus_serve.cloudevents_http import Addressed, EventReader
from fedbus_serve.metrics import GatewayMetrics
from fedbus_serve.problems import ERRORS_LISTED, BatchRefusedError, IndexedError, problem

SchemaCheck = Callable[[str, str | None, bytes | None], None]
"""(topic, content type, data) → nothing, or raises what is wrong: ``fedbus.schema.subjects.SubjectSchemas.check``."""

_ACCEPTED = 202


class ClientGoneError(Exception):
    """The client went away before its request was complete; there is nobody to answer."""


class PartlyStoredError(UnavailableError):
    """Some events are durable, others are not: sending all of them again with the same ids is safe."""

    code = "partly_stored"


class Publisher:
    """Answers publish requests."""

    def __init__(
        self, buses: Buses, reader: EventReader, admission: Admission, metrics: GatewayMetrics, *, limits: Limits,
        clock: Clock, check_schema: SchemaCheck | None = None,
    ) -> None:  # fmt: skip
        self._buses = buses
        self._reader = reader
        self._admission = admission
        self._metrics = metrics
        self._limits = limits
        self._clock = clock
        self._check_schema = check_schema

    async def answer(self, scope: Scope, receive: Receive, topic: str | None, region: str, path: str) -> Answer:
        """The answer to one request; raises :class:`FedbusError`, or :class:`ClientGoneError`."""
        started_ns = self._clock.monotonic_ns()
        with self._admission.request() as admitted:
            body = await self._body(scope["headers"], receive, admitted)
            events = self._reader.read(scope["headers"], body, topic, self._clock.now_ns())
            if self._check_schema is not None:
                self._check(events, self._check_schema)
            bus = self._buses.known(region) or await self._buses.get(region)
            outcomes = await bus.publish_events(events, idempotent=_wants_idempotent(scope)) if events else ()
        failed = sum(isinstance(outcome, FedbusError) for outcome in outcomes)
        self._metrics.published(len(outcomes) - failed, failed, self._clock.monotonic_ns() - started_ns)
        return _refusal(events, outcomes, path) if failed else _accepted(outcomes)

    async def _body(self, headers: Sequence[Header], receive: Receive, admitted: Admitted) -> bytes:
        limit = self._limits.http_body_bytes
        for name, value in headers:
            # Answered before the body is read: nobody has to send eight megabytes to learn that it was too much.
            if name == b"content-length" and value.isdigit() and int(value) > limit:
                raise _body_too_large(int(value), limit)
        message = await receive()
        body: bytes = message.get("body", b"")
        if message["type"] == "http.request" and not message.get("more_body") and len(body) <= limit:
            admitted.take_bytes(len(body))
            return body
        parts, size_bytes = [], 0
        while True:
            if message["type"] != "http.request":
                raise ClientGoneError
            part = message.get("body", b"")
            size_bytes += len(part)
            if size_bytes > limit:
                raise _body_too_large(size_bytes, limit)
            admitted.take_bytes(len(part))
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)
            message = await receive()

    @staticmethod
    def _check(events: list[Addressed], check: SchemaCheck) -> None:
        errors: list[IndexedError] = []
        for place, (topic, event) in enumerate(events):
            try:
                check(topic, event.datacontenttype, event.payload)
            except SchemaMismatchError as error:
                if len(events) == 1:
                    raise
                errors.append(IndexedError(place, error))
                if len(errors) == ERRORS_LISTED:
                    raise BatchRefusedError(errors, more=True) from None
        if errors:
            raise BatchRefusedError(errors)


def _wants_idempotent(scope: Scope) -> bool:
    """Whether the request asks for exactly one counted copy across instances (``?idempotent=true``, or the header)."""
    query = scope["query_string"]
    if query and b"idempotent" in query:
        return bool(parse_qs(query.decode("latin-1")).get("idempotent", [""])[-1] in ("true", "1"))
    return any(name == b"fedbus-idempotent" and value in (b"true", b"1") for name, value in scope["headers"])


def _accepted(outcomes: Sequence[Any]) -> Answer:
    body = {
        "accepted": len(outcomes),
        "ids": [receipt.id for receipt in outcomes],
        "positions": [str(receipt.position) for receipt in outcomes],
    }
    return json_answer(_ACCEPTED, body, _instances(outcomes))


def _instances(outcomes: Sequence[Any]) -> tuple[Header, ...]:
    """The header that says which instances took the events."""
    if len(outcomes) == 1:
        return ((b"fedbus-instance", outcomes[0].instance.encode()),)
    names = dict.fromkeys(outcome.instance for outcome in outcomes if not isinstance(outcome, FedbusError))
    return ((b"fedbus-instance", ",".join(names).encode()),) if names else ()


def _refusal(events: list[Addressed], outcomes: Sequence[Receipt | FedbusError], path: str) -> Answer:
    """An outcome per index, under the error they share, or under "partly stored"."""
    errors = [outcome for outcome in outcomes if isinstance(outcome, FedbusError)]
    if len(events) == 1:
        return problem(errors[0], path)
    if len(errors) == len(outcomes) and len({type(error) for error in errors}) == 1:
        error = errors[0]
    else:
        error = PartlyStoredError(
            f"{len(outcomes) - len(errors)} of {len(outcomes)} events are durable, the others not (see outcomes); "
            f"send the batch again with the same ids. The first failure: {errors[0].detail}",
            retry_after_ms=max(error.retry_after_ms for error in errors),
        )
    headers = _instances(outcomes) if len(errors) < len(outcomes) else ()
    return problem(error, path, headers=headers, outcomes=_listed(events, outcomes))


def _listed(events: list[Addressed], outcomes: Sequence[Receipt | FedbusError]) -> list[dict[str, Any]]:
    """What became of each event; a reason that many share is told once, at the first of them."""
    listed: list[dict[str, Any]] = []
    told: set[str] = set()
    for place, ((_, event), outcome) in enumerate(zip(events, outcomes, strict=True)):
        found: dict[str, Any] = {"index": place, "id": event.id}
        if isinstance(outcome, FedbusError):
            found |= {"status": "failed", "code": outcome.code, "retryable": outcome.retryable}
            if outcome.detail not in told:
                found["detail"] = outcome.detail
                told.add(outcome.detail)
        else:
            found |= {"status": "durable", "position": str(outcome.position)}
        listed.append(found)
    return listed


def _body_too_large(size_bytes: int, limit: int) -> TooLargeError:
    return TooLargeError(f"a body of {size_bytes} bytes or more, at most {limit}: send it as several batches")
