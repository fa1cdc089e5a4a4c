"""The newest schema of each subject, as gateways and clients hold it, and the check of an event against it.

Fed by pushes (:meth:`SubjectSchemas.replace`); asks nobody itself, so publishing goes on while the registry is away. A
topic whose subject has no schema is not validated, unless its policy demands validation: then it fails closed, because
somebody wanted a check that cannot be made. Gateway and client use the same class, so an event is judged alike on both
ways in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from fedbus.errors import SchemaMismatchError, UnavailableError
from fedbus.event import is_json
from fedbus.schema.naming import default_subject
from fedbus.schema.refusal import InvalidSchemaError
from fedbus.schema.state import SubjectVersion
from fedbus.schema.validation import Problem, Validators


class EventMismatchError(SchemaMismatchError):
    """Event data that does not fit; ``problems`` lists where and why, ``subject`` and ``version`` say against what."""

    def __init__(self, topic: str, schema: SubjectVersion, problems: list[Problem]) -> None:
        listed = "; ".join(str(problem) for problem in problems)
        super().__init__(
            f"data for topic {topic} does not fit subject {schema.subject} version {schema.version} "
            f"(schema id {schema.id}): {listed}"
        )
        self.subject = schema.subject
        self.version = schema.version
        self.schema_id = schema.id
        self.problems = tuple(problems)


class SubjectPolicy(NamedTuple):
    """What a topic's policy says: the subject (``None``: ``{topic}-value``), and when data has to fit it.

    ``registered``: as soon as the subject has a schema. ``schema``: always; without a schema nothing can be published.
    ``none``: never.
    """

    subject: str | None = None
    validation: Literal["registered", "schema", "none"] = "registered"


class SubjectSchemas:
    """Subject → newest schema, and validators compiled on first use. ``policy_of`` answers for any topic."""

    def __init__(self, policy_of: Callable[[str], SubjectPolicy] | None = None) -> None:
        self._policy_of = policy_of or _default_policy
        self._newest: dict[str, SubjectVersion] = {}
        self._validators = Validators()

    def replace(self, newest: Mapping[str, tuple[int, int, str] | SubjectVersion]) -> None:
        """Take over what was pushed: subject → (version, id, schema text), all subjects there are."""
        self._newest = {
            subject: value if isinstance(value, SubjectVersion) else SubjectVersion(subject, *value)
            for subject, value in newest.items()
        }

    @property
    def newest(self) -> Mapping[str, SubjectVersion]:
        """What was pushed last: subject → its newest schema."""
        return self._newest

    def schema_for(self, topic: str) -> SubjectVersion | None:
        """What the topic's data has to fit, ``None`` if anything goes.

        Raises :class:`UnavailableError` (retryable) if the topic's policy demands a schema that is not known here.
        """
        policy = self._policy_of(topic)
        if policy.validation == "none":
            return None
        subject = policy.subject or default_subject(topic)
        found = self._newest.get(subject)
        if found is None and policy.validation == "schema":
            raise UnavailableError(
                f"topic {topic} has to fit subject {subject}, whose schema is not known here; nothing was stored. "
                "Register the subject, or change the topic's policy"
            )
        return found

    def check(self, topic: str, datacontenttype: str | None, data: bytes | None) -> None:
        """Return if the data may be published to the topic; :class:`EventMismatchError` says what is wrong with it.

        Without a content type the data is taken for JSON, because that is what the schema describes.
        """
        schema = self.schema_for(topic)
        if schema is None:
            return
        if datacontenttype is not None and not is_json(datacontenttype):  # absent: the schema says it is JSON
            problem = Problem("", f"the content type is {datacontenttype!r}, and the schema is a JSON Schema")
            raise EventMismatchError(topic, schema, [problem])
        try:
            validator = self._validators.get(schema.id, schema.text)
        except InvalidSchemaError as error:  # the registry took it, this side's older validator does not
            problem = Problem("", f"the schema cannot be used here, upgrade this side: {error.detail}")
            raise EventMismatchError(topic, schema, [problem]) from error
        problems = validator.problems(data)
        if problems:
            raise EventMismatchError(topic, schema, problems)


def _default_policy(_topic: str) -> SubjectPolicy:
    return SubjectPolicy()
