"""The inverse gamma distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import gammaln

from ppl_jax.distributions.base import LARGEST, SMALLEST, Elementwise, as_parameter, require_positive
from ppl_jax.distributions.gamma import draw_standard_gamma


class InverseGamma(Elementwise):
    """1 over a gamma variable of shape ``concentration`` and inverse scale ``rate``, both positive.

    The rate is the scale of the inverse: draws are proportional to it.
    """

    __slots__ = ("concentration", "rate")
    parameters = ("concentration", "rate")

    def __init__(self, concentration: Any, rate: Any = 1.0):
        concentration, rate = as_parameter(concentration), as_parameter(rate)
        require_positive("InverseGamma", "concentration", concentration)
        require_positive("InverseGamma", "rate", rate)
        self.concentration, self.rate = concentration, rate
        self._broadcast(concentration, rate)

    @staticmethod
    def _draw(uniform: Any, concentration: float, rate: float) -> float:
        value = rate / max(draw_standard_gamma(uniform, concentration), SMALLEST)
        return min(max(value, SMALLEST), LARGEST)

    @staticmethod
    def _log_density(value: float, concentration: float, rate: float) -> float:
        if not 0.0 < value < math.inf:
            return -math.inf
        norm = concentration * math.log(rate) - math.lgamma(concentration)
        return norm - (concentration + 1.0) * math.log(value) - rate / value

    @staticmethod
    def _log_densities(value: np.ndarray, concentration: np.ndarray, rate: np.ndarray) -> np.ndarray:
        norm = concentration * np.log(rate) - gammaln(concentration)
        inside = norm - (concentration + 1.0) * np.log(value) - rate / value
        return np.where((value > 0.0) & (value < np.inf), inside, -np.inf)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import tail_twins

        return tail_twins.InverseGamma(self.concentration, self.rate)

    @property
    def mean(self) -> Any:
        """Infinite where concentration <= 1."""
        above = np.asarray(self.concentration) - 1.0
        return np.where(above > 0.0, self.rate / np.where(above > 0.0, above, 1.0), np.inf)[()]

    @property
    def variance(self) -> Any:
        """Infinite where concentration <= 2."""
        above = np.asarray(self.concentration) - 2.0
        safe = np.where(above > 0.0, above, 1.0)
        return np.where(above > 0.0, np.square(self.rate / (safe + 1.0)) / safe, np.inf)[()]

    @property
    def support(self) -> tuple[Any, Any]:
        return 0.0, math.inf
