"""The commented federation file that says what an options tree says: ``configs/local.yaml`` is this of the default."""

from __future__ import annotations

import textwrap
from typing import Any

import yaml
from pydantic import BaseModel

from fedbus.options.environment import keys_of, section_of
from fedbus.options.federation import FederationOptions

WIDTH = 118
HEAD = """\
The built-in local federation, written out: three regions on one Ray cluster on this machine. Every key may be left out;
what is here is what it is then. Durations and sizes carry their unit (250ms, 7d, 64MiB). Scalars can be overridden by
environment variables: FEDBUS_GATEWAY__PORT=9000, FEDBUS_REGIONS__ONPREM_BERLIN__INSTANCES__MAX=8.
"""


def commented_yaml(options: FederationOptions) -> str:
    """The options as a federation file, each key explained where it first appears."""
    lines = [f"# {line}" for line in HEAD.splitlines()]
    explained: set[tuple[type[BaseModel], str]] = set()
    for key, value in options.model_dump(mode="json").items():
        lines.append("")
        lines += _entry(key, value, FederationOptions, "", explained)
    return "\n".join(lines) + "\n"


def _entry(
    key: str, value: Any, model: type[BaseModel] | None, indent: str, explained: set[tuple[type[BaseModel], str]]
) -> list[str]:
    """The lines of one key of ``model`` (None: a name of the user's choice)."""
    lines: list[str] = []
    inner: type[BaseModel] | None = None
    if model is not None:
        field = keys_of(model)[key]
        inner = section_of(field.annotation)
        if (model, key) not in explained:
            explained.add((model, key))
            text = textwrap.wrap(field.description or "", WIDTH - len(indent))
            lines += [f"{indent}# {line}" for line in text]
    if isinstance(value, dict) and value:
        by_name = model is not None and inner is not None and not isinstance(keys_of(model)[key].annotation, type)
        lines.append(f"{indent}{key}:")
        for name, item in value.items():
            if by_name:
                lines.append(f"{indent}  {name}:")
                lines += _section(item, inner, indent + "    ", explained)
            else:
                lines += _entry(name, item, inner, indent + "  ", explained)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        lines.append(f"{indent}{key}:")
        for item in value:
            body = _section(item, inner, indent + "    ", explained)
            first = next(place for place, line in enumerate(body) if not line.lstrip().startswith("#"))
            body[first] = f"{indent}  - {body[first].lstrip()}"
            lines += body
    else:
        lines.append(f"{indent}{key}: {_scalar(value)}")
    return lines


def _section(
    item: dict[str, Any], model: type[BaseModel] | None, indent: str, explained: set[tuple[type[BaseModel], str]]
) -> list[str]:
    return [line for key, value in item.items() for line in _entry(key, value, model, indent, explained)]


def _scalar(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
