"""A recurrent network (LSTM) as one more forecaster: the extra ``fedbus[neural]``, neuralforecast on torch.

Nothing of it is imported before a fit, and a fit happens only if ``neural`` is among the models asked for. The network
sees log1p of the load and says the next hour; further ahead the day's profile goes on from the level it came to.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fedbus.control.forecast.seasonal import profile
from fedbus.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedbus.control.forecast.protocol import FloatArray, Series

#: Leads the network says itself; it looks back on a day.
LEADS = 12
#: So large and so long trained that a fit takes seconds on one core.
HIDDEN, STEPS = 32, 60
LEAST_DAYS = 3
HOW_TO_INSTALL = (
    "the model 'neural' needs neuralforecast and torch (1.7 GB), which are not installed where the forecaster runs:"
    " pip install torch==2.13.0 'fedbus[neural]', or leave 'neural' out of forecasting.models"
)


class Network(Protocol):
    """A trained network."""

    def ahead(self, values: FloatArray) -> FloatArray:
        """The ``LEADS`` values that follow the last day or more of ``values``."""
        ...


@dataclass(frozen=True)
class NeuralForecaster:
    """``train``: from values and slots per day to a network; ``network`` once fitted."""

    name: str = "neural"
    needs_recent: bool = True
    slow: bool = True
    train: Callable[[FloatArray, int], Network] | None = None
    network: Network | None = None

    def minimum_slots(self, slots_per_day: int) -> int:
        """Three days: it looks back on one and must have seen some."""
        return LEAST_DAYS * slots_per_day

    def fit(self, series: Series) -> NeuralForecaster:
        """Train, some 10 s of CPU; ConfigurationError saying what to install if the extra is missing."""
        train = self.train or train_lstm
        return NeuralForecaster(train=train, network=train(np.log1p(series.values), series.slots_per_day))

    def forward(self, window: Series, horizon: int) -> FloatArray:
        """What the network says, and from there on the usual day at that level."""
        assert self.network is not None, "fit first"
        ahead = np.expm1(np.asarray(self.network.ahead(np.log1p(window.values)), dtype=np.float64))
        if horizon <= len(ahead):
            return ahead[:horizon]
        usual = profile(window.values, window.slots_per_day, 0, horizon)
        expected = float(usual[: len(ahead)].sum())
        level = float(ahead.sum()) / expected if expected > 0 else 1.0
        return np.concatenate([ahead, usual[len(ahead) :] * level])


def require_neural() -> None:
    """ConfigurationError if the extra is not installed here; imports nothing heavy."""
    if find_spec("neuralforecast") is None or find_spec("torch") is None:
        raise ConfigurationError(HOW_TO_INSTALL)


def train_lstm(values: FloatArray, slots_per_day: int) -> Network:
    """The LSTM of neuralforecast on one series; ConfigurationError if the extra is not installed."""
    require_neural()
    import torch
    from neuralforecast import NeuralForecast
    from neuralforecast.models import LSTM

    torch.set_num_threads(1)  # so small a network is slower on several cores, and the others are busy
    # They tell what devices they found and what they will change, at every forecast.
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning|neuralforecast")
    # Nothing is logged or kept on disk, and the first device is the CPU: a forecaster has no GPU of its own.
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
        "devices": 1,
    }
    model = LSTM(
        h=LEADS,
        input_size=slots_per_day,
        encoder_hidden_size=HIDDEN,
        decoder_hidden_size=HIDDEN,
        max_steps=STEPS,
        learning_rate=5e-3,
        scaler_type="robust",
        **quiet,
    )
    network = NeuralForecast(models=[model], freq=1)
    network.fit(_frame(values))
    return _Lstm(network, slots_per_day)


@dataclass(frozen=True)
class _Lstm:
    network: Any
    slots_per_day: int

    def ahead(self, values: FloatArray) -> FloatArray:
        said = self.network.predict(df=_frame(values[-self.slots_per_day :]))
        return np.asarray(said["LSTM"], dtype=np.float64)


def _frame(values: FloatArray) -> Any:
    import pandas as pd

    return pd.DataFrame({"unique_id": "load", "ds": np.arange(len(values)), "y": values})
