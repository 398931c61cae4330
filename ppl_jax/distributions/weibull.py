"""The Weibull distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import gamma as gamma_function
from scipy.special import gammaln, zeta

from ppl_jax.distributions.base import LARGEST, SMALLEST, Elementwise, as_parameter, require_positive


class Weibull(Elementwise):
    """Weibull with positive ``scale`` and shape ``concentration``."""

    __slots__ = ("concentration", "scale")
    parameters = ("scale", "concentration")

    def __init__(self, scale: Any, concentration: Any):
        scale, concentration = as_parameter(scale), as_parameter(concentration)
        require_positive("Weibull", "scale", scale)
        require_positive("Weibull", "concentration", concentration)
        self.scale, self.concentration = scale, concentration
        self._broadcast(scale, concentration)

    @staticmethod
    def _draw(uniform: Any, scale: float, concentration: float) -> float:
        try:
            value = scale * (-math.log(uniform())) ** (1.0 / concentration)
        except OverflowError:  # concentrations below 0.01 reach beyond float64 on both sides
            return LARGEST
        return value if SMALLEST < value < LARGEST else min(max(value, SMALLEST), LARGEST)

    @staticmethod
    def _log_density(value: float, scale: float, concentration: float) -> float:
        if not 0.0 <= value < math.inf:
            return -math.inf
        if value == 0.0:
            return -math.log(scale) if concentration == 1.0 else math.copysign(math.inf, 1.0 - concentration)
        log_scale = math.log(scale)
        log_ratio = math.log(value) - log_scale
        exponent = concentration * log_ratio
        if exponent > 700.0:
            return -math.inf
        return math.log(concentration) - log_scale + (exponent - log_ratio) - math.exp(exponent)

    @staticmethod
    def _log_densities(value: np.ndarray, scale: np.ndarray, concentration: np.ndarray) -> np.ndarray:
        log_ratio = np.log(value) - np.log(scale)
        exponent = concentration * log_ratio
        inside = np.log(concentration) - np.log(scale) + (exponent - log_ratio) - np.exp(exponent)
        at_zero = np.where(concentration == 1.0, -np.log(scale), np.copysign(np.inf, 1.0 - concentration))
        inside = np.where(value == 0.0, at_zero, np.where(exponent > 700.0, -np.inf, inside))
        return np.where((value >= 0.0) & (value < np.inf), inside, -np.inf)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import edge_twins

        return edge_twins.Weibull(self.scale, self.concentration)

    @property
    def mean(self) -> Any:
        return self.scale * gamma_function(1.0 + 1.0 / self.concentration)

    @property
    def variance(self) -> Any:
        with np.errstate(over="ignore"):
            return np.square(self.mean) * np.expm1(_log_ratio(1.0 / self.concentration))

    @property
    def support(self) -> tuple[Any, Any]:
        return 0.0, math.inf


#: Of log(Gamma(1 + 2x) / Gamma(1 + x)**2) in powers of x, from x**15 down to x**2.
_SERIES = [(-1.0) ** k * (2.0**k - 2.0) * float(zeta(k)) / k for k in range(15, 1, -1)]
_SERIES_BELOW = 0.03


def _log_ratio(x: Any) -> Any:
    """log(Gamma(1 + 2x) / Gamma(1 + x)**2) of x > 0, which goes to 0 as x**2."""
    small = np.minimum(x, _SERIES_BELOW)
    series = np.polyval([*_SERIES, 0.0, 0.0], small)
    return np.where(np.less(x, _SERIES_BELOW), series, gammaln(1.0 + 2.0 * x) - 2.0 * gammaln(1.0 + x))[()]
