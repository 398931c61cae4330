"""The logistic distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ppl_jax.distributions.base import Elementwise, as_parameter, require_finite, require_positive


class Logistic(Elementwise):
    """Logistic with mean ``loc`` and positive ``scale``; its standard deviation is pi / sqrt(3) times the scale."""

    __slots__ = ("loc", "scale")
    parameters = ("loc", "scale")

    def __init__(self, loc: Any = 0.0, scale: Any = 1.0):
        loc, scale = as_parameter(loc), as_parameter(scale)
        require_finite("Logistic", "loc", loc)
        require_positive("Logistic", "scale", scale)
        self.loc, self.scale = loc, scale
        self._broadcast(loc, scale)

    @staticmethod
    def _draw(uniform: Any, loc: float, scale: float) -> float:
        u = uniform()
        return loc + scale * (math.log(u) - math.log1p(-u))

    @staticmethod
    def _log_density(value: float, loc: float, scale: float) -> float:
        z = abs(value - loc) / scale
        return -z - 2.0 * math.log1p(math.exp(-z)) - math.log(scale) if z == z else -math.inf

    @staticmethod
    def _log_densities(value: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
        z = np.abs(value - loc) / scale
        return np.where(np.isnan(value), -np.inf, -z - 2.0 * np.log1p(np.exp(-z)) - np.log(scale))

    def inflated(self, factor: float) -> Logistic:
        return Logistic(self.loc, self.scale * factor)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import tail_twins

        return tail_twins.Logistic(self.loc, self.scale)

    @property
    def mean(self) -> Any:
        return np.broadcast_to(self.loc, self.shape)[()]

    @property
    def variance(self) -> Any:
        return np.broadcast_to(np.square(self.scale) * (math.pi**2 / 3.0), self.shape)[()]

    @property
    def support(self) -> tuple[Any, Any]:
        return -math.inf, math.inf
