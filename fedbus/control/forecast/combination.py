"""The forecasters' mean, each weighted by how right it was lately at the lead that provisioning takes.

Exponential weights (the exponentially weighted average forecaster; Cesa-Bianchi & Lugosi, *Prediction, Learning, and
Games*, 2006, chapter 2): a weight falls by a constant factor with every unit of loss beyond the best one's. A loss here
is an absolute error in units of the best forecaster's mean error. Weights by the inverse of the squared error (Bates &
Granger 1969) were tried and lost up to 6 %: they leave a clearly worse forecaster too much to say.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fedbus.control.forecast.protocol import FloatArray

#: Its name among the forecasters.
COMBINATION = "weighted"
LEARNING_RATE = 0.1
#: Who would have less to say has nothing to say.
LEAST_WEIGHT = 0.05


def weights(errors: Mapping[str, float], forecasts: int) -> dict[str, float]:
    """Weights that sum to 1, of those that have any; empty if fewer than two have.

    ``errors``: mean absolute error over the last ``forecasts`` forecasts, in any unit.
    """
    known = {name: error for name, error in errors.items() if math.isfinite(error)}
    best = max(min(known.values(), default=0.0), 1e-12)
    loud = {name: math.exp(-LEARNING_RATE * forecasts * (error / best - 1.0)) for name, error in known.items()}
    heard = {name: each for name, each in loud.items() if each >= LEAST_WEIGHT * sum(loud.values())}
    total = sum(heard.values())
    return {name: each / total for name, each in heard.items()} if len(heard) > 1 else {}


def combined(paths: Mapping[str, FloatArray], weighted: Mapping[str, float]) -> FloatArray:
    """The weighted mean of the paths."""
    return np.asarray(sum(weight * paths[name] for name, weight in weighted.items()), dtype=np.float64)


def recentred(bounds: FloatArray, path: FloatArray, onto: FloatArray) -> FloatArray:
    """The bounds (slots, quantiles) about ``path`` as they would be about ``onto``: as far away in the log."""
    shift = np.log1p(onto) - np.log1p(path)
    return np.asarray(np.expm1(np.log1p(np.clip(bounds, 0.0, None)) + shift[:, None]))
