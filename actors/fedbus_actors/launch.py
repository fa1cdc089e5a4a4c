"""The door to :class:`~fedbus_actors.federation.Federation`: prepares the environment, then imports Ray."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from fedbus.clock import Clock
from fedbus.errors import ConfigurationError, EnvironmentUnusableError
from fedbus.options.federation import FederationOptions
from fedbus_actors.run_directory import RunDirectory

if TYPE_CHECKING:
    from fedbus_actors.federation import Federation


def launch(
    options: FederationOptions, *, clock: Clock | None = None, progress: Callable[[str], None] = lambda _line: None
) -> Federation:
    """A federation, not yet started, on a cluster of its own (``local``) or on the one its regions name.

    ``clock``: the control plane's; ``progress`` gets a line a step. Raises :class:`ConfigurationError` if the regions
    name several clusters, :class:`EnvironmentUnusableError` if Ray was imported before its environment was prepared.
    """
    clusters = {region.cluster for region in options.regions.values()}
    if len(clusters) > 1:
        raise ConfigurationError(
            f"regions name several clusters ({', '.join(sorted(clusters))}): this version runs a federation on one; "
            "give all regions the same `cluster`"
        )
    run_directory = None
    if next(iter(options.regions.values())).is_local:
        if "ray" in sys.modules:
            raise EnvironmentUnusableError("Ray is imported already: a local federation has to be started before that")
        run_directory = RunDirectory()
    try:
        if run_directory is not None:
            run_directory.prepare()
        from fedbus_actors.federation import Federation

        return Federation(options, run_directory, clock, progress)
    except BaseException:
        if run_directory is not None:
            run_directory.remove()
        raise
