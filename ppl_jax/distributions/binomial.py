"""The binomial distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import gammaln, xlog1py, xlogy

from ppl_jax.distributions import log_odds
from ppl_jax.distributions.base import (
    LARGEST_COUNT,
    Elementwise,
    as_parameter,
    is_tracer,
    require,
    require_probability,
)
from ppl_jax.distributions.deviance import log_count_masses
from ppl_jax.distributions.poisson import log_factorial

_LARGE = 1e5  # trials from which log-factorials would lose more than 1e-10


class Binomial(Elementwise):
    """Number of successes in ``total_count`` trials.

    Args:
      total_count: trials, an integer in [0, 2**53].
      probs: probability of a success in [0, 1].
      logits: instead of ``probs``, its log odds, any finite number. Densities and gradients are then exact however near
        to 0 or 1 the probability is; the distribution is stored and sent as ``probs``.
    """

    __slots__ = ("logits", "probs", "total_count")
    parameters = ("total_count", "probs")
    discrete = True

    logits: Any

    def __init__(self, total_count: Any, probs: Any = None, *, logits: Any = None):
        total_count = as_parameter(total_count)
        if not is_tracer(total_count):
            if type(total_count) is float:
                counts: Any = 0.0 <= total_count <= LARGEST_COUNT and total_count.is_integer()
            else:
                counts = (total_count >= 0.0) & (total_count <= LARGEST_COUNT) & (total_count == np.floor(total_count))
            require(counts, "Binomial", "total_count", total_count, "an integer in [0, 2**53]")
        if logits is None and probs is not None:
            probs = as_parameter(probs)
            require_probability("Binomial", "probs", probs)
        else:
            log_odds.check_one("Binomial", probs, logits)
            logits = log_odds.checked("Binomial", logits)
            probs = log_odds.probability(logits)
        self.total_count, self.probs, self.logits = total_count, probs, logits
        self._broadcast(total_count, probs)

    def log_prob(self, value: Any) -> Any:
        logits = self.logits
        if logits is None or is_tracer(value) or is_tracer(logits) or is_tracer(self.total_count):
            return super().log_prob(value)
        k, n = np.asarray(value, dtype=np.float64), np.asarray(self.total_count, dtype=np.float64)
        inside = (k >= 0.0) & (k <= n) & (k == np.floor(k))
        logits = np.asarray(logits)
        log_p, log_q = log_odds.log_probabilities(logits), log_odds.log_probabilities(-logits)
        with np.errstate(all="ignore"):
            masses = log_count_masses(np.where(inside, k, 0.0), n, np.exp(log_p), np.exp(log_q), log_p, log_q)
        masses = np.where(inside, masses, -np.inf)
        return masses if masses.ndim else float(masses)

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
        if n >= _LARGE:
            return float(Binomial._large(np.array(value), np.array(n), np.array(p)))
        choose = math.lgamma(n + 1.0) - math.lgamma(value + 1.0) - math.lgamma(n - value + 1.0)
        yes = 0.0 if value == 0.0 else value * math.log(p) if p > 0.0 else -math.inf
        no = 0.0 if value == n else (n - value) * math.log1p(-p) if p < 1.0 else -math.inf
        return choose + yes + no

    @staticmethod
    def _log_densities(value: np.ndarray, n: np.ndarray, p: np.ndarray) -> np.ndarray:
        inside = (value >= 0.0) & (value <= n) & (value == np.floor(value))
        choose = gammaln(n + 1.0) - gammaln(value + 1.0) - gammaln(n - value + 1.0)
        masses = choose + xlogy(value, p) + xlog1py(n - value, -p)
        if np.any(n >= _LARGE):
            masses = np.where(n >= _LARGE, Binomial._large(np.where(inside, value, 0.0), n, p), masses)
        return np.where(inside, masses, -np.inf)

    @staticmethod
    def _large(value: np.ndarray, n: np.ndarray, p: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return log_count_masses(value, n, p, 1.0 - p, np.log(p), np.log1p(-p))

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import choice_twins

        count = self.total_count
        count = count if is_tracer(count) else np.asarray(count, dtype=np.int64)
        if self.logits is not None:
            return choice_twins.BinomialLogits(self.logits, count)
        return choice_twins.BinomialProbs(self.probs, count)

    @property
    def mean(self) -> Any:
        return self.total_count * self.probs

    @property
    def variance(self) -> Any:
        return self.total_count * self.probs * (1.0 - self.probs)

    @property
    def support(self) -> tuple[Any, Any]:
        return 0, self.total_count

    def __repr__(self) -> str:
        if self.logits is None:
            return super().__repr__()
        return f"Binomial(total_count={self.total_count!r}, logits={self.logits!r})"


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
