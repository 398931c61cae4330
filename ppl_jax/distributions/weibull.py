"""The Weibull distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import gamma as gamma_function
from scipy.special import xlogy

from ppl_jax.distributions.base import Elementwise, as_parameter, require_positive


class Weibull(Elementwise):
    """Weibull with positive ``scale`` and shape ``concentration``."""

    __slots__ = ("concentration", "scale")
    parameters = ("scale", "concentration")

    def __init__(self, scale: Any, concentration: Any):
        scale, concentration = as_parameter(scale), as_parameter(concentration)
        require_positive("Weibull", "scale", scale)
        require_positive("Weibull", "concentration", concentration)
        self._set(scale, concentration)

    @staticmethod
    def _draw(uniform: Any, scale: float, concentration: float) -> float:
        return scale * (-math.log(uniform())) ** (1.0 / concentration)

    @staticmethod
    def _log_density(value: float, scale: float, concentration: float) -> float:
        if value < 0.0 or value == math.inf:
            return -math.inf
        ratio = value / scale
        if ratio == 0.0:
            return -math.log(scale) if concentration == 1.0 else math.copysign(math.inf, 1.0 - concentration)
        return math.log(concentration / scale) + (concentration - 1.0) * math.log(ratio) - ratio**concentration

    @staticmethod
    def _log_densities(value: np.ndarray, scale: np.ndarray, concentration: np.ndarray) -> np.ndarray:
        ratio = value / scale
        inside = np.log(concentration / scale) + xlogy(concentration - 1.0, ratio) - ratio**concentration
        return np.where((value >= 0.0) & (value < np.inf), inside, -np.inf)

    def to_numpyro(self) -> Any:
        from numpyro import distributions as npd

        return npd.Weibull(self.scale, self.concentration)

    @property
    def mean(self) -> Any:
        return self.scale * gamma_function(1.0 + 1.0 / self.concentration)

    @property
    def variance(self) -> Any:
        second = gamma_function(1.0 + 2.0 / self.concentration)
        return np.square(self.scale) * (second - np.square(gamma_function(1.0 + 1.0 / self.concentration)))

    @property
    def support(self) -> tuple[Any, Any]:
        return 0.0, math.inf
