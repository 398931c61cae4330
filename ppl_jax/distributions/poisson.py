"""The Poisson distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import gammaln, xlogy

from ppl_jax.distributions.base import LARGEST_COUNT, Elementwise, as_parameter, is_tracer, require
from ppl_jax.distributions.deviance import log_poisson_masses

_BEYOND = 1e300  # values above have no mass in float64, and their log-factorials overflow
_LARGE = 1e5  # counts and rates from which log-factorials would lose more than 1e-10
_LOG_FACTORIALS = [math.log(math.factorial(k)) for k in range(16)]


def log_factorial(k: float) -> float:
    """log k!: a table below 16, Stirling's series above, so that other languages can agree digit for digit."""
    if k < 16:
        return _LOG_FACTORIALS[int(k)]
    n = k + 1.0
    inverse = 1.0 / (n * n)
    series = (1.0 / 12.0 - inverse * (1.0 / 360.0 - inverse * (1.0 / 1260.0 - inverse / 1680.0))) / n
    return (n - 0.5) * math.log(n) - n + 0.9189385332046727 + series


class Poisson(Elementwise):
    """Poisson with mean ``rate`` in [0, 2**53]; at rate 0, as in numpyro and scipy, all mass is at 0."""

    __slots__ = ("rate",)
    parameters = ("rate",)
    discrete = True

    def __init__(self, rate: Any):
        rate = as_parameter(rate)
        if not is_tracer(rate):
            inside = 0.0 <= rate <= LARGEST_COUNT if type(rate) is float else (rate >= 0.0) & (rate <= LARGEST_COUNT)
            require(inside, "Poisson", "rate", rate, "in [0, 2**53]")
        self.rate = rate
        self._broadcast(rate)

    @staticmethod
    def _draw(uniform: Any, rate: float) -> int:
        return _by_inversion(uniform(), rate) if rate < 10.0 else _by_rejection(uniform, rate)

    @staticmethod
    def _log_density(value: float, rate: float) -> float:
        if not 0.0 <= value < _BEYOND or value != math.floor(value):
            return -math.inf
        if rate == 0.0:
            return 0.0 if value == 0.0 else -math.inf
        if value >= _LARGE or rate >= _LARGE:
            return float(Poisson._large(np.array(value), np.array(rate)))
        return value * math.log(rate) - rate - math.lgamma(value + 1.0)

    @staticmethod
    def _log_densities(value: np.ndarray, rate: np.ndarray) -> np.ndarray:
        inside = (value >= 0.0) & (value < _BEYOND) & (value == np.floor(value))
        masses = xlogy(value, rate) - rate - gammaln(value + 1.0)
        large = inside & ((value >= _LARGE) | (rate >= _LARGE))
        if large.any():
            masses = np.where(large, Poisson._large(np.where(inside, value, 0.0), rate), masses)
        return np.where(inside, masses, -np.inf)

    @staticmethod
    def _large(value: np.ndarray, rate: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return log_poisson_masses(value, rate)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import choice_twins

        return choice_twins.Poisson(self.rate)

    @property
    def mean(self) -> Any:
        return self.rate

    @property
    def variance(self) -> Any:
        return self.rate

    @property
    def support(self) -> tuple[Any, Any]:
        return 0, math.inf


def _by_inversion(u: float, rate: float) -> int:
    k, mass = 0, math.exp(-rate)
    cumulative = mass
    while u >= cumulative and mass > 0.0:
        k += 1
        mass *= rate / k
        cumulative += mass
    return k


def _by_rejection(uniform: Any, rate: float) -> int:
    """PTRS: Hörmann, "The transformed rejection method for generating Poisson random variables" (1993)."""
    log_rate = math.log(rate)
    b = 0.931 + 2.53 * math.sqrt(rate)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    squeeze = 0.9277 - 3.6224 / (b - 2.0)
    while True:
        u = uniform() - 0.5
        v = uniform()
        us = 0.5 - abs(u)
        k = math.floor((2.0 * a / us + b) * u + rate + 0.43)
        if us >= 0.07 and v <= squeeze:
            return k
        if k < 0 or (us < 0.013 and v > us):
            continue
        if math.log(v * inverse_alpha / (a / (us * us) + b)) <= k * log_rate - rate - log_factorial(k):
            return k
