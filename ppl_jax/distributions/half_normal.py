"""The half-normal distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ppl_jax.distributions.base import LARGEST, Elementwise, as_parameter, require_positive
from ppl_jax.distributions.normal import standard_normal_quantile

_HALF_LOG_HALF_PI = 0.5 * math.log(0.5 * math.pi)


class HalfNormal(Elementwise):
    """The absolute value of a normal variable of mean 0 and standard deviation ``scale`` (positive)."""

    __slots__ = ("scale",)
    parameters = ("scale",)

    def __init__(self, scale: Any = 1.0):
        scale = as_parameter(scale)
        require_positive("HalfNormal", "scale", scale)
        self.scale = scale
        self._broadcast(scale)

    @staticmethod
    def _draw(uniform: Any, scale: float) -> float:
        return min(scale * abs(standard_normal_quantile(uniform())), LARGEST)

    @staticmethod
    def _log_density(value: float, scale: float) -> float:
        if not 0.0 <= value < math.inf:
            return -math.inf
        z = value / scale
        return -0.5 * z * z - _HALF_LOG_HALF_PI - math.log(scale)

    @staticmethod
    def _log_densities(value: np.ndarray, scale: np.ndarray) -> np.ndarray:
        z = value / scale
        inside = -0.5 * z * z - _HALF_LOG_HALF_PI - np.log(scale)
        return np.where((value >= 0.0) & (value < np.inf), inside, -np.inf)

    def inflated(self, factor: float) -> HalfNormal:
        return HalfNormal(self.scale * factor)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import tail_twins

        return tail_twins.HalfNormal(self.scale)

    @property
    def mean(self) -> Any:
        return self.scale * math.sqrt(2.0 / math.pi)

    @property
    def variance(self) -> Any:
        return np.square(self.scale) * (1.0 - 2.0 / math.pi)

    @property
    def support(self) -> tuple[Any, Any]:
        return 0.0, math.inf
