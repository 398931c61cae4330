"""The binomial distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import gammaln, xlog1py, xlogy

from ppl_jax.distributions.base import (
    LARGEST_COUNT,
    Elementwise,
    as_parameter,
    is_tracer,
    require,
    require_probability,
)
from ppl_jax.distributions.poisson import log_factorial


class Binomial(Elementwise):
    """Number of successes in ``total_count`` (an integer in [0, 2**53]) trials of probability ``probs`` in [0, 1]."""

    __slots__ = ("probs", "total_count")
    parameters = ("total_count", "probs")
    discrete = True

    def __init__(self, total_count: Any, probs: Any):
        total_count, probs = as_parameter(total_count), as_parameter(probs)
        if not is_tracer(total_count):
            if type(total_count) is float:
                counts: Any = 0.0 <= total_count <= LARGEST_COUNT and total_count.is_integer()
            else:
                counts = (total_count >= 0.0) & (total_count <= LARGEST_COUNT) & (total_count == np.floor(total_count))
            require(counts, "Binomial", "total_count", total_count, "an integer in [0, 2**53]")
        require_probability("Binomial", "probs", probs)
        self.total_count, self.probs = total_count, probs
        self._broadcast(total_count, probs)

    @staticmethod
    def _draw(uniform: Any, total_count: float, probs: float) -> int:
        n = int(total_count)
        if probs > 0.5:
            return n - Binomial._draw(uniform, total_count, 1.0 - probs)
        return _by_inversion(uniform(), n, probs) if n * probs < 10.0 else _by_rejection(uniform, n, probs)

    @staticmethod
    def _log_density(value: float, n: float, p: float) -> float:
        if not 0.0 <= value <= n or value != math.floor(value):
            return -math.inf
        choose = math.lgamma(n + 1.0) - math.lgamma(value + 1.0) - math.lgamma(n - value + 1.0)
        yes = 0.0 if value == 0.0 else value * math.log(p) if p > 0.0 else -math.inf
        no = 0.0 if value == n else (n - value) * math.log1p(-p) if p < 1.0 else -math.inf
        return choose + yes + no

    @staticmethod
    def _log_densities(value: np.ndarray, n: np.ndarray, p: np.ndarray) -> np.ndarray:
        inside = (value >= 0.0) & (value <= n) & (value == np.floor(value))
        choose = gammaln(n + 1.0) - gammaln(value + 1.0) - gammaln(n - value + 1.0)
        return np.where(inside, choose + xlogy(value, p) + xlog1py(n - value, -p), -np.inf)

    def to_numpyro(self) -> Any:
        from numpyro import distributions as npd

        count = self.total_count
        return npd.BinomialProbs(self.probs, count if is_tracer(count) else np.asarray(count, dtype=np.int64))

    @property
    def mean(self) -> Any:
        return self.total_count * self.probs

    @property
    def variance(self) -> Any:
        return self.total_count * self.probs * (1.0 - self.probs)

    @property
    def support(self) -> tuple[Any, Any]:
        return 0, self.total_count


def _by_inversion(u: float, n: int, p: float) -> int:
    k, mass = 0, math.exp(n * math.log1p(-p))
    cumulative, odds = mass, p / (1.0 - p)
    while u >= cumulative and k < n and mass > 0.0:
        k += 1
        mass *= odds * (n - k + 1) / k
        cumulative += mass
    return k


def _by_rejection(uniform: Any, n: int, p: float) -> int:
    """BTRS: Hörmann, "The generation of binomial random variates" (1993)."""
    spread = math.sqrt(n * p * (1.0 - p))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * p
    c = n * p + 0.5
    squeeze = 0.92 - 4.2 / b
    alpha = (2.83 + 5.1 / b) * spread
    log_odds = math.log(p / (1.0 - p))
    mode = math.floor((n + 1) * p)
    h = log_factorial(mode) + log_factorial(n - mode)
    while True:
        u = uniform() - 0.5
        v = uniform()
        us = 0.5 - abs(u)
        k = math.floor((2.0 * a / us + b) * u + c)
        if us >= 0.07 and v <= squeeze:
            return k
        if k < 0 or k > n:
            continue
        if math.log(v * alpha / (a / (us * us) + b)) <= (
            h - log_factorial(k) - log_factorial(n - k) + (k - mode) * log_odds
        ):
            return k
