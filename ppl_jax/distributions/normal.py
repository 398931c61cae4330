"""The normal distribution."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from ppl_jax.distributions.base import (
    Elementwise,
    UniformSource,
    as_parameter,
    require_finite,
    require_positive,
)

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)

#: Quantile function of the standard normal: Wichura's AS241 (Applied Statistics 37, 1988); the standard library has it
#: in C.
standard_normal_quantile = NormalDist().inv_cdf


class Normal(Elementwise):
    """Normal with mean ``loc`` (any finite value) and standard deviation ``scale`` (positive)."""

    __slots__ = ("loc", "scale")
    parameters = ("loc", "scale")

    def __init__(self, loc: Any, scale: Any):
        if type(loc) is float and type(scale) is float and -math.inf < loc < math.inf and 0.0 < scale < math.inf:
            self.loc, self.scale, self.shape, self._floats = loc, scale, (), (loc, scale)
            return
        loc, scale = as_parameter(loc), as_parameter(scale)
        require_finite("Normal", "loc", loc)
        require_positive("Normal", "scale", scale)
        self.loc, self.scale = loc, scale
        self._broadcast(loc, scale)

    @staticmethod
    def _draw(uniform: Any, loc: float, scale: float) -> float:
        return loc + scale * standard_normal_quantile(uniform())

    @staticmethod
    def _log_density(value: float, loc: float, scale: float) -> float:
        z = (value - loc) / scale
        return -0.5 * z * z - HALF_LOG_2PI - math.log(scale) if z == z else -math.inf

    @staticmethod
    def _log_densities(value: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
        z = (value - loc) / scale
        return np.where(np.isnan(value), -np.inf, -0.5 * z * z - HALF_LOG_2PI - np.log(scale))

    # The most used family: the two methods below only save the generic dispatch of Elementwise.
    def sample(self, rng: UniformSource) -> Any:
        if self._floats is not None:
            return self.loc + self.scale * standard_normal_quantile(rng.random())
        return super().sample(rng)

    def log_prob(self, value: Any) -> Any:
        if type(value) is float and self._floats is not None:
            z = (value - self.loc) / self.scale
            return -0.5 * z * z - HALF_LOG_2PI - math.log(self.scale) if z == z else -math.inf
        return super().log_prob(value)

    def inflated(self, factor: float) -> Normal:
        return Normal(self.loc, self.scale * factor)

    def to_numpyro(self) -> Any:
        from numpyro import distributions as npd

        return npd.Normal(self.loc, self.scale)

    @property
    def mean(self) -> Any:
        return np.broadcast_to(self.loc, self.shape)[()]

    @property
    def variance(self) -> Any:
        return np.broadcast_to(np.square(self.scale), self.shape)[()]

    @property
    def support(self) -> tuple[Any, Any]:
        return -math.inf, math.inf
