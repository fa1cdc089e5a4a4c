"""Problems: every error of the gateway as ``application/problem+json`` (RFC 9457).

``type`` is the stable code of :mod:`fedbus.errors` (a relative reference, the same word as on the data socket), and
``retryable`` says whether sending the same request again can help. An exception that is not one of ours is logged here
and answered without its text: what it says may be nobody else's business. The registry answers in Confluent's shape.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from fedbus.errors import FedbusError, InvalidEventError
from fedbus_serve.answer import Answer, Header

PROBLEM_JSON = b"application/problem+json"
ERRORS_LISTED = 100  # a body of 8 MiB can hold a million broken events; nobody reads more than these
DEFAULT_RETRY_AFTER_MS = 1000

log = logging.getLogger(__name__)
_encode_json = msgspec.json.Encoder().encode
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class UnsupportedMediaTypeError(FedbusError):
    """A content type, charset or content encoding that publishing does not take."""

    code = "unsupported_media_type"
    culprit = "caller"
    http_status = 415


class MethodNotAllowedError(FedbusError):
    """A method this path does not answer."""

    code = "method_not_allowed"
    culprit = "caller"
    http_status = 405


class IndexedError(NamedTuple):
    """What is wrong with the event at ``place`` (its index, from 0) of a batch."""

    place: int
    error: FedbusError


class BatchRefusedError(InvalidEventError):
    """A batch with invalid events: nothing of it was published. ``kind`` is what they all are, if they agree."""

    def __init__(self, errors: Sequence[IndexedError], *, more: bool = False) -> None:
        self.errors = list(errors)
        kinds = {type(found.error) for found in self.errors}
        self.kind: type[FedbusError] = kinds.pop() if len(kinds) == 1 else InvalidEventError
        count = f"{len(self.errors)} or more" if more else str(len(self.errors))
        first = self.errors[0]
        super().__init__(
            f"{count} of the events are invalid and nothing was published; the first is index {first.place}: "
            f"{first.error.detail}. Correct or leave out those listed under errors and send the batch again"
        )


def title_of(kind: type[FedbusError]) -> str:
    """``InvalidEventError`` → ``Invalid event``."""
    return _WORDS.sub(" ", kind.__name__.removesuffix("Error")).capitalize() or "Internal"


def retry_after(error: FedbusError, status: int) -> tuple[Header, ...]:
    """The Retry-After header (whole seconds, rounded up) of answers after which a retry can help."""
    wait_ms = error.retry_after_ms or (DEFAULT_RETRY_AFTER_MS if error.retryable and status in (429, 503) else 0)
    return ((b"retry-after", b"%d" % -(-wait_ms // 1000)),) if wait_ms else ()


def problem(error: FedbusError, instance: str, *, headers: tuple[Header, ...] = (), **members: Any) -> Answer:
    """The answer for an error; ``instance`` is the request's path, ``members`` are added to the body."""
    kind: type[FedbusError] = type(error)
    if isinstance(error, BatchRefusedError):
        kind = error.kind
        members["errors"] = [describe(found.error) | {"index": found.place} for found in error.errors]
    body = {
        "type": kind.code,
        "title": title_of(kind),
        "status": kind.http_status,
        "detail": error.detail,
        "instance": instance,
        "retryable": kind.retryable,
        **members,
    }
    answered = (*headers, *retry_after(error, kind.http_status))
    return Answer(kind.http_status, PROBLEM_JSON, _encode_json(body), answered)


def describe(error: FedbusError) -> dict[str, Any]:
    """An error as a member of an answer that lists several."""
    return {"code": error.code, "detail": error.detail, "retryable": error.retryable}


def unexpected(error: BaseException, instance: str) -> Answer:
    """The answer for a bug of ours; the log has the rest."""
    log.error("%s failed", instance, exc_info=error)
    return problem(FedbusError("The gateway failed on this request; its log says why"), instance)
