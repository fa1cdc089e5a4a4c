"""A federation file as text: plain values, and for every value the line and column it stands at.

Uses PyYAML's node graph, because its plain loader forgets places and lets a repeated key silently win.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from fedbus.errors import ConfigurationError

Key = tuple[str | int, ...]
MAX_NODES = 100_000  # of a file after its aliases are followed: a small file can otherwise mean a huge one


@dataclass(slots=True)
class Source:
    """Where values come from: ``name`` of the file, (line, column) from 1 by key path, variables that overrode some."""

    name: str
    places: dict[Key, tuple[int, int]] = field(default_factory=dict)
    variables: dict[Key, str] = field(default_factory=dict)

    def place(self, key: Key) -> str:
        """``file:line:column`` of a key, or of the nearest key around it that is written down."""
        for length in range(len(key), -1, -1):
            if (variable := self.variables.get(key[:length])) is not None and length == len(key):
                return f"environment variable {variable}"
            if (at := self.places.get(key[:length])) is not None:
                return f"{self.name}:{at[0]}:{at[1]}"
        return self.name

    def error(self, key: Key, problem: str) -> ConfigurationError:
        """The error about a key: place, path, what is wrong and what to do."""
        return ConfigurationError(
            f"{self.place(key)}: {show(key)}: {problem}" if key else f"{self.place(key)}: {problem}"
        )


def show(key: Key) -> str:
    """A key path for people: ``regions[aws.us-east-1].listen.ports``, ``slas[0].filter``."""
    path = ""
    for part in key:
        plain = isinstance(part, str) and "." not in part
        path += (f".{part}" if path else str(part)) if plain else f"[{part}]"
    return path


def parse_yaml(text: str, name: str) -> tuple[Any, Source]:
    """The values of a YAML text and their places; ConfigurationError with line and column if it is none."""
    source = Source(name)
    loader: yaml.SafeLoader | None = None
    try:
        loader = yaml.SafeLoader(text)  # looks at the characters at once
        node = loader.get_single_node()
        values = _Reader(loader, source).read(node, (), ()) if node is not None else {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigurationError(f"{name}{at}: not valid YAML: {what}; check indentation, colons and quotes") from None
    except yaml.reader.ReaderError as error:
        raise ConfigurationError(f"{name}: not valid YAML: {error.reason} at character {error.position}") from None
    except RecursionError:
        raise ConfigurationError(f"{name}: not a federation file: nested too deep") from None
    finally:
        if loader is not None:
            loader.dispose()
    return values, source


class _Reader:
    """Turns nodes into values, remembering places."""

    def __init__(self, loader: yaml.SafeLoader, source: Source) -> None:
        self._loader = loader
        self._source = source
        self._nodes = 0

    def read(self, node: yaml.Node, key: Key, around: tuple[int, ...]) -> Any:
        """The value of a node at ``key``; ``around`` are the nodes it stands in."""
        self._nodes += 1
        self._source.places.setdefault(key, (node.start_mark.line + 1, node.start_mark.column + 1))
        if self._nodes > MAX_NODES or id(node) in around:
            raise self._source.error(
                key, "the aliases (*name) in this file go in circles or multiply; write values out"
            )
        inside = (*around, id(node))
        if isinstance(node, yaml.MappingNode):
            return {name: self.read(value, (*key, name), inside) for name, value in self._entries(node, key)}
        if isinstance(node, yaml.SequenceNode):
            return [self.read(value, (*key, place), inside) for place, value in enumerate(node.value)]
        try:
            return self._loader.construct_object(node, deep=True)
        except (ValueError, OverflowError) as error:
            raise self._source.error(key, f"{node.value!r} cannot be read: {error}; put it in quotes") from None

    def _entries(self, node: yaml.MappingNode, key: Key) -> list[tuple[str, yaml.Node]]:
        """The entries of a mapping; the place of an entry is that of its key."""
        entries: dict[str, yaml.Node] = {}
        for name, value in node.value:
            at = (name.start_mark.line + 1, name.start_mark.column + 1)
            if not isinstance(name, yaml.ScalarNode) or name.tag == "tag:yaml.org,2002:merge":
                self._source.places[key] = at
                raise self._source.error(
                    key, "keys are plain words here; merge keys (<<) and complex keys are not read"
                )
            self._source.places[(*key, name.value)] = at
            if name.value in entries:
                raise self._source.error((*key, name.value), "is there twice; keep one of them")
            entries[name.value] = value
        return list(entries.items())
