"""The von Mises distribution on the circle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import i0e, i1e

from ppl_jax.distributions.base import Elementwise, as_parameter, require_finite, require_positive

_LOG_2PI = math.log(2.0 * math.pi)
_SERIES_FROM = 100.0  # concentration from which the variance is a series


class VonMises(Elementwise):
    """Angle in [-pi, pi) around ``loc`` with positive ``concentration``; radians."""

    __slots__ = ("concentration", "loc")
    parameters = ("loc", "concentration")

    def __init__(self, loc: Any, concentration: Any):
        loc, concentration = as_parameter(loc), as_parameter(concentration)
        require_finite("VonMises", "loc", loc)
        require_positive("VonMises", "concentration", concentration)
        self.loc, self.concentration = loc, concentration
        self._broadcast(loc, concentration)

    @staticmethod
    def _draw(uniform: Any, loc: float, concentration: float) -> float:
        """Best & Fisher (Applied Statistics 28, 1979): rejection from a wrapped Cauchy.

        With s = r - 1 for their r, written in h = concentration * s and w = 1 / s, which neither cancel where the
        concentration is large nor overflow where it is small. The envelope's angle is then 2 atan(tan(pi u / 2) / q),
        q = sqrt(1 + 2 w), in place of acos(f), and their c = concentration * (r - f) is as below.
        """
        h = 0.5 + 0.5 / (math.sqrt(1.0 + 4.0 * concentration * concentration) + 2.0 * concentration)
        w = min(concentration / h, 1e300)  # a point, and the squares below do not overflow
        ratio = 1.0 + 2.0 * w
        while True:
            half = 0.5 * math.pi * uniform()
            cosine = math.cos(half)
            c = h * ratio / (1.0 + 2.0 * w * cosine * cosine)
            u = uniform()
            if c * (2.0 - c) > u or math.log(c / u) + 1.0 >= c:
                break
        angle = 2.0 * math.atan(math.tan(half) / math.sqrt(ratio))
        return _wrapped(loc + angle if uniform() > 0.5 else loc - angle)

    @staticmethod
    def _log_density(value: float, loc: float, concentration: float) -> float:
        if not -math.pi <= value <= math.pi:
            return -math.inf
        sine = math.sin(0.5 * (value - loc))  # cos(x) - 1 = -2 sin(x/2)**2, without its cancellation
        return -2.0 * concentration * sine * sine - _LOG_2PI - math.log(float(i0e(concentration)))

    @staticmethod
    def _log_densities(value: np.ndarray, loc: np.ndarray, concentration: np.ndarray) -> np.ndarray:
        sine = np.sin(0.5 * (value - loc))
        inside = -2.0 * concentration * sine * sine - _LOG_2PI - np.log(i0e(concentration))
        return np.where(np.abs(value) <= math.pi, inside, -np.inf)

    def inflated(self, factor: float) -> VonMises:
        return VonMises(self.loc, self.concentration / factor**2)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import edge_twins

        return edge_twins.VonMises(self.loc, self.concentration)

    @property
    def mean(self) -> Any:
        """The mean direction, in [-pi, pi)."""
        wrapped = (np.asarray(self.loc) + np.pi) % (2.0 * np.pi) - np.pi
        return np.broadcast_to(wrapped, self.shape)[()]

    @property
    def variance(self) -> Any:
        """The circular variance, in [0, 1]."""
        w = 1.0 / np.maximum(self.concentration, _SERIES_FROM)
        series = w * (0.5 + w * (1.0 + w * (1.0 + w * (25.0 / 16.0 + w * (13.0 / 4.0 + w * 1073.0 / 128.0)))) / 8.0)
        direct = 1.0 - i1e(self.concentration) / i0e(self.concentration)  # large concentrations leave no digits of it
        return np.broadcast_to(np.where(np.less(self.concentration, _SERIES_FROM), direct, series), self.shape)[()]

    @property
    def support(self) -> tuple[Any, Any]:
        return -math.pi, math.pi


def _wrapped(angle: float) -> float:
    """``angle`` moved by turns into [-pi, pi); one that is there already keeps all its digits."""
    if -math.pi <= angle < math.pi:
        return angle
    angle = (angle + math.pi) % (2.0 * math.pi) - math.pi
    return angle if angle < math.pi else -math.pi
