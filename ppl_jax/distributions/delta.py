"""Delta: all mass at one value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ppl_jax.distributions.base import Elementwise, as_parameter, require_number


class Delta(Elementwise):
    """Always ``value``, kept as float64; log_prob is 0 there and -inf elsewhere."""

    __slots__ = ("value",)
    parameters = ("value",)

    def __init__(self, value: Any):
        value = as_parameter(value)
        require_number("Delta", "value", value)
        self.value = value
        self._broadcast(value)

    @staticmethod
    def _draw(uniform: Any, value: float) -> float:
        return value

    @staticmethod
    def _log_density(value: float, point: float) -> float:
        return 0.0 if value == point else -math.inf

    @staticmethod
    def _log_densities(value: np.ndarray, point: np.ndarray) -> np.ndarray:
        return np.where(value == point, 0.0, -np.inf)

    def to_numpyro(self) -> Any:
        from numpyro import distributions as npd

        return npd.Delta(self.value)

    @property
    def mean(self) -> Any:
        return self.value

    @property
    def variance(self) -> Any:
        return np.zeros(self.shape)[()]

    @property
    def support(self) -> tuple[Any, Any]:
        return self.value, self.value
