"""A schema document: the text of a JSON Schema, parsed, bounded and reduced to a canonical form.

Two texts that differ only in white space, key order or escapes are one schema and share one id; the first text
registered is the one given back. Numbers keep their spelling's type (``1`` and ``1.0`` differ). Whether the document is
a *valid* schema is left to ``validation.py``.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, NoReturn

import msgspec

from fedbus.schema.limits import SCHEMA_BYTES, SCHEMA_DEPTH
from fedbus.schema.refusal import InvalidSchemaError, schema_too_large

JSON = "JSON"
_LATER = ("AVRO", "PROTOBUF")


class SchemaDocument(msgspec.Struct, frozen=True):
    """A parsed schema text. ``fingerprint`` is the SHA-256 of the canonical form, in hexadecimal."""

    text: str
    content: Any  # dict or bool; a JSON value
    fingerprint: str


def parse_document(text: str) -> SchemaDocument:
    """Parse a schema text.

    Raises :class:`InvalidSchemaError` (not JSON, a key twice, nested too deep, neither object nor boolean) and a
    ``RegistryError`` 42209 when the text is longer than ``SCHEMA_BYTES``.
    """
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidSchemaError("the text contains half of a surrogate pair, which is no character") from error
    if size_bytes > SCHEMA_BYTES:
        raise schema_too_large(size_bytes, SCHEMA_BYTES)
    if not text.strip():
        raise InvalidSchemaError('the schema is empty; send {"schema": "…", "schemaType": "JSON"}')
    try:
        content = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        reason = f"not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        raise InvalidSchemaError(reason) from error
    except RecursionError as error:
        raise InvalidSchemaError(f"nested deeper than {SCHEMA_DEPTH} levels") from error
    except UnicodeEncodeError as error:
        raise InvalidSchemaError("an escape names half of a surrogate pair, which is no character") from error
    except ValueError as error:  # an integer with thousands of digits
        raise InvalidSchemaError(f"not JSON: {error}") from error
    if not isinstance(content, dict | bool):
        raise InvalidSchemaError("a JSON Schema is an object or a boolean")
    if depth_exceeds(content, SCHEMA_DEPTH):
        raise InvalidSchemaError(f"nested deeper than {SCHEMA_DEPTH} levels")
    return SchemaDocument(text, content, hashlib.sha256(canonical).hexdigest())


def check_schema_type(schema_type: str | None) -> None:
    """Raise :class:`InvalidSchemaError` unless this is ``JSON``. Absent means AVRO in this API, so it is refused."""
    if schema_type == JSON:
        return
    if schema_type is None:
        raise InvalidSchemaError('schemaType is missing, which means AVRO in this API; set "schemaType": "JSON"')
    if schema_type in _LATER:
        raise InvalidSchemaError(f"schema type {schema_type} is not supported yet; this registry takes JSON")
    raise InvalidSchemaError(f"unknown schema type {schema_type[:40]!r}; this registry takes JSON")


def depth_exceeds(value: Any, limit: int) -> bool:
    """Whether a JSON value nests deeper than ``limit`` arrays and objects; walks by levels, never recurses."""
    level = [value]
    for _ in range(limit + 1):
        containers = [item for item in level if isinstance(item, dict | list)]
        if not containers:
            return False
        level = [below for item in containers for below in (item.values() if isinstance(item, dict) else item)]
    return True


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:  # readers disagree on which one counts, so the schema would mean different things
            raise InvalidSchemaError(f"the key {name[:80]!r} stands twice in one object")
        found[name] = value
    return found


def _no_constant(word: str) -> NoReturn:
    raise InvalidSchemaError(f"{word} is not JSON")
