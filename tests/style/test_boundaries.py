"""One module reads the clock, one starts threads, nothing is pickled, and names say what a thing is."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.style import project

CLOCK = Path("fedbus/clock.py")
THREADS = Path("fedbus/threads.py")
DATETIME_NOW = {"now", "utcnow", "today"}
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
PURE = {"broker", "control", "routing", "schema"}
GRAB_BAGS = {"common", "helper", "helpers", "manager", "managers", "misc", "shared", "tools", "util", "utils"}


def imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of everything imported; ``from a import b`` gives ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def clock_reads(tree: ast.Module) -> Iterator[int]:
    """Lines that read a clock (or wait for one): the module ``time``, ``datetime.now()``, ``date.today()``."""
    yield from (line for name, line in imported(tree) if name.split(".")[0] == "time")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in DATETIME_NOW:
            owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            if owner in {"datetime", "date", "dt"}:
                yield node.lineno


def threads_started(tree: ast.Module) -> Iterator[int]:
    """Lines that name ``Thread`` or ``Timer`` of ``threading`` in order to make or subclass one."""
    makers = {"Thread", "Timer", "start_new_thread"}
    names = {
        name.rsplit(".", 1)[1] for name, _ in imported(tree) if name.startswith(("threading.", "_thread."))
    } & makers
    for node in ast.walk(tree):
        used = node.func if isinstance(node, ast.Call) else None
        bases = [used] if used else node.bases if isinstance(node, ast.ClassDef) else []
        for base in bases:
            of_module = (
                isinstance(base, ast.Attribute)
                and base.attr in makers
                and getattr(base.value, "id", "") in {"threading", "_thread"}
            )
            if of_module or (isinstance(base, ast.Name) and base.id in names):
                yield node.lineno


def test_only_the_clock_module_reads_clocks():
    found = [
        f"{path}:{line}" for path in project.shipped() if path != CLOCK for line in clock_reads(project.tree(path))
    ]
    assert found == [], (
        "take a fedbus.clock.Clock or now_ns instead; wait on a socket, queue or event, never on time.sleep"
    )


def test_only_the_threads_module_starts_threads():
    others = (path for path in project.shipped() if path != THREADS)
    found = [f"{path}:{line}" for path in others for line in threads_started(project.tree(path))]
    assert found == [], "use fedbus.threads.spawn, which gives the thread a name"


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import time as t",
        "from time import monotonic_ns",
        "from datetime import datetime\nx = datetime.now(UTC)",
        "import datetime\nx = datetime.datetime.utcnow()",
        "import datetime as dt\nx = dt.date.today()",
    ],
)
def test_clock_reads_are_recognised(source: str):
    assert list(clock_reads(ast.parse(source)))


@pytest.mark.parametrize(
    "source", ["from datetime import datetime\nx = datetime.fromtimestamp(1)", "x = clock.now_ns()"]
)
def test_what_reads_no_clock_is_left_alone(source: str):
    assert not list(clock_reads(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "import threading\nthreading.Thread(target=f)",
        "from threading import Thread\nThread(target=f)",
        "import threading\nclass A(threading.Thread): ...",
        "from threading import Timer\nTimer(1, f)",
    ],
)
def test_thread_starts_are_recognised(source: str):
    assert list(threads_started(ast.parse(source)))


def test_type_annotations_and_locks_start_no_thread():
    source = "import threading\nfrom threading import Lock\ndef f(t: threading.Thread): Lock()"
    assert not list(threads_started(ast.parse(source)))


def unseeded(tree: ast.Module) -> Iterator[int]:
    """Lines that take randomness from anything but a ``random.Random`` made from a seed."""
    yield from (line for name, line in imported(tree) if name.startswith("random.") and name != "random.Random")
    if not any(name.split(".")[0] == "random" for name, _ in imported(tree)):
        return  # a parameter may be called random, too
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            without_seed = ast.unparse(node.func) in {"random.Random", "Random"} and not node.args
        else:
            of_module = isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "random"
            without_seed = of_module and node.attr != "Random"
        if without_seed:
            yield node.lineno


def test_the_core_takes_its_randomness_from_a_seed():
    core = (path for path in project.shipped() if path.parts[:2] in {("fedbus", part) for part in PURE})
    found = [f"{path}:{line}" for path in core for line in unseeded(project.tree(path))]
    assert found == [], "take a random.Random, or a seed"


def test_unseeded_randomness_is_recognised():
    assert list(unseeded(ast.parse("import random\nx = random.gauss(0, 1)")))
    assert list(unseeded(ast.parse("import random\nx = random.Random()")))
    assert list(unseeded(ast.parse("from random import choice")))
    assert not list(unseeded(ast.parse("def f(random): return random.random()")))
    assert not list(unseeded(ast.parse("import random\nx = random.Random(7).gauss(0, 1)")))


def test_nothing_is_pickled():
    found = [
        f"{path}:{line} imports {name}"
        for path in project.files(".py")
        if path.parts[0] != "tests"
        for name, line in imported(project.tree(path))
        if name.split(".")[0] in PICKLES
    ]
    assert found == [], "pickle runs what it reads; use msgspec"


def test_modules_are_named_after_what_they_hold():
    parts = {(path, part) for path in project.files(".py") for part in (*path.parts[:-1], path.stem)}
    found = sorted(
        f"{path} ({part})"
        for path, part in parts
        if part in GRAB_BAGS or part.endswith(("_utils", "_util", "_helpers"))
    )
    assert found == [], "name the noun"
