"""Sizes as a ratchet: nothing new beyond the limits, and what is listed in oversize.toml may only shrink."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.style import project

LIMITS = {"files": 400, "functions": 50, "classes": 15}
SOURCE = (".py", ".js", ".css", ".html", ".sh")
LISTED = Path(__file__).with_name("oversize.toml")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def lines_of(function: Function) -> int:
    """Lines from ``def`` to the end, without the docstring: explaining more must not cost anything."""
    size = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        size -= (first.end_lineno or first.lineno) - first.lineno + 1
    return size


def methods_of(cls: ast.ClassDef) -> int:
    """Methods in the class body; an ``@overload`` is a signature, not a method."""
    return sum(
        1
        for item in cls.body
        if isinstance(item, Function) and not any("overload" in ast.dump(d) for d in item.decorator_list)
    )


def sizes_in(name: str, node: ast.AST, prefix: str = "") -> Iterator[tuple[str, str, int]]:
    """(kind, name, size) of every function and class below ``node``."""
    for child in ast.iter_child_nodes(node):
        inner = prefix
        if isinstance(child, Function):
            inner = f"{prefix}{child.name}."
            yield "functions", f"{name}::{prefix}{child.name}", lines_of(child)
        elif isinstance(child, ast.ClassDef):
            inner = f"{prefix}{child.name}."
            yield "classes", f"{name}::{prefix}{child.name}", methods_of(child)
        yield from sizes_in(name, child, inner)


def measured() -> dict[str, dict[str, int]]:
    """Every size in the project, by kind and name; of equal names in one file the largest counts."""
    found: dict[str, dict[str, int]] = {kind: {} for kind in LIMITS}
    for path in project.files(*SOURCE):
        found["files"][path.as_posix()] = len((project.text(path) or "").splitlines())
    for path in project.files(".py"):
        for kind, name, size in sizes_in(path.as_posix(), project.tree(path)):
            found[kind][name] = max(size, found[kind].get(name, 0))
    return found


def complaints(sizes: dict[str, int], listed: dict[str, int], limit: int) -> list[str]:
    """What is wrong with ``sizes``, given the ``listed`` exceptions to ``limit``."""
    found = [
        f"{name} has {size}, the limit is {listed.get(name, limit)}: look for the missing noun and take it out"
        for name, size in sizes.items()
        if size > listed.get(name, limit)
    ]
    for name, entry in listed.items():
        size = sizes.get(name, 0)
        if size <= limit:
            found.append(f"{name} is within the limit of {limit} now (or gone): delete its entry in oversize.toml")
        elif size < entry:
            found.append(f"{name} has shrunk to {size}: lower its entry in oversize.toml from {entry}")
    return sorted(found)


@pytest.mark.parametrize("kind", LIMITS)
def test_nothing_grows_beyond_the_limits(kind: str):
    listed = tomllib.loads(LISTED.read_text(encoding="utf-8"))
    assert complaints(measured()[kind], listed.get(kind, {}), LIMITS[kind]) == []


@pytest.mark.parametrize(
    ("size", "entry", "complaint"),
    [
        (50, None, None),
        (51, None, "the limit is 50"),
        (60, 60, None),
        (61, 60, "the limit is 60"),
        (59, 60, "lower its entry"),
        (50, 60, "delete its entry"),
    ],
)
def test_the_ratchet_turns_one_way(size: int, entry: int | None, complaint: str | None):
    listed = {} if entry is None else {"f": entry}
    found = complaints({"f": size}, listed, limit=50)
    assert (complaint is None and found == []) or (complaint is not None and complaint in found[0])


def test_functions_are_measured_without_their_docstring_and_classes_by_their_methods():
    source = 'class A:\n    def f(self):\n        """One.\n\n        Two.\n        """\n        return 1\n    x = 1\n'
    assert list(sizes_in("a.py", ast.parse(source))) == [("classes", "a.py::A", 1), ("functions", "a.py::A.f", 2)]
