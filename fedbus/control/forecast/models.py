"""The forecasters an engine can be asked for, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedbus.control.forecast.arima import ArimaForecaster
from fedbus.control.forecast.direct import DirectForecaster
from fedbus.control.forecast.mstl import MstlForecaster
from fedbus.control.forecast.neural import NeuralForecaster
from fedbus.control.forecast.seasonal import ProfileLevel, SeasonalNaive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fedbus.control.forecast.protocol import Forecaster
    from fedbus.control.forecast.settings import ModelName

_MODELS: dict[ModelName, Callable[[], Forecaster]] = {
    "direct": DirectForecaster,
    "mstl": MstlForecaster,
    "arima": ArimaForecaster,
    "profile": ProfileLevel,
    "seasonal_naive": SeasonalNaive,
    "neural": NeuralForecaster,
}


def forecasters(names: Iterable[ModelName]) -> tuple[Forecaster, ...]:
    """Forecasters of these names, not fitted, in that order."""
    return tuple(_MODELS[name]() for name in dict.fromkeys(names))
