"""The client's own look at schemas: data that does not fit its topic's schema is refused before it is sent.

Fed from the bootstrap (and its repetitions): subject → newest schema, and the topics' policies.
Topics without a schema cost nothing: a producer asks once per topic and :attr:`SchemaGuard.version`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from fedbus.broker.policies import Policies, TopicRule


class PushedPolicy(msgspec.Struct, frozen=True, array_like=True):
    """A topic policy as it bears on schemas."""

    filter: str
    subject: str | None
    validation: Literal["registered", "schema", "none"]


class PushedSchemas(msgspec.Struct, frozen=True):
    """``schemas`` in the bootstrap. ``newest``: subject → (version, id, schema text)."""

    newest: dict[str, tuple[int, int, str]] = {}
    policies: list[PushedPolicy] = []


class SchemaGuard:
    """Checks what is about to be published; without pushed schemas it takes everything."""

    def __init__(self, pushed: dict[str, Any] | None = None) -> None:
        self.version = 0
        self._pushed = PushedSchemas()
        self._schemas: Any = None  # SubjectSchemas; its validator is loaded when there is a schema
        self._policies = Policies()
        self.replace(pushed or {})

    def replace(self, pushed: dict[str, Any]) -> None:
        """Take over what the bootstrap says now."""
        new = msgspec.convert(pushed, PushedSchemas)
        if new == self._pushed:
            return
        from fedbus.schema.subjects import SubjectPolicy, SubjectSchemas

        self._pushed = new
        self._policies = Policies(
            TopicRule(filter=each.filter, schema_subject=each.subject, validation=each.validation)
            for each in new.policies
        )

        def policy_of(topic: str) -> SubjectPolicy:
            rule = self._policies.rule(topic)
            return SubjectPolicy(rule.schema_subject, rule.validation)

        if self._schemas is None:
            self._schemas = SubjectSchemas(policy_of)
        self._schemas.replace(new.newest)
        self.version += 1

    def concerns(self, topic: str) -> bool:
        """Whether data for this topic has to be checked (raises if a schema is demanded that is not known)."""
        return self._schemas is not None and self._schemas.schema_for(topic) is not None

    def check(self, topic: str, content_type: str | None, payload: bytes | None) -> None:
        """Raise :class:`SchemaMismatchError` if the data does not fit."""
        if self._schemas is not None:
            self._schemas.check(topic, content_type, payload)
