"""The uniform distribution on an interval."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ppl_jax.distributions.base import (
    LARGEST,
    Elementwise,
    as_parameter,
    holds,
    is_tracer,
    require_below,
    require_finite,
)
from ppl_jax.errors import ParameterError


class Uniform(Elementwise):
    """Uniform on [``low``, ``high``], both finite, low < high."""

    __slots__ = ("high", "low")
    parameters = ("low", "high")

    def __init__(self, low: Any, high: Any):
        low, high = as_parameter(low), as_parameter(high)
        if type(low) is float and type(high) is float and low < high and -math.inf < high - low < math.inf:
            self.low, self.high, self.shape, self._floats = low, high, (), (low, high)
            return
        require_finite("Uniform", "low", low)
        require_finite("Uniform", "high", high)
        self.low, self.high = low, high
        self._broadcast(low, high)
        require_below("Uniform", low, high)
        if not (is_tracer(low) or is_tracer(high) or holds(0.5 * high - 0.5 * low < 0.5 * LARGEST)):
            raise ParameterError("Uniform", "high", high, f"within {LARGEST:.3g} (float64's range) of low = {low!r}")

    @staticmethod
    def _draw(uniform: Any, low: float, high: float) -> float:
        return low + (high - low) * uniform()

    @staticmethod
    def _log_density(value: float, low: float, high: float) -> float:
        return -math.log(high - low) if low <= value <= high else -math.inf

    @staticmethod
    def _log_densities(value: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return np.where((value >= low) & (value <= high), -np.log(high - low), -np.inf)

    def to_numpyro(self) -> Any:
        from numpyro import distributions as npd

        return npd.Uniform(self.low, self.high)

    @property
    def mean(self) -> Any:
        return 0.5 * self.low + 0.5 * self.high  # the sum itself may overflow

    @property
    def variance(self) -> Any:
        with np.errstate(over="ignore"):
            return np.square(self.high - self.low) / 12.0

    @property
    def support(self) -> tuple[Any, Any]:
        return self.low, self.high
