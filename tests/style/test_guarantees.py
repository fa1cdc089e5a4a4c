"""The guarantees page: every sentence names a test, and every test it names exists."""

import ast
import re
from pathlib import Path

import pytest

from tests.style import project

PAGE = Path("docs/guarantees.md")
NAMED = re.compile(r"\[(tests/\S+?\.py)::(\w+)\]\(\.\./([^)#]+)\)")
TWO_SENTENCES = re.compile(r"[.!?]\s+\S")


def claims(page: str) -> list[str]:
    """The items of all lists, each as one line."""
    items: list[str] = []
    for line in page.splitlines():
        if line.startswith("- "):
            items.append(line[2:])
        elif line.startswith("  ") and items:
            items[-1] += " " + line.strip()
    return items


def prose(page: str) -> list[str]:
    """Lines below the first heading of a section that are neither headings, items nor empty."""
    body = page[page.index("\n## ") :]
    return [line for line in body.splitlines() if line and not line.startswith(("#", "- ", "  "))]


def functions_in(path: Path) -> set[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(project.tree(path)) if isinstance(node, functions)}


def complaints(page: str) -> list[str]:
    """What is wrong with it."""
    found = []
    for claim in claims(page):
        sentence, named = NAMED.sub("", claim).strip(), NAMED.findall(claim)
        if not named:
            found.append(f"names no test: {sentence}")
        if TWO_SENTENCES.search(sentence):
            found.append(f"more than one sentence: {sentence}")
        for path, name, target in named:
            if target != path:
                found.append(f"{path}::{name} links to {target}")
            elif not (project.ROOT / path).is_file() or name not in functions_in(Path(path)):
                found.append(f"there is no {path}::{name}: {sentence}")
    return found


def test_every_guarantee_names_tests_that_exist():
    page = project.text(PAGE) or ""
    assert len(claims(page)) > 40
    assert complaints(page) == []


def test_outside_the_lists_the_page_claims_nothing_at_length():
    assert len(prose(project.text(PAGE) or "")) <= 3


def test_the_readme_leads_to_it():
    assert str(PAGE) in (project.text(Path("README.md")) or "")


HERE = "tests/style/test_guarantees.py"


@pytest.mark.parametrize(
    ("item", "complaint"),
    [
        (f"- It holds.\n  [{HERE}::test_the_readme_leads_to_it](../{HERE})", ""),
        ("- It holds.", "names no test"),
        (f"- It holds.\n  [{HERE}::test_nothing](../{HERE})", "there is no"),
        (f"- It holds.\n  [{HERE}::test_the_readme_leads_to_it](../tests/style/test_y.py)", "links to"),
        ("- It holds. So does that.", "more than one sentence"),
    ],
)
def test_what_is_wrong_is_noticed(item, complaint):
    found = complaints(item)
    assert any(complaint in each for each in found) if complaint else found == []
