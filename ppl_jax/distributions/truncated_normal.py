"""The normal distribution truncated to an interval."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import log_ndtr

from ppl_jax.distributions.base import (
    Elementwise,
    as_parameter,
    is_tracer,
    require,
    require_finite,
    require_positive,
)
from ppl_jax.distributions.normal import HALF_LOG_2PI, standard_normal_quantile

_TAIL = 8.0  # beyond this many standard deviations rejection from an exponential is exact and nearly always accepts


class TruncatedNormal(Elementwise):
    """Normal(``loc``, ``scale``) restricted to [``low``, ``high``]; the bounds may be infinite, low < high."""

    __slots__ = ("high", "loc", "low", "scale")
    parameters = ("loc", "scale", "low", "high")

    def __init__(self, loc: Any, scale: Any, low: Any, high: Any):
        loc, scale, low, high = (as_parameter(value) for value in (loc, scale, low, high))
        require_finite("TruncatedNormal", "loc", loc)
        require_positive("TruncatedNormal", "scale", scale)
        if not (is_tracer(low) or is_tracer(high)):
            require(np.less(low, high), "TruncatedNormal", "high", high, f"above low = {low!r}")
        self._set(loc, scale, low, high)

    @staticmethod
    def _draw(uniform: Any, loc: float, scale: float, low: float, high: float) -> float:
        a, b = (low - loc) / scale, (high - loc) / scale
        flip = a > 0.0  # the left tail keeps the precision of the cumulative distribution
        if flip:
            a, b = -b, -a
        z = _draw_far_left(uniform, a, b) if b < -_TAIL else _draw_by_inversion(uniform(), a, b)
        value = loc + scale * (-z if flip else z)
        return min(max(value, low), high)

    @staticmethod
    def _log_density(value: float, loc: float, scale: float, low: float, high: float) -> float:
        if not low <= value <= high:
            return -math.inf
        z = (value - loc) / scale
        mass = _log_mass(np.float64((low - loc) / scale), np.float64((high - loc) / scale))
        return -0.5 * z * z - HALF_LOG_2PI - math.log(scale) - float(mass)

    @staticmethod
    def _log_densities(
        value: np.ndarray, loc: np.ndarray, scale: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> np.ndarray:
        z = (value - loc) / scale
        mass = _log_mass((low - loc) / scale, (high - loc) / scale)
        inside = -0.5 * z * z - HALF_LOG_2PI - np.log(scale) - mass
        return np.where((value >= low) & (value <= high), inside, -np.inf)

    def to_numpyro(self) -> Any:
        from numpyro import distributions as npd

        low = None if type(self.low) is float and self.low == -math.inf else self.low
        high = None if type(self.high) is float and self.high == math.inf else self.high
        return npd.TruncatedNormal(self.loc, self.scale, low=low, high=high)

    def inflated(self, factor: float) -> TruncatedNormal:
        return TruncatedNormal(self.loc, self.scale * factor, self.low, self.high)

    def _moments(self) -> tuple[Any, Any]:
        from scipy.stats import truncnorm

        a, b = (self.low - self.loc) / self.scale, (self.high - self.loc) / self.scale
        return truncnorm.stats(a, b, loc=self.loc, scale=self.scale, moments="mv")

    @property
    def mean(self) -> Any:
        return self._moments()[0]

    @property
    def variance(self) -> Any:
        return self._moments()[1]

    @property
    def support(self) -> tuple[Any, Any]:
        return self.low, self.high


def _cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def _draw_by_inversion(u: float, a: float, b: float) -> float:
    left = _cdf(a)
    p = left + u * (_cdf(b) - left)
    return standard_normal_quantile(p) if 0.0 < p < 1.0 else a if p <= 0.0 else b


def _draw_far_left(uniform: Any, a: float, b: float) -> float:
    """Robert (Statistics and Computing 5, 1995): exponential rejection below ``b`` << 0, again if below ``a``."""
    while True:
        step = -math.log(uniform()) / -b
        if uniform() < math.exp(-0.5 * step * step) and b - step >= a:
            return b - step


def _log_mass(a: Any, b: Any) -> Any:
    """log(Phi(b) - Phi(a)), precise in both tails."""
    flip = a > 0.0
    a, b = np.where(flip, -b, a), np.where(flip, -a, b)
    log_b = log_ndtr(b)
    with np.errstate(divide="ignore"):
        return log_b + np.log1p(-np.exp(log_ndtr(a) - log_b))
