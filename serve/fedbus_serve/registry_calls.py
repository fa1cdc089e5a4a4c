"""The registry's calls as two tables: what each path asks of the state, and which command each writing one is.

Pure but for reading the request's parts; no waiting, no store. Names and shapes are Confluent's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec
from starlette.exceptions import HTTPException

from fedbus.schema.commands import ClearLevel, DeleteSubject, DeleteVersion, Register, Registered, SetLevel
from fedbus.schema.document import JSON, check_schema_type, parse_document
from fedbus.schema.naming import check_subject
from fedbus.schema.refusal import (
    InvalidSchemaError,
    invalid_mode,
    invalid_version,
    mode_not_configured,
    not_permitted,
    subject_not_found,
)
from fedbus.schema.rows import GLOBAL, VersionRow
from fedbus.schema.state import LATEST, RegistryState, SubjectVersion, Which
from fedbus.schema.validation import Validator

ItemT = TypeVar("ItemT")
BodyT = TypeVar("BodyT", bound=msgspec.Struct)
MODE = "READWRITE"
MODES = ("READWRITE", "READONLY", "READONLY_OVERRIDE", "IMPORT", "FORWARD")
_NUMBER_MAX = 2**31 - 1
_DIGITS = re.compile("[0-9]{1,10}")


class SchemaBody(msgspec.Struct):
    """Body of registering, looking up and checking a schema; other fields are ignored."""

    schema: str | None = None
    schema_type: str | None = msgspec.field(default=None, name="schemaType")
    references: list[dict[str, Any]] | None = None
    metadata: dict[str, Any] | None = None
    rule_set: dict[str, Any] | None = msgspec.field(default=None, name="ruleSet")
    id: int | None = None
    version: int | None = None


class LevelBody(msgspec.Struct):
    """Body of setting a compatibility level."""

    compatibility: str | None = None


class ModeBody(msgspec.Struct):
    """Body of setting a mode."""

    mode: str | None = None


class Call(NamedTuple):
    """One request: path parameters (decoded), query parameters, body."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    content: bytes

    @property
    def subject(self) -> str:
        """The subject in the path, checked."""
        return check_subject(self.path["subject"])

    @property
    def version(self) -> int:
        """The version in the path, ``LATEST`` for ``latest`` and ``-1``; 42202 if it is none."""
        text = self.path["version"].strip()
        if text.lower() == "latest" or text == str(LATEST):
            return LATEST
        number = _positive(text)
        if number is None:
            raise invalid_version(text[:40])
        return number

    @property
    def schema_id(self) -> int:
        """The id in the path; what is no number is found nowhere."""
        number = _positive(self.path["id"])
        if number is None:
            raise HTTPException(404, "Not Found: a schema id is a positive 32-bit number")
        return number

    def flag(self, name: str) -> bool:
        """A query parameter that is true or false (absent: false)."""
        return self.query.get(name, "").lower() in ("true", "1")

    @property
    def which(self) -> Which:
        """What ``deleted`` and ``deletedOnly`` ask for."""
        if self.flag("deletedOnly"):
            return Which.DELETED
        return Which.ALL if self.flag("deleted") else Which.LIVING

    def page(self, items: list[ItemT]) -> list[ItemT]:
        """The part that ``offset`` and ``limit`` ask for; a negative limit means all."""
        offset, limit = self._number("offset", 0), self._number("limit", -1)
        rest = items[max(offset, 0) :]
        return rest if limit < 0 else rest[:limit]

    def _number(self, name: str, default: int) -> int:
        text = self.query.get(name, "")
        if not text:
            return default
        try:
            return int(text)
        except ValueError:
            raise HTTPException(400, f"Bad Request: {name} is a whole number, not {text[:40]!r}") from None

    def body(self, shape: type[BodyT]) -> BodyT:
        """The body in its shape; 400 says what is wrong with it."""
        try:
            return msgspec.json.decode(self.content, type=shape)
        except (msgspec.DecodeError, RecursionError) as error:
            raise HTTPException(400, f"Bad Request: the body is not what this call takes: {error}") from error


def _positive(text: str) -> int | None:
    """A number from 1 to 2^31-1 in plain digits, else None."""
    if not _DIGITS.fullmatch(text):
        return None
    return number if 1 <= (number := int(text)) <= _NUMBER_MAX else None


class Read(NamedTuple):
    """A question; ``immutable`` if a known answer stays right for ever."""

    ask: Callable[[RegistryState, Call], Any]
    immutable: bool = False


class Write(NamedTuple):
    """A command and how its result is written; without a command ``answer`` asks the state."""

    command: Callable[[Call], Any] | None
    answer: Callable[[Any, Call], Any]


def _described(found: SubjectVersion) -> dict[str, Any]:
    return {
        "subject": found.subject,
        "version": found.version,
        "id": found.id,
        "schemaType": JSON,
        "schema": found.text,
    }


def _version(state: RegistryState, call: Call) -> SubjectVersion:
    which = Which.ALL if call.flag("deleted") else Which.LIVING
    return state.with_text(state.version(call.subject, call.version, which))


def _referenced_by(state: RegistryState, call: Call) -> list[int]:
    """Always empty: schemas with references are not taken yet."""
    _version(state, call)
    return []


def _versions(state: RegistryState, call: Call) -> list[int]:
    rows = state.versions(call.subject, call.which)
    if not rows:
        raise subject_not_found(call.subject)
    return call.page([row.version for row in rows])


def _all_schemas(state: RegistryState, call: Call) -> list[dict[str, Any]]:
    names = state.subjects(Which.ALL, call.query.get("subjectPrefix", "").removeprefix(":*:"))
    rows = [row for name in names for row in state.versions(name, call.which)]
    if call.flag("latestOnly"):
        rows = list({row.subject: row for row in rows}.values())
    return [_described(state.with_text(row)) for row in call.page(rows)]


def _subjects(state: RegistryState, call: Call) -> list[str]:
    prefix = call.query.get("subjectPrefix", "").removeprefix(":*:")
    return call.page(state.subjects(call.which, prefix))


def _by_id(state: RegistryState, call: Call) -> dict[str, Any]:
    return {"schemaType": JSON, "schema": state.text(call.schema_id)}


def _uses(state: RegistryState, call: Call) -> list[VersionRow]:
    rows = state.uses(call.schema_id, call.which)
    wanted = call.query.get("subject")
    return [row for row in rows if row.subject == wanted] if wanted else rows


def _subject_level(state: RegistryState, call: Call) -> dict[str, str]:
    return {"compatibilityLevel": state.level(call.subject, default_to_global=call.flag("defaultToGlobal"))}


def _subject_mode(_state: RegistryState, call: Call) -> dict[str, str]:
    if not call.flag("defaultToGlobal"):
        raise mode_not_configured(call.subject)
    return {"mode": MODE}


def _schema_body(call: Call) -> SchemaBody:
    body = call.body(SchemaBody)
    if body.references:
        raise InvalidSchemaError("references to other subjects are not supported yet; put their targets under $defs")
    if body.rule_set or body.metadata:
        raise not_permitted("metadata and rule sets are not supported by this registry; leave them out")
    return body


def _register(call: Call) -> Register:
    body = _schema_body(call)
    if (body.id or 0) > 0 or (body.version or 0) > 0:
        raise not_permitted(f"Subject {call.subject} is not in import mode; leave out id and version")
    return Register(call.subject, body.schema_type, body.schema or "")


def _look_up(state: RegistryState, call: Call) -> dict[str, Any]:
    body = _schema_body(call)
    check_schema_type(body.schema_type)
    fingerprint = parse_document(body.schema or "").fingerprint
    which = Which.ALL if call.flag("deleted") else Which.LIVING
    return _described(state.with_text(state.find(call.subject, fingerprint, which)))


def _compatibility(state: RegistryState, call: Call) -> dict[str, Any]:
    """The level is always NONE, under which every valid schema is compatible; with ``verbose`` the answer says so."""
    if "version" in call.path:
        state.version(call.subject, call.version)
    body = _schema_body(call)
    check_schema_type(body.schema_type)
    Validator(parse_document(body.schema or ""))
    said = ["the compatibility level is NONE: the schema is valid, nothing was compared"]
    return {"is_compatible": True, **({"messages": said} if call.flag("verbose") else {})}


def _delete_version(call: Call) -> DeleteVersion:
    return DeleteVersion(call.subject, call.version, call.flag("permanent"))


def _set_level(subject: str, call: Call) -> SetLevel:
    return SetLevel(subject, call.body(LevelBody).compatibility or "")


def _set_mode(_state: RegistryState, call: Call) -> dict[str, str]:
    mode = (call.body(ModeBody).mode or "").upper()
    if mode not in MODES:
        raise invalid_mode(mode[:40])
    if mode != MODE:
        raise not_permitted(f"mode {mode} is not supported: this registry is always {MODE}")
    return {"mode": MODE}


def _registered(result: Registered, _call: Call) -> dict[str, Any]:
    """Old clients read the id only; newer ones take the rest for what was stored."""
    found = result.version
    return {"id": found.id, "version": found.version, "schemaType": JSON, "schema": found.text}


def _level_was(level: str, _call: Call) -> dict[str, str]:
    return {"compatibilityLevel": level}


def _level_now(level: str, _call: Call) -> dict[str, str]:
    return {"compatibility": level}


def _same(result: Any, _call: Call) -> Any:
    return result


_V = "/subjects/{subject}/versions/{version}"

READS: tuple[tuple[str, Read], ...] = (
    ("/", Read(lambda _state, _call: {})),
    ("/contexts", Read(lambda _state, _call: ["."])),
    ("/subjects", Read(_subjects)),
    ("/subjects/{subject}/versions", Read(_versions)),
    (_V, Read(lambda state, call: _described(_version(state, call)))),
    (f"{_V}/schema", Read(lambda state, call: msgspec.Raw(_version(state, call).text.encode()))),
    (f"{_V}/referencedby", Read(_referenced_by)),
    ("/schemas", Read(_all_schemas)),
    ("/schemas/types", Read(lambda _state, _call: [JSON])),
    ("/schemas/ids/{id}", Read(_by_id, immutable=True)),
    ("/schemas/ids/{id}/schema", Read(lambda s, call: msgspec.Raw(s.text(call.schema_id).encode()), immutable=True)),
    ("/schemas/ids/{id}/subjects", Read(lambda s, call: call.page(sorted({r.subject for r in _uses(s, call)})))),
    (
        "/schemas/ids/{id}/versions",
        Read(lambda s, call: call.page([{"subject": r.subject, "version": r.version} for r in _uses(s, call)])),
    ),
    ("/config", Read(lambda state, _call: {"compatibilityLevel": state.level()})),
    ("/config/{subject}", Read(_subject_level)),
    ("/mode", Read(lambda _state, _call: {"mode": MODE})),
    ("/mode/{subject}", Read(_subject_mode)),
)

WRITES: tuple[tuple[str, str, Write], ...] = (
    ("POST", "/subjects/{subject}/versions", Write(_register, _registered)),
    ("POST", "/subjects/{subject}", Write(None, _look_up)),
    ("DELETE", "/subjects/{subject}", Write(lambda call: DeleteSubject(call.subject, call.flag("permanent")), _same)),
    ("DELETE", _V, Write(_delete_version, _same)),
    ("POST", "/compatibility/subjects/{subject}/versions", Write(None, _compatibility)),
    ("POST", "/compatibility/subjects/{subject}/versions/{version}", Write(None, _compatibility)),
    ("PUT", "/config", Write(lambda call: _set_level(GLOBAL, call), _level_now)),
    ("PUT", "/config/{subject}", Write(lambda call: _set_level(call.subject, call), _level_now)),
    ("DELETE", "/config", Write(lambda _call: ClearLevel(GLOBAL), _level_was)),
    ("DELETE", "/config/{subject}", Write(lambda call: ClearLevel(call.subject), _level_was)),
    ("PUT", "/mode", Write(None, _set_mode)),
    ("PUT", "/mode/{subject}", Write(None, _set_mode)),
)
