"""The Cauchy distribution and the half of it above 0."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ppl_jax.distributions.base import LARGEST, Elementwise, as_parameter, require_finite, require_positive

_LOG_PI = math.log(math.pi)
_LOG_HALF_PI = math.log(0.5 * math.pi)
_FAR = 1e150  # squares of what lies beyond overflow, and 1 is nothing beside them


def log1p_square(z: float) -> float:
    """log(1 + z**2), of numbers whose square overflows too."""
    return math.log1p(z * z) if -_FAR < z < _FAR else 2.0 * math.log(abs(z))


def log1p_squares(z: np.ndarray) -> np.ndarray:
    """``log1p_square``, elementwise."""
    z = np.abs(z)
    return np.where(z < _FAR, np.log1p(np.square(np.minimum(z, _FAR))), 2.0 * np.log(z))


class Cauchy(Elementwise):
    """Cauchy with median ``loc`` and half-width at half-maximum ``scale`` (positive); without mean and variance."""

    __slots__ = ("loc", "scale")
    parameters = ("loc", "scale")

    def __init__(self, loc: Any = 0.0, scale: Any = 1.0):
        loc, scale = as_parameter(loc), as_parameter(scale)
        require_finite("Cauchy", "loc", loc)
        require_positive("Cauchy", "scale", scale)
        self.loc, self.scale = loc, scale
        self._broadcast(loc, scale)

    @staticmethod
    def _draw(uniform: Any, loc: float, scale: float) -> float:
        value = loc + scale * math.tan(math.pi * (uniform() - 0.5))
        return min(max(value, -LARGEST), LARGEST)

    @staticmethod
    def _log_density(value: float, loc: float, scale: float) -> float:
        if not -math.inf < value < math.inf:
            return -math.inf
        return -_LOG_PI - math.log(scale) - log1p_square((value - loc) / scale)

    @staticmethod
    def _log_densities(value: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
        inside = -_LOG_PI - np.log(scale) - log1p_squares((value - loc) / scale)
        return np.where(np.isfinite(value), inside, -np.inf)

    def inflated(self, factor: float) -> Cauchy:
        return Cauchy(self.loc, self.scale * factor)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import tail_twins

        return tail_twins.Cauchy(self.loc, self.scale)

    @property
    def mean(self) -> Any:
        """NaN: there is none."""
        return np.full(self.shape, np.nan)[()]

    @property
    def variance(self) -> Any:
        """NaN: there is none."""
        return np.full(self.shape, np.nan)[()]

    @property
    def support(self) -> tuple[Any, Any]:
        return -math.inf, math.inf


class HalfCauchy(Elementwise):
    """The absolute value of a Cauchy variable around 0 with positive ``scale``. Its mean is infinite."""

    __slots__ = ("scale",)
    parameters = ("scale",)

    def __init__(self, scale: Any = 1.0):
        scale = as_parameter(scale)
        require_positive("HalfCauchy", "scale", scale)
        self.scale = scale
        self._broadcast(scale)

    @staticmethod
    def _draw(uniform: Any, scale: float) -> float:
        return min(scale * math.tan(0.5 * math.pi * uniform()), LARGEST)

    @staticmethod
    def _log_density(value: float, scale: float) -> float:
        if not 0.0 <= value < math.inf:
            return -math.inf
        return -_LOG_HALF_PI - math.log(scale) - log1p_square(value / scale)

    @staticmethod
    def _log_densities(value: np.ndarray, scale: np.ndarray) -> np.ndarray:
        inside = -_LOG_HALF_PI - np.log(scale) - log1p_squares(value / scale)
        return np.where((value >= 0.0) & (value < np.inf), inside, -np.inf)

    def inflated(self, factor: float) -> HalfCauchy:
        return HalfCauchy(self.scale * factor)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import tail_twins

        return tail_twins.HalfCauchy(self.scale)

    @property
    def mean(self) -> Any:
        """Infinite."""
        return np.full(self.shape, np.inf)[()]

    @property
    def variance(self) -> Any:
        """Infinite."""
        return np.full(self.shape, np.inf)[()]

    @property
    def support(self) -> tuple[Any, Any]:
        return 0.0, math.inf
