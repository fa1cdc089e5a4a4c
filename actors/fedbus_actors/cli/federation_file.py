"""Which federation a cluster command means: its file, the environment (read once, here), and what options override."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from fedbus.options import FederationOptions, load_federation
from fedbus.options.environment import variable_name


def federation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options ``-c`` and ``--data``."""
    command = click.option(
        "--data", type=click.Path(path_type=Path), help="Data directory [default: fedbus in the XDG data folder]."
    )(command)
    return click.option(
        "-c", "--config", type=click.Path(path_type=Path), help="A federation file [default: a built-in local one]."
    )(command)


def region_option(about: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option ``--region``, which may be repeated."""
    return click.option("--region", "regions", multiple=True, metavar="REGION", help=about)


def read_federation(
    config: Path | None, data: Path | None, port: int | None = None, regions: Sequence[str] = ()
) -> FederationOptions:
    """The options tree: options of the command win over the environment, the environment over the file.

    ``port``: of the gateway, that of ``regions`` if they are named.
    """
    environ = dict(os.environ)
    if data is not None:
        environ["FEDBUS_DATA__DIRECTORY"] = str(data.expanduser().absolute())
    if port is not None:
        for part in [f"REGIONS__{variable_name(region)}__GATEWAY__PORT" for region in regions] or ["GATEWAY__PORT"]:
            environ[f"FEDBUS_{part}"] = str(port)
    return load_federation(config, environ)
