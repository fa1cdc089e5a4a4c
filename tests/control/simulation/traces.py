"""Synthetic loads from seeds: a day's cycle, noise, bursts, gaps."""

import math
import random

from fedbus.control.load import NS_PER_S
from fedbus.control.trace import Trace

START_NS = 1_750_000_200 * NS_PER_S  # a multiple of 5 minutes


def daily(days, seed, *, step_s=60, level=600.0, noise=0.1, burst_per_day=0.0, missing=0.0):
    """Events per step: a sine over the day, lognormal noise, bursts of a quarter of an hour, blanks."""
    rng = random.Random(seed)
    steps = round(days * 86_400 / step_s)
    burst_left, events = 0, []
    for step in range(steps):
        phase = 2 * math.pi * (step * step_s / 86_400)
        value = level * step_s / 60 * (1.2 - math.cos(phase)) * math.exp(rng.gauss(0, noise))
        if rng.random() < burst_per_day * step_s / 86_400:
            burst_left = max(1, 900 // step_s)
        if burst_left:
            burst_left -= 1
            value *= 3
        events.append(math.nan if rng.random() < missing else value)
    return Trace(START_NS, step_s, tuple(events))
