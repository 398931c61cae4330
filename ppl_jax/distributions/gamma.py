"""The gamma distribution and its special case, the exponential."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import gammaln, xlogy

from ppl_jax.distributions.base import LARGEST, SMALLEST, Elementwise, as_parameter, require_positive
from ppl_jax.distributions.normal import standard_normal_quantile


def draw_standard_gamma(uniform: Any, concentration: float) -> float:
    """Gamma(concentration, 1) by Marsaglia & Tsang (ACM TOMS 26, 2000); 0 where the draw underflows."""
    if concentration < 1.0:
        boosted = draw_standard_gamma(uniform, concentration + 1.0)
        return boosted * uniform() ** (1.0 / concentration)
    d = concentration - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        z = standard_normal_quantile(uniform())
        t = 1.0 + c * z
        if t <= 0.0:
            continue
        v = t * t * t
        u = uniform()
        if u < 1.0 - 0.0331 * z * z * z * z or math.log(u) < 0.5 * z * z + d * (1.0 - v + math.log(v)):
            return d * v


class Gamma(Elementwise):
    """Gamma with shape ``concentration`` and inverse scale ``rate``, both positive."""

    __slots__ = ("concentration", "rate")
    parameters = ("concentration", "rate")

    def __init__(self, concentration: Any, rate: Any):
        concentration, rate = as_parameter(concentration), as_parameter(rate)
        require_positive("Gamma", "concentration", concentration)
        require_positive("Gamma", "rate", rate)
        self.concentration, self.rate = concentration, rate
        self._broadcast(concentration, rate)

    @staticmethod
    def _draw(uniform: Any, concentration: float, rate: float) -> float:
        value = draw_standard_gamma(uniform, concentration) / rate
        return value if SMALLEST < value < LARGEST else min(max(value, SMALLEST), LARGEST)

    @staticmethod
    def _log_density(value: float, concentration: float, rate: float) -> float:
        if not 0.0 <= value < math.inf:
            return -math.inf
        if value == 0.0:
            return math.log(rate) if concentration == 1.0 else math.copysign(math.inf, 1.0 - concentration)
        return (
            concentration * math.log(rate)
            + (concentration - 1.0) * math.log(value)
            - rate * value
            - math.lgamma(concentration)
        )

    @staticmethod
    def _log_densities(value: np.ndarray, concentration: np.ndarray, rate: np.ndarray) -> np.ndarray:
        inside = (
            concentration * np.log(rate) + xlogy(concentration - 1.0, value) - rate * value - gammaln(concentration)
        )
        return np.where((value >= 0.0) & (value < np.inf), inside, -np.inf)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import edge_twins

        return edge_twins.Gamma(self.concentration, self.rate)

    @property
    def mean(self) -> Any:
        return self.concentration / self.rate

    @property
    def variance(self) -> Any:
        return self.concentration / self.rate / self.rate

    @property
    def support(self) -> tuple[Any, Any]:
        return 0.0, math.inf


class Exponential(Elementwise):
    """Exponential with positive ``rate``."""

    __slots__ = ("rate",)
    parameters = ("rate",)

    def __init__(self, rate: Any):
        rate = as_parameter(rate)
        require_positive("Exponential", "rate", rate)
        self.rate = rate
        self._broadcast(rate)

    @staticmethod
    def _draw(uniform: Any, rate: float) -> float:
        return min(-math.log(uniform()) / rate, LARGEST)

    @staticmethod
    def _log_density(value: float, rate: float) -> float:
        return math.log(rate) - rate * value if value >= 0.0 else -math.inf

    @staticmethod
    def _log_densities(value: np.ndarray, rate: np.ndarray) -> np.ndarray:
        return np.where(value >= 0.0, np.log(rate) - rate * value, -np.inf)

    def inflated(self, factor: float) -> Exponential:
        return Exponential(self.rate / factor)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import edge_twins

        return edge_twins.Exponential(self.rate)

    @property
    def mean(self) -> Any:
        return 1.0 / self.rate

    @property
    def variance(self) -> Any:
        return 1.0 / self.rate / self.rate

    @property
    def support(self) -> tuple[Any, Any]:
        return 0.0, math.inf
