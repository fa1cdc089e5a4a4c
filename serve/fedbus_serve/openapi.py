"""The part of the OpenAPI document that describes the raw routes: publishing and the event stream."""

from __future__ import annotations

from typing import Any

_EVENT = {
    "type": "object",
    "description": "A CloudEvent in the JSON format.",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string"},
        "source": {"type": "string", "format": "uri-reference"},
        "type": {"type": "string"},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"type": "string"},
        "partitionkey": {"type": "string", "description": "Events of one key stay in order."},
        "data": {},
        "data_base64": {"type": "string", "contentEncoding": "base64"},
    },
    "additionalProperties": {"type": ["string", "integer", "boolean"]},
}
_ACCEPTED = {
    "type": "object",
    "required": ["accepted", "ids", "positions"],
    "properties": {
        "accepted": {"type": "integer"},
        "ids": {"type": "array", "items": {"type": "string"}},
        "positions": {"type": "array", "items": {"type": "string"}},
    },
}
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "retryable"],
    "properties": {
        "type": {"type": "string", "description": "A stable code."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "retryable": {"type": "boolean"},
        "errors": {"type": "array", "items": {"type": "object"}, "description": "400, 413, 422 of a batch: per index."},
        "outcomes": {"type": "array", "items": {"type": "object"}, "description": "503 of a batch: per index."},
    },
}


def _refused(meaning: str) -> dict[str, Any]:
    return {"description": meaning, "content": {"application/problem+json": {"schema": _PROBLEM}}}


def _publish(summary: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    bodies = {
        "application/cloudevents+json": {"schema": _EVENT},
        "application/cloudevents-batch+json": {
            "schema": {"type": "array", "items": _EVENT, "description": "CloudEvents; all are valid, or none is taken."}
        },
        "application/x-ndjson": {
            "schema": {"type": "string", "description": "One event per line; a line without specversion is data."}
        },
        "*/*": {"schema": {"description": "Binary mode: the attributes are ce- headers, the body is the data."}},
    }
    responses = {
        "202": {
            "description": "Durable.",
            "headers": {"Fedbus-Instance": {"schema": {"type": "string"}, "description": "Who stored it."}},
            "content": {"application/json": {"schema": _ACCEPTED}},
        },
        "400": _refused("No valid CloudEvent or topic; nothing was published."),
        "404": _refused("No such region."),
        "413": _refused("Event, key, attributes or body too large."),
        "415": _refused("A content type that carries no events."),
        "422": _refused("Data that does not fit the schema of its topic."),
        "429": _refused("Shed; try again after Retry-After."),
        "503": _refused("Not all became durable; try again after Retry-After with the same ids."),
    }
    return {
        "post": {
            "summary": summary,
            "parameters": parameters,
            "requestBody": {"content": bodies},
            "responses": responses,
        }
    }


def _parameter(name: str, where: str, meaning: str, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": where, "required": required, "schema": {"type": "string"}, "description": meaning}


_REGION = _parameter("region", "query", "Publish to or read from this region; default: the gateway's own.")
_IDEMPOTENT = _parameter(
    "idempotent", "query", "true: an event that was sent to several instances because of time-outs is delivered once."
)
_STREAM = {
    "summary": "Receive events live (Server-Sent Events)",
    "parameters": [
        _parameter("filter", "query", "Topic filter, repeatable: orders.*.created, orders.>", required=True),
        _parameter("from", "query", "earliest, latest (default), a time, a position or a cursor."),
        _REGION,
        _parameter("Last-Event-ID", "header", "The id of the last event received: goes on after it."),
    ],
    "responses": {
        "200": {"description": "The stream.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
        "400": _refused("A filter or start that cannot be read."),
        "429": _refused("Too many streams."),
        "503": _refused("No instance can be reached."),
    },
}

DATA_PATHS: dict[str, Any] = {
    "/v1/topics/{topic}/events": _publish(
        "Publish to a topic", [_parameter("topic", "path", "The topic.", required=True), _REGION, _IDEMPOTENT]
    ),
    "/v1/events": _publish("Publish; each event's type is its topic", [_REGION, _IDEMPOTENT]) | {"get": _STREAM},
}
