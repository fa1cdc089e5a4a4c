"""From a federation file and the environment to checked options, or to an error that says where and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fedbus.control.trigger import Trigger
from fedbus.errors import ConfigurationError
from fedbus.limits import Limits
from fedbus.options.environment import keys_of, override, section_of
from fedbus.options.federation import UNKNOWN_KEY, FederationOptions
from fedbus.options.source import Key, Source, parse_yaml
from fedbus.options.trigger import TriggersFile

BUILT_IN = "the built-in federation"
MAX_FILE_BYTES = 4 * 2**20
MAX_REPORTED = 10


def load_federation(path: Path | None, environ: Mapping[str, str]) -> FederationOptions:
    """Options of a federation file (None: the built-in local one) with the environment's overrides.

    Raises ConfigurationError naming file, line, column, key, what was wrong and what to do.
    """
    if path is None:
        values: Any = FederationOptions().model_dump(mode="json")
        source = Source(BUILT_IN)
    else:
        values, source = parse_yaml(_read(path), str(path))
    if not isinstance(values, dict):
        raise source.error(
            (), f"holds a {type(values).__name__}; a federation file is a mapping that starts like `name: local`"
        )
    values = _with_defaults(values)
    override(values, source, environ)
    return _checked(FederationOptions, values, source)


def load_triggers(path: Path) -> tuple[Trigger, ...]:
    """The triggers of a YAML or JSON file: a federation file, one with nothing but ``triggers:``, or the bare list.

    Raises ConfigurationError naming file, line, column, key, what was wrong and what to do.
    """
    values, source = parse_yaml(_read(path), str(path))
    if isinstance(values, list):
        source.places = {("triggers", *key): place for key, place in source.places.items()}
        values = {"triggers": values}
    if not isinstance(values, dict) or "triggers" not in values:
        raise source.error((), "has no triggers; write a list under `triggers:`, each with name, cron and duration …")
    named = {"triggers": values["triggers"]}
    return tuple(each.trigger() for each in _checked(TriggersFile, named, source).triggers)


SectionT = TypeVar("SectionT", bound=BaseModel)


def _checked(model: type[SectionT], values: dict[str, Any], source: Source) -> SectionT:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [_explain(detail, source) for detail in error.errors(include_url=False)]
    more = len(problems) - MAX_REPORTED
    listed = problems[:MAX_REPORTED] + ([f"… and {more} more"] if more > 0 else [])
    raise ConfigurationError("\n".join(listed))


def _with_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """What the file leaves out, written out, so that variables can name regions and places in lists."""
    return FederationOptions().model_dump(mode="json") | values


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ConfigurationError(f"{path}: larger than {MAX_FILE_BYTES} bytes; this is no federation file")
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: there is no such file; name one with -c, or leave it out for {BUILT_IN}"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None


def _explain(detail: ErrorDetails, source: Source) -> str:
    context = detail.get("ctx", {})
    key: Key = tuple(part for part in detail["loc"] if part != "[key]")
    if "key" in context:
        key = (*key, context["key"])
    kind, given = detail["type"], detail["input"]
    if kind == UNKNOWN_KEY:
        problem = f"unknown key{_suggestion(key)}"
    elif kind == "missing":
        problem = "is missing; add it"
    elif kind in ("value_error", "limit", "region_id"):
        problem = detail["msg"].removeprefix("Value error, ")
    else:
        message = detail["msg"].replace("valid dictionary", "mapping").replace("valid tuple", "list")
        shown = repr(given) if isinstance(given, str | int | float | bool | None) else f"a {type(given).__name__}"
        problem = f"{message[:1].lower()}{message[1:]}, found {shown}"
    return source.error(key, problem).detail


def _suggestion(key: Key) -> str:
    """What the writer of an unknown key may have meant."""
    section: Any = FederationOptions
    for part in key[:-1]:
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            break
        field = keys_of(section).get(str(part))
        if field is None:
            continue  # a name of the user's choice: a region, a size, a place in a list
        section = field.annotation if field.annotation is Limits else section_of(field.annotation)
    if isinstance(section, type) and issubclass(section, BaseModel):
        names = list(keys_of(section))
    else:
        names = list(Limits.__struct_fields__)
    near = difflib.get_close_matches(str(key[-1]), names, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(names[:12])}"
