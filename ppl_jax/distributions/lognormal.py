"""The log-normal distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ppl_jax.distributions.base import LARGEST, SMALLEST, Elementwise, as_parameter, require_finite, require_positive
from ppl_jax.distributions.normal import HALF_LOG_2PI, standard_normal_quantile

_LOG_SMALLEST, _LOG_LARGEST = math.log(SMALLEST), math.log(LARGEST)


class LogNormal(Elementwise):
    """exp of a normal with mean ``loc`` and standard deviation ``scale``."""

    __slots__ = ("loc", "scale")
    parameters = ("loc", "scale")

    def __init__(self, loc: Any, scale: Any):
        loc, scale = as_parameter(loc), as_parameter(scale)
        require_finite("LogNormal", "loc", loc)
        require_positive("LogNormal", "scale", scale)
        self.loc, self.scale = loc, scale
        self._broadcast(loc, scale)

    @staticmethod
    def _draw(uniform: Any, loc: float, scale: float) -> float:
        exponent = loc + scale * standard_normal_quantile(uniform())
        if _LOG_SMALLEST < exponent < _LOG_LARGEST:
            return math.exp(exponent)
        return SMALLEST if exponent < 0.0 else LARGEST

    @staticmethod
    def _log_density(value: float, loc: float, scale: float) -> float:
        if not 0.0 < value < math.inf:
            return -math.inf
        log_value = math.log(value)
        z = (log_value - loc) / scale
        return -0.5 * z * z - HALF_LOG_2PI - math.log(scale) - log_value

    @staticmethod
    def _log_densities(value: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
        log_value = np.log(value)
        z = (log_value - loc) / scale
        inside = -0.5 * z * z - HALF_LOG_2PI - np.log(scale) - log_value
        return np.where((value > 0.0) & (value < np.inf), inside, -np.inf)

    def inflated(self, factor: float) -> LogNormal:
        return LogNormal(self.loc, self.scale * factor)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import edge_twins

        return edge_twins.LogNormal(self.loc, self.scale)

    @property
    def mean(self) -> Any:
        with np.errstate(over="ignore"):
            return np.exp(self.loc + 0.5 * np.square(self.scale))

    @property
    def variance(self) -> Any:
        square = np.square(self.scale)
        with np.errstate(over="ignore"):
            return -np.expm1(-square) * np.exp(2.0 * (self.loc + square))  # no factor overflows where they do not all

    @property
    def support(self) -> tuple[Any, Any]:
        return 0.0, math.inf
