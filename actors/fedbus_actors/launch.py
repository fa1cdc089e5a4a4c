"""The door to :class:`~fedbus_actors.federation.Federation`: prepares the environment, then imports Ray."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fedbus.clock import Clock
from fedbus.errors import ConfigurationError, EnvironmentUnusableError
from fedbus.options.federation import FederationOptions
from fedbus_actors.run_directory import RunDirectory

if TYPE_CHECKING:
    from fedbus_actors.federation import Federation


def launch(
    options: FederationOptions,
    regions: Sequence[str] = (),
    *,
    clock: Clock | None = None,
    progress: Callable[[str], None] = lambda _line: None,
) -> Federation:
    """These regions of a federation (none: all that are not elsewhere), not yet started.

    They run on a cluster of their own (``local``) or on the one they name. ``clock``: the control plane's; ``progress``
    gets a line a step. Raises what :func:`chosen` does, :class:`EnvironmentUnusableError` if Ray was imported before
    its environment was prepared.
    """
    regions = chosen(options, regions)
    run_directory = None
    if options.regions[regions[0]].is_local:
        if "ray" in sys.modules:
            raise EnvironmentUnusableError("Ray is imported already: a local federation has to be started before that")
        run_directory = RunDirectory()
    try:
        if run_directory is not None:
            run_directory.prepare()
        from fedbus_actors.federation import Federation

        return Federation(options, regions, run_directory, clock, progress)
    except BaseException:
        if run_directory is not None:
            run_directory.remove()
        raise


def chosen(options: FederationOptions, regions: Sequence[str]) -> tuple[str, ...]:
    """The regions to start, in the file's order; raises :class:`ConfigurationError` if that is not possible here."""
    if "neural" in options.forecasting.models:
        from fedbus.control.forecast.neural import require_neural

        require_neural()
    for region in regions:
        if region not in options.regions:
            raise ConfigurationError(f"no region {region!r} in {options.name}: it has {', '.join(options.regions)}")
        if options.regions[region].is_elsewhere:
            raise ConfigurationError(
                f"region {region} runs elsewhere (its `cluster`): start it where it is, or give it a cluster"
            )
    wanted = tuple(name for name in options.startable if not regions or name in regions)
    if not wanted:
        raise ConfigurationError(f"all regions of {options.name} are elsewhere: nothing is to be started here")
    clusters = {options.regions[name].cluster for name in wanted}
    if len(clusters) > 1:
        raise ConfigurationError(
            f"regions {', '.join(wanted)} are on several clusters ({', '.join(sorted(clusters))}): start those of one "
            f"cluster at a time, each with its own `fedbus up --region {wanted[0]}`"
        )
    return wanted
