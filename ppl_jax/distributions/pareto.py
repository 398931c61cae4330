"""The Pareto distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ppl_jax.distributions.base import LARGEST, Elementwise, as_parameter, require_positive


class Pareto(Elementwise):
    """Pareto on [``scale``, infinity): the chance to exceed x is (scale / x) ** ``alpha``; both are positive."""

    __slots__ = ("alpha", "scale")
    parameters = ("scale", "alpha")

    def __init__(self, scale: Any, alpha: Any):
        scale, alpha = as_parameter(scale), as_parameter(alpha)
        require_positive("Pareto", "scale", scale)
        require_positive("Pareto", "alpha", alpha)
        self.scale, self.alpha = scale, alpha
        self._broadcast(scale, alpha)

    @staticmethod
    def _draw(uniform: Any, scale: float, alpha: float) -> float:
        exponent = -math.log(uniform()) / alpha
        return min(scale * math.exp(exponent), LARGEST) if exponent < 709.0 else LARGEST

    @staticmethod
    def _log_density(value: float, scale: float, alpha: float) -> float:
        if not scale <= value < math.inf:
            return -math.inf
        log_value = math.log(value)
        return math.log(alpha) - alpha * (log_value - math.log(scale)) - log_value

    @staticmethod
    def _log_densities(value: np.ndarray, scale: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        log_value = np.log(value)
        inside = np.log(alpha) - alpha * (log_value - np.log(scale)) - log_value
        return np.where((value >= scale) & (value < np.inf), inside, -np.inf)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import tail_twins

        return tail_twins.Pareto(self.scale, self.alpha)

    @property
    def mean(self) -> Any:
        """Infinite where alpha <= 1."""
        alpha = np.asarray(self.alpha)
        safe = np.where(alpha > 1.0, alpha, 2.0)
        return np.where(alpha > 1.0, self.scale * (safe / (safe - 1.0)), np.inf)[()]

    @property
    def variance(self) -> Any:
        """Infinite where alpha <= 2."""
        alpha = np.asarray(self.alpha)
        safe = np.where(alpha > 2.0, alpha, 3.0)
        finite = np.square(self.scale / (safe - 1.0)) * (safe / (safe - 2.0))
        return np.where(alpha > 2.0, finite, np.inf)[()]

    @property
    def support(self) -> tuple[Any, Any]:
        return self.scale, math.inf
