"""Environment variables that override scalars: ``FEDBUS_GATEWAY__PORT=9000`` sets ``gateway.port``.

Two underscores separate keys; a region's id is written in capitals with underscores for everything else
(``FEDBUS_REGIONS__AWS_US_EAST_1__INSTANCES__MAX``); places in a list are numbers. The environment is read once, by the
program's entry, and passed in.
"""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fedbus.errors import ConfigurationError
from fedbus.limits import Limits
from fedbus.options.federation import FederationOptions
from fedbus.options.source import Key, Source

PREFIX = "FEDBUS_"
# Variables of ours that are no options: the client's address and secrets, the CLI's context, where tests run.
RESERVED = frozenset(
    {"FEDBUS_URL", "FEDBUS_TOKEN", "FEDBUS_CONTEXT", "FEDBUS_CONFIG", "FEDBUS_CI", "FEDBUS_DATA", "FEDBUS_LOG"}
)


def variable_name(part: str) -> str:
    """A key as it is written in a variable: ``aws.us-east-1`` → ``AWS_US_EAST_1``."""
    return re.sub(r"[^A-Z0-9]", "_", part.upper())


def keys_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a section by the key under which they are written."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, by key, in a list, or itself."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := section_of(part)) is not None), None)


def option_paths(model: type[BaseModel] = FederationOptions, before: str = "") -> list[str]:
    """All scalar options reachable without naming a region or a place in a list, as variables without the prefix."""
    paths: list[str] = []
    for key, field in keys_of(model).items():
        path = before + variable_name(key)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            paths += option_paths(field.annotation, path + "__")
        elif field.annotation is Limits:
            paths += [f"{path}__{variable_name(name)}" for name in Limits.__struct_fields__]
        elif section_of(field.annotation) is None:
            paths.append(path)
    return paths


def override(values: dict[str, Any], source: Source, environ: Mapping[str, str]) -> None:
    """Write the variables' values into ``values`` and their names into ``source``; unknown options are errors."""
    paths = option_paths()
    flat = {path.replace("__", "_"): path for path in paths}
    for variable in sorted(environ):
        name = variable.removeprefix(PREFIX)
        if not variable.startswith(PREFIX) or variable in RESERVED:
            continue
        if "__" not in name and name not in paths:
            if name in flat:
                raise ConfigurationError(f"environment variable {variable}: write it as {PREFIX}{flat[name]}")
            continue  # another program's
        _override(values, source, variable, environ[variable])


def _override(values: dict[str, Any], source: Source, variable: str, text: str) -> None:
    parts = variable.removeprefix(PREFIX).split("__")
    holder: Any = values  # a mapping or a list
    known: Any = FederationOptions
    key: Key = ()
    for place, part in enumerate(parts):
        if not isinstance(holder, dict | list) and (section_of(known) is not None or known is Limits):
            return  # the file has no section there: that is the error to report
        found, known = _step(holder, known, part, variable)
        key = (*key, found)
        if place < len(parts) - 1:
            if isinstance(holder, dict) and holder.get(found) is None:
                holder[found] = {}
            holder = holder[found]
        elif section_of(known) is not None or known is Limits:
            raise ConfigurationError(
                f"environment variable {variable}: names a section; only scalars can be overridden"
            )
        else:
            last: Any = holder
            last[found] = text
            source.variables[key] = variable


def _step(holder: Any, known: Any, part: str, variable: str) -> tuple[str | int, Any]:
    """The key that ``part`` means inside ``holder`` (described by ``known``), and what is known about its value."""
    if isinstance(holder, list):
        if not part.isdecimal() or int(part) >= len(holder):
            raise ConfigurationError(f"environment variable {variable}: {part} is no place in a list of {len(holder)}")
        return int(part), section_of(known)
    if isinstance(known, type) and issubclass(known, BaseModel):
        names: dict[str, Any] = {key: field.annotation for key, field in keys_of(known).items()}
    elif known is Limits:
        names = dict.fromkeys(Limits.__struct_fields__, int)
    else:  # a mapping by names of the user's choice
        names = dict.fromkeys(holder, section_of(known)) if isinstance(holder, dict) else {}
    by_variable = {variable_name(name): name for name in names}
    if part not in by_variable:
        near = difflib.get_close_matches(part, by_variable, n=1)
        hint = (
            f"did you mean {variable.replace(part, near[0])}?"
            if near
            else f"known are {', '.join(by_variable) or 'none'}"
        )
        raise ConfigurationError(f"environment variable {variable}: {part} is no option there; {hint}")
    return by_variable[part], names[by_variable[part]]
