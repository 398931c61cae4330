"""The von Mises distribution on the circle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import i0e, i1e

from ppl_jax.distributions.base import Elementwise, as_parameter, require_finite, require_positive

_LOG_2PI = math.log(2.0 * math.pi)


class VonMises(Elementwise):
    """Angle in [-pi, pi) around ``loc`` with positive ``concentration``; radians."""

    __slots__ = ("concentration", "loc")
    parameters = ("loc", "concentration")

    def __init__(self, loc: Any, concentration: Any):
        loc, concentration = as_parameter(loc), as_parameter(concentration)
        require_finite("VonMises", "loc", loc)
        require_positive("VonMises", "concentration", concentration)
        self._set(loc, concentration)

    @staticmethod
    def _draw(uniform: Any, loc: float, concentration: float) -> float:
        """Best & Fisher (Applied Statistics 28, 1979)."""
        tau = 1.0 + math.sqrt(1.0 + 4.0 * concentration * concentration)
        rho = (tau - math.sqrt(2.0 * tau)) / (2.0 * concentration)
        if rho < 1e-5:  # nearly uniform: r = 1/rho to first order, without the cancellation in rho
            r = 1.0 / concentration + concentration
        else:
            r = (1.0 + rho * rho) / (2.0 * rho)
        while True:
            z = math.cos(math.pi * uniform())
            f = (1.0 + r * z) / (r + z)
            c = concentration * (r - f)
            u = uniform()
            if c * (2.0 - c) > u or math.log(c / u) + 1.0 >= c:
                break
        angle = math.acos(max(-1.0, min(1.0, f)))
        angle = loc + (angle if uniform() > 0.5 else -angle)
        return (angle + math.pi) % (2.0 * math.pi) - math.pi

    @staticmethod
    def _log_density(value: float, loc: float, concentration: float) -> float:
        if not -math.pi <= value <= math.pi:
            return -math.inf
        return concentration * (math.cos(value - loc) - 1.0) - _LOG_2PI - math.log(float(i0e(concentration)))

    @staticmethod
    def _log_densities(value: np.ndarray, loc: np.ndarray, concentration: np.ndarray) -> np.ndarray:
        inside = concentration * (np.cos(value - loc) - 1.0) - _LOG_2PI - np.log(i0e(concentration))
        return np.where(np.abs(value) <= math.pi, inside, -np.inf)

    def inflated(self, factor: float) -> VonMises:
        return VonMises(self.loc, self.concentration / factor**2)

    def to_numpyro(self) -> Any:
        from numpyro import distributions as npd

        return npd.VonMises(self.loc, self.concentration)

    @property
    def mean(self) -> Any:
        return self.loc

    @property
    def variance(self) -> Any:
        """Circular variance."""
        return 1.0 - i1e(self.concentration) / i0e(self.concentration)

    @property
    def support(self) -> tuple[Any, Any]:
        return -math.pi, math.pi
