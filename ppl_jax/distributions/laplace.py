"""The Laplace distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ppl_jax.distributions.base import Elementwise, as_parameter, require_finite, require_positive

_LOG_2 = math.log(2.0)


class Laplace(Elementwise):
    """Laplace (two exponentials back to back) with median ``loc`` and mean distance from it ``scale`` (positive)."""

    __slots__ = ("loc", "scale")
    parameters = ("loc", "scale")

    def __init__(self, loc: Any = 0.0, scale: Any = 1.0):
        loc, scale = as_parameter(loc), as_parameter(scale)
        require_finite("Laplace", "loc", loc)
        require_positive("Laplace", "scale", scale)
        self.loc, self.scale = loc, scale
        self._broadcast(loc, scale)

    @staticmethod
    def _draw(uniform: Any, loc: float, scale: float) -> float:
        u = uniform()
        return loc + scale * math.log(2.0 * u) if u < 0.5 else loc - scale * math.log(2.0 * (1.0 - u))

    @staticmethod
    def _log_density(value: float, loc: float, scale: float) -> float:
        z = abs(value - loc) / scale
        return -z - _LOG_2 - math.log(scale) if z == z else -math.inf

    @staticmethod
    def _log_densities(value: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
        inside = -np.abs(value - loc) / scale - _LOG_2 - np.log(scale)
        return np.where(np.isnan(value), -np.inf, inside)

    def inflated(self, factor: float) -> Laplace:
        return Laplace(self.loc, self.scale * factor)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import tail_twins

        return tail_twins.Laplace(self.loc, self.scale)

    @property
    def mean(self) -> Any:
        return np.broadcast_to(self.loc, self.shape)[()]

    @property
    def variance(self) -> Any:
        return np.broadcast_to(2.0 * np.square(self.scale), self.shape)[()]

    @property
    def support(self) -> tuple[Any, Any]:
        return -math.inf, math.inf
