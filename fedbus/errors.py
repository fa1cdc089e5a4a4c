"""Every error fedbus raises or answers with, as types.

Each error has a stable ``code`` (the same word on the data socket, in ``application/problem+json`` and in Python), says
whose fault it is (``culprit``) and whether trying again can help (``retryable``). ``detail`` is written for the person
who reads it: what was wrong, where, and what to do.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Culprit = Literal["caller", "peer", "environment", "fedbus"]


class FedbusError(Exception):
    """Base of all errors; ``str(error)`` is the detail."""

    code: ClassVar[str] = "internal"
    culprit: ClassVar[Culprit] = "fedbus"
    retryable: ClassVar[bool] = False
    http_status: ClassVar[int] = 500

    def __init__(self, detail: str, *, retry_after_ms: int = 0) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_ms = retry_after_ms


class InvalidTopicError(FedbusError):
    """A topic or filter that breaks the naming rules."""

    code = "invalid_topic"
    culprit = "caller"
    http_status = 400


class InvalidEventError(FedbusError):
    """An event that is no CloudEvents 1.0 event, or cannot be encoded."""

    code = "invalid_event"
    culprit = "caller"
    http_status = 400


class InvalidPositionError(FedbusError):
    """A position, cursor or start that cannot be read."""

    code = "invalid_position"
    culprit = "caller"
    http_status = 400


class TooLargeError(FedbusError):
    """An event, batch, key, attribute set or body beyond its limit."""

    code = "too_large"
    culprit = "caller"
    http_status = 413


class SchemaMismatchError(FedbusError):
    """Event data that does not fit the schema of its topic."""

    code = "schema_mismatch"
    culprit = "caller"
    http_status = 422


class ConfigurationError(FedbusError):
    """A federation file, option or environment variable that is wrong."""

    code = "configuration"
    culprit = "caller"
    http_status = 400


class NotFoundError(FedbusError):
    """The named region, instance, subscription, subject or other resource does not exist."""

    code = "not_found"
    culprit = "caller"
    http_status = 404


class ConflictError(FedbusError):
    """The request contradicts what is already there (another filter for a group, a lost compare-and-swap)."""

    code = "conflict"
    culprit = "caller"
    http_status = 409


class SequenceError(FedbusError):
    """A producer sequence below the dedup window: whether the batch was stored can no longer be told."""

    code = "sequence_below_window"
    culprit = "caller"
    http_status = 409


class RejectedTryError(FedbusError):
    """A late try of a batch of which a later try was stored elsewhere: nothing of this one is stored."""

    code = "rejected_try"
    culprit = "caller"
    http_status = 409


class ProtocolError(FedbusError):
    """Bytes on the data socket that are no message of a protocol version both sides speak."""

    code = "protocol"
    culprit = "peer"
    http_status = 400


class UnknownSessionError(FedbusError):
    """The instance does not know this connection (it restarted, or the session expired): say hello again."""

    code = "unknown_session"
    culprit = "environment"
    retryable = True
    http_status = 503


class WrongOwnerError(FedbusError):
    """The key slot belongs to another instance in the table this instance holds: refresh the table, send there."""

    code = "wrong_owner"
    culprit = "environment"
    retryable = True
    http_status = 503


class GroupElsewhereError(FedbusError):
    """The group is at home in another region: subscribe there (clients do so by themselves)."""

    code = "group_elsewhere"
    culprit = "caller"
    retryable = True
    http_status = 421

    def __init__(self, detail: str, *, retry_after_ms: int = 0, region: str = "") -> None:
        super().__init__(detail, retry_after_ms=retry_after_ms)
        self.region = region


class PinnedTopicError(FedbusError):
    """The topic is stored in some regions alone, and this is none of them (clients publish there by themselves)."""

    code = "pinned"
    culprit = "caller"
    http_status = 421


class OverloadedError(FedbusError):
    """A bounded queue is full; nothing was stored. Try again after ``retry_after_ms``."""

    code = "overloaded"
    culprit = "environment"
    retryable = True
    http_status = 429


class DrainingError(FedbusError):
    """The instance is being scaled in and takes no new batches; others do."""

    code = "draining"
    culprit = "environment"
    retryable = True
    http_status = 503


class UnavailableError(FedbusError):
    """Nothing healthy could take the request in time; whether it was stored is unknown unless the detail says so."""

    code = "unavailable"
    culprit = "environment"
    retryable = True
    http_status = 503


class StorageError(FedbusError):
    """The disk refused (full, I/O error, not writable)."""

    code = "storage"
    culprit = "environment"
    retryable = True
    http_status = 503


class UnderReplicatedError(FedbusError):
    """The ledger has lost copies and waits for others: batches would be acknowledged only once it has them."""

    code = "under_replicated"
    culprit = "environment"
    retryable = True
    http_status = 503


class DamagedRecordError(StorageError):
    """A stored record fails its checksum and is not the torn tail of a crash."""

    code = "damaged_record"
    retryable = False


class EnvironmentUnusableError(FedbusError):
    """A port in use, a directory that cannot be written, a missing extra: the machine, not the request."""

    code = "environment"
    culprit = "environment"


class ClosedError(FedbusError):
    """The bus, producer or subscription was closed."""

    code = "closed"
    culprit = "caller"


def error_types() -> dict[str, type[FedbusError]]:
    """All error types by code (what a refusal on the wire is turned back into)."""
    found: dict[str, type[FedbusError]] = {}
    unvisited: list[type[FedbusError]] = [FedbusError]
    while unvisited:
        kind = unvisited.pop()
        found.setdefault(kind.code, kind)
        unvisited.extend(kind.__subclasses__())
    return found


def from_code(code: str, detail: str, *, retry_after_ms: int = 0) -> FedbusError:
    """The typed error for a code received from elsewhere; an unknown code becomes a plain :class:`FedbusError`."""
    return error_types().get(code, FedbusError)(detail, retry_after_ms=retry_after_ms)
