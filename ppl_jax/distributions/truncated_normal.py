"""The normal distribution truncated to an interval."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import erf, erfcx

from ppl_jax.distributions.base import (
    Elementwise,
    as_parameter,
    require_below,
    require_finite,
    require_number,
    require_positive,
)
from ppl_jax.distributions.normal import HALF_LOG_2PI, standard_normal_quantile

_SQRT2 = math.sqrt(2.0)
_SQRT_HALF_PI = math.sqrt(0.5 * math.pi)
_NARROW = 1e-5  # below this, a difference of scaled tails loses more digits than three terms of its series
_NEGLIGIBLE = 90.0  # twice how far below its highest value, in logarithms, a density adds nothing to a moment
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(96)
_TAIL = 8.0  # beyond this many standard deviations rejection from an exponential is exact and nearly always accepts


class TruncatedNormal(Elementwise):
    """Normal(``loc``, ``scale``) restricted to [``low``, ``high``]; the bounds may be infinite, low < high."""

    __slots__ = ("high", "loc", "low", "scale")
    parameters = ("loc", "scale", "low", "high")

    def __init__(self, loc: Any, scale: Any, low: Any, high: Any):
        loc, scale, low, high = (as_parameter(value) for value in (loc, scale, low, high))
        require_finite("TruncatedNormal", "loc", loc)
        require_positive("TruncatedNormal", "scale", scale)
        require_number("TruncatedNormal", "low", low)
        require_number("TruncatedNormal", "high", high)
        self.loc, self.scale, self.low, self.high = loc, scale, low, high
        self._broadcast(loc, scale, low, high)
        require_below("TruncatedNormal", low, high)

    @staticmethod
    def _draw(uniform: Any, loc: float, scale: float, low: float, high: float) -> float:
        a, b = (low - loc) / scale, (high - loc) / scale
        flip = a > 0.0  # the left tail keeps the precision of the cumulative distribution
        if flip:
            a, b = -b, -a
        if b == -math.inf:  # so far out in units of scale that only the nearer bound is left
            return low if flip else high
        z = _draw_far_left(uniform, a, b) if b < -_TAIL else _draw_by_inversion(uniform(), a, b)
        value = loc + scale * (-z if flip else z)
        return min(max(value, low), high)

    @staticmethod
    def _log_density(value: float, loc: float, scale: float, low: float, high: float) -> float:
        if not low <= value <= high or math.isinf(value):
            return -math.inf
        z, a, b = (value - loc) / scale, (low - loc) / scale, (high - loc) / scale
        if a < 0.0 < b:
            mass = 0.5 * (math.erf(b / _SQRT2) - math.erf(a / _SQRT2))
            return -0.5 * z * z - HALF_LOG_2PI - math.log(mass) - math.log(scale)
        # One tail: everything is taken relative to the density at the bound nearer to loc, c standard deviations away.
        c, above = (a, (value - low) / scale) if a >= 0.0 else (-b, (high - value) / scale)
        width = (high - low) / scale
        fall = width * (c + 0.5 * width)
        if fall < _NARROW:
            log_mass = math.log1p(_narrow_mass(c, width)) + math.log(high - low)
        else:
            far = math.exp(-fall) * float(erfcx((c + width) / _SQRT2)) if fall < 700.0 else 0.0
            log_mass = math.log(_SQRT_HALF_PI * (float(erfcx(c / _SQRT2)) - far)) + math.log(scale)
        return -above * (c + 0.5 * above) - log_mass

    @staticmethod
    def _log_densities(
        value: np.ndarray, loc: np.ndarray, scale: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> np.ndarray:
        z, a, b = (value - loc) / scale, (low - loc) / scale, (high - loc) / scale
        mass = 0.5 * (erf(b / _SQRT2) - erf(a / _SQRT2))
        around = -0.5 * z * z - HALF_LOG_2PI - np.log(mass) - np.log(scale)
        c = np.where(a >= 0.0, a, -b)
        above = np.where(a >= 0.0, value - low, high - value) / scale
        width = (high - low) / scale
        fall = width * (c + 0.5 * width)
        near, far = erfcx(c / _SQRT2), np.where(fall < 700.0, np.exp(-fall) * erfcx((c + width) / _SQRT2), 0.0)
        narrow = np.log1p(_narrow_mass(c, width)) + np.log(high - low)
        log_mass = np.where(fall < _NARROW, narrow, np.log(_SQRT_HALF_PI * (near - far)) + np.log(scale))
        inside = np.where((a < 0.0) & (b > 0.0), around, -above * (c + 0.5 * above) - log_mass)
        return np.where((value >= low) & (value <= high) & np.isfinite(value), inside, -np.inf)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions.truncated_twin import TruncatedNormalTwin

        return TruncatedNormalTwin(self.loc, self.scale, self.low, self.high)

    def inflated(self, factor: float) -> TruncatedNormal:
        return TruncatedNormal(self.loc, self.scale * factor, self.low, self.high)

    def _moments(self) -> tuple[Any, Any]:
        """Mean and standard deviation, by quadrature of the density around its mode.

        The closed formulas are differences of ratios of tails, of which nothing is left far out; here all terms are
        positive, and the distance from the mode is integrated, not the value.
        """
        mode = np.clip(self.loc, self.low, self.high)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            slope = (mode - self.loc) / self.scale
            reach = _NEGLIGIBLE / (np.abs(slope) + np.hypot(slope, math.sqrt(_NEGLIGIBLE)))
            left = np.maximum((self.low - mode) / self.scale, -reach)
            right = np.minimum((self.high - mode) / self.scale, reach)
            half = 0.5 * (right - left)[..., None]
            offsets = half * _NODES  # from the middle
            t = (0.5 * (left + right))[..., None] + offsets
            density = _NODE_WEIGHTS * np.exp(-t * (np.expand_dims(slope, -1) + 0.5 * t))
            density /= density.sum(axis=-1, keepdims=True)
            shift = (density * t).sum(axis=-1)
            spread = np.sqrt((density * np.square(t - shift[..., None])).sum(axis=-1))
            mean = np.clip(mode + self.scale * shift, self.low, self.high)
            return mean[()], (self.scale * spread)[()]

    @property
    def mean(self) -> Any:
        return self._moments()[0]

    @property
    def variance(self) -> Any:
        return np.square(self.stddev)

    @property
    def stddev(self) -> Any:
        return self._moments()[1]

    @property
    def support(self) -> tuple[Any, Any]:
        return self.low, self.high


def _cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / _SQRT2)


def _draw_by_inversion(u: float, a: float, b: float) -> float:
    left = _cdf(a)
    p = left + u * (_cdf(b) - left)
    return standard_normal_quantile(p if p < 1.0 else 1.0 - 2.0**-53)


def _draw_far_left(uniform: Any, a: float, b: float) -> float:
    """Below ``b`` << 0, above ``a``: Robert's rejection (Statistics and Computing 5, 1995) from an exponential.

    The exponential is itself cut off at ``a``, so that a narrow interval is no reason to reject.
    """
    cut = math.expm1(b * (b - a))
    while True:
        step = math.log1p(uniform() * cut) / b
        if uniform() < math.exp(-0.5 * step * step):
            return b - step


def _narrow_mass(c: Any, width: Any) -> Any:
    """The integral of exp(-c t - t^2 / 2) over [0, width], over width, less 1: its series where c * width << 1."""
    x = c * width
    return -0.5 * x + (x * x - width * width) / 6.0
