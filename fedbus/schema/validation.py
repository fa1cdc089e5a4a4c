"""Validation: whether a document is a JSON Schema, and whether event data fits it.

Assumes a parsed :class:`~fedbus.schema.document.SchemaDocument`. The draft follows ``$schema`` (4, 6, 7, 2019-09,
2020-12; absent means 2020-12). Nothing is ever fetched: ``$ref`` reaches into the same document and the published
meta-schemas, anything else (``http:``, ``file:``) is refused by a retriever of ours, and a schema that needs it is
invalid. The check itself is the ``jsonschema_rs`` library's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice
from typing import Any, NoReturn

import jsonschema_rs
import msgspec

from fedbus.schema.document import SchemaDocument, depth_exceeds, parse_document
from fedbus.schema.limits import DATA_DEPTH, PATTERN_BACKTRACKS, PROBLEM_CHARACTERS, PROBLEMS, VALIDATORS
from fedbus.schema.recursion import check_recursion
from fedbus.schema.refusal import InvalidSchemaError

_PATTERNS = jsonschema_rs.FancyRegexOptions(backtrack_limit=PATTERN_BACKTRACKS)
_DRAFTS = {
    jsonschema_rs.Draft4Validator: "draft-04",
    jsonschema_rs.Draft6Validator: "draft-06",
    jsonschema_rs.Draft7Validator: "draft-07",
    jsonschema_rs.Draft201909Validator: "2019-09",
    jsonschema_rs.Draft202012Validator: "2020-12",
}


class Problem(msgspec.Struct, frozen=True):
    """One way in which data does not fit: where (JSON Pointer into the data, empty for all of it) and what."""

    pointer: str
    message: str

    def __str__(self) -> str:
        return f"{self.pointer or '(root)'}: {self.message}"


class Validator:
    """One compiled schema."""

    __slots__ = ("_compiled", "draft")

    def __init__(self, document: SchemaDocument) -> None:
        """Compile, or raise :class:`InvalidSchemaError` that says where in the schema and why."""
        check_recursion(document.content)
        try:
            self._compiled = jsonschema_rs.validator_for(
                document.content, retriever=_refuse, pattern_options=_PATTERNS, ignore_unknown_formats=True
            )
        except jsonschema_rs.ValidationError as error:
            raise _invalid(error) from error
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            raise InvalidSchemaError(_short(str(error))) from error
        self.draft = _DRAFTS.get(type(self._compiled), "unknown")

    def _problems(self, data: Any) -> list[Problem]:
        if self._compiled.is_valid(data):  # the common case, several times cheaper than collecting errors
            return []
        errors = islice(self._compiled.iter_errors(data), PROBLEMS)
        return [Problem(pointer(error.instance_path), _short(error.message)) for error in errors]

    def problems(self, data: bytes | None) -> list[Problem]:
        """What is wrong with this encoded JSON, at most ``PROBLEMS`` entries; empty when it fits.

        Data that is missing, no JSON or nested deeper than ``DATA_DEPTH`` is one problem.
        """
        if not data:
            return [Problem("", "there is no data")]
        try:
            value = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError) as error:
            return [Problem("", f"not JSON: {_short(str(error))}")]
        # Counting bytes is a hundred times cheaper than walking the value, and settles it for most events.
        if data.count(b"[") + data.count(b"{") > DATA_DEPTH and depth_exceeds(value, DATA_DEPTH):
            return [Problem("", f"nested deeper than {DATA_DEPTH} levels")]
        return self._problems(value)


class Validators:
    """Compiled validators by schema id, bounded: beyond ``capacity`` the least recently used is dropped.

    An id names one text for ever, so an entry never goes stale. Not shared between threads.
    """

    def __init__(self, capacity: int = VALIDATORS) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[int, Validator] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, schema_id: int, text: str) -> Validator:
        """The validator of this id, compiled from its text on first use, or :class:`InvalidSchemaError`."""
        found = self._kept.get(schema_id)
        if found is not None:
            self._kept.move_to_end(schema_id)
            return found
        made = Validator(parse_document(text))
        self._kept[schema_id] = made
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return made


def pointer(path: Iterable[str | int]) -> str:
    """A path of keys and indexes as JSON Pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def _refuse(uri: str) -> NoReturn:
    message = f"{uri} is outside this document and is never fetched; put it under $defs and refer to it by #/$defs/…"
    raise LookupError(message)


def _invalid(error: jsonschema_rs.ValidationError) -> InvalidSchemaError:
    return InvalidSchemaError(_short(error.message), pointer=pointer(error.instance_path))


def _short(text: str) -> str:
    return text if len(text) <= PROBLEM_CHARACTERS else text[: PROBLEM_CHARACTERS - 1] + "…"
