"""The geometric distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ppl_jax.distributions.base import LARGEST_COUNT, Elementwise, as_parameter, is_tracer, require


class Geometric(Elementwise):
    """Number of failures (0, 1, ...) before the first success, of trials that succeed with ``probs`` in (0, 1]."""

    __slots__ = ("probs",)
    parameters = ("probs",)
    discrete = True

    def __init__(self, probs: Any):
        probs = as_parameter(probs)
        if not is_tracer(probs):
            inside = 0.0 < probs <= 1.0 if type(probs) is float else (probs > 0.0) & (probs <= 1.0)
            require(inside, "Geometric", "probs", probs, "a probability in (0, 1]")
        self.probs = probs
        self._broadcast(probs)

    @staticmethod
    def _draw(uniform: Any, probs: float) -> int:
        if probs == 1.0:
            return 0
        return int(min(math.floor(min(math.log(uniform()) / math.log1p(-probs), LARGEST_COUNT)), LARGEST_COUNT))

    @staticmethod
    def _log_density(value: float, probs: float) -> float:
        if not 0.0 <= value < math.inf or value != math.floor(value):
            return -math.inf
        if value == 0.0:
            return math.log(probs)
        return math.log(probs) + value * math.log1p(-probs) if probs < 1.0 else -math.inf

    @staticmethod
    def _log_densities(value: np.ndarray, probs: np.ndarray) -> np.ndarray:
        inside = (value >= 0.0) & (value < np.inf) & (value == np.floor(value))
        failures = np.where(value == 0.0, 0.0, value * np.log1p(-probs))
        return np.where(inside, np.log(probs) + failures, -np.inf)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import count_twins

        return count_twins.GeometricProbs(self.probs)

    @property
    def mean(self) -> Any:
        return (1.0 - self.probs) / self.probs

    @property
    def variance(self) -> Any:
        return (1.0 - self.probs) / self.probs / self.probs

    @property
    def support(self) -> tuple[Any, Any]:
        return 0, math.inf
