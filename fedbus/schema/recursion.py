"""How deep a validator would recurse over one value: the longest chain of subschemas applied in place.

The validator is native code that recurses; beyond its stack the process dies, no exception. Its depth is at most (depth
of the data) times (longest in-place chain): ``allOf`` in ``$ref`` in ``anyOf`` … all look at the same value. The data's
depth is bounded by ``DATA_DEPTH``; this module bounds the chain. References are followed inside the document; those
that lead elsewhere do not compile anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from fedbus.schema.limits import IN_PLACE_DEPTH
from fedbus.schema.refusal import InvalidSchemaError

_LISTS = ("allOf", "anyOf", "oneOf")
_SINGLE = ("not", "if", "then", "else")
_MAPS = ("dependentSchemas", "dependencies")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_NAMES = ("$anchor", "$dynamicAnchor")
_IDS = ("$id", "id")


def check_recursion(content: Any) -> None:
    """Raise :class:`InvalidSchemaError` if subschemas apply in place more than ``IN_PLACE_DEPTH`` deep."""
    walk = _Chains(content)
    for schema in walk.all_objects:
        walk.length(schema, 0)


class _Chains:
    """Longest in-place chain per subschema object (by identity), found depth first and remembered."""

    def __init__(self, root: Any) -> None:
        self.all_objects: list[dict[str, Any]] = []
        self._resource: dict[int, Any] = {}  # the nearest enclosing schema with an $id: what "#/…" is relative to
        self._by_name: dict[str, list[dict[str, Any]]] = {}
        self._known: dict[int, int] = {}
        self._open: set[int] = set()
        self._index(root)

    def _index(self, root: Any) -> None:
        unvisited: list[tuple[Any, Any]] = [(root, root)]
        while unvisited:
            value, resource = unvisited.pop()
            if isinstance(value, list):
                unvisited.extend((item, resource) for item in value)
            if not isinstance(value, dict):
                continue
            for word in _IDS:
                name = value.get(word)
                if isinstance(name, str):
                    resource = resource if name.startswith("#") else value
                    self._by_name.setdefault(name.lstrip("#").rpartition("/")[2], []).append(value)
            for word in _NAMES:
                if isinstance(value.get(word), str):
                    self._by_name.setdefault(value[word], []).append(value)
            self.all_objects.append(value)
            self._resource[id(value)] = resource
            unvisited.extend((item, resource) for item in value.values())

    def length(self, schema: dict[str, Any], above: int) -> int:
        """Subschemas below this one in the longest chain; ``above`` is how many there are before it."""
        known = self._known.get(id(schema))
        if known is None:
            if id(schema) in self._open:  # a loop in place: the validator stops at those itself
                return 0
            if above > IN_PLACE_DEPTH:
                raise _too_deep()
            self._open.add(id(schema))
            known = max((1 + self.length(below, above + 1) for below in self._in_place(schema)), default=0)
            self._open.discard(id(schema))
            self._known[id(schema)] = known
        if above + known > IN_PLACE_DEPTH:
            raise _too_deep()
        return known

    def _in_place(self, schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
        found: list[Any] = [schema[word] for word in _SINGLE if word in schema]
        found += [item for word in _LISTS if isinstance(schema.get(word), list) for item in schema[word]]
        found += [item for word in _MAPS if isinstance(schema.get(word), dict) for item in schema[word].values()]
        for word in _REFERENCES:
            if isinstance(schema.get(word), str):
                found += self._targets(schema, schema[word])
        return (item for item in found if isinstance(item, dict))

    def _targets(self, schema: dict[str, Any], reference: str) -> list[Any]:
        document, _, fragment = reference.partition("#")
        roots = self._by_name.get(document.rpartition("/")[2], []) if document else [self._resource[id(schema)]]
        if not fragment:
            return list(roots)
        if not fragment.startswith("/"):
            return list(self._by_name.get(fragment, []))
        return [_at(root, fragment) for root in roots]


def _at(root: Any, fragment: str) -> Any:
    value = root
    for step in unquote(fragment).split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def _too_deep() -> InvalidSchemaError:
    return InvalidSchemaError(
        f"more than {IN_PLACE_DEPTH} subschemas apply to one value through each other ($ref, allOf, anyOf, oneOf, not, "
        "if); flatten them"
    )
