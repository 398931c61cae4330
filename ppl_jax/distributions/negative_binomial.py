"""The negative binomial distribution, by trials (as scipy and torch have it) and by mean (as epidemiology has it).

Both are a Poisson variable whose rate is gamma distributed, and both densities are computed from the mean m and the
concentration r, for which no digits are lost whether r is 1e-3 (overdispersed) or 1e15 (all but a Poisson).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import gammaln, xlogy

from ppl_jax.distributions import log_odds
from ppl_jax.distributions.base import (
    LARGEST_COUNT,
    Elementwise,
    as_parameter,
    is_tracer,
    require,
    require_positive,
)
from ppl_jax.distributions.gamma import draw_standard_gamma
from ppl_jax.distributions.poisson import Poisson
from ppl_jax.distributions.rising import FROM, log_rising_of_arrays, stirling

_LARGEST_RATIO = 1e38  # beyond, r log(1 + m / r) is 0; float32 has no greater number
_BEYOND = 1e300  # values above have no mass in float64, and their log-factorials overflow


def draw_negative_binomial(uniform: Any, mean: float, concentration: float) -> int:
    """A Poisson draw whose rate is gamma distributed with this mean and shape."""
    gamma = draw_standard_gamma(uniform, concentration)
    rate = gamma * (mean / concentration) if gamma > 0.0 else 0.0  # 0 times infinity is no number
    return Poisson._draw(uniform, min(rate, LARGEST_COUNT))


def log_mass(k: float, m: float, r: float) -> float:
    """Log probability of k, for mean m >= 0 and concentration r > 0."""
    if not 0.0 <= k < _BEYOND or k != math.floor(k):
        return -math.inf
    zeros = -r * math.log1p(min(m / r, _LARGEST_RATIO))
    if k == 0.0:
        return zeros
    if m == 0.0:
        return -math.inf
    if r < FROM:
        rising = math.lgamma(k + r) - math.lgamma(r) - k * math.log(m + r)
    else:
        rising = (r - 0.5) * math.log1p(k / r) - k + k * math.log1p((k - m) / (r + m)) + stirling(r + k) - stirling(r)
    return rising + k * math.log(m) - math.lgamma(k + 1.0) + zeros


def log_masses(k: Any, m: Any, r: Any, xp: Any = np, gammaln: Any = gammaln, xlogy: Any = xlogy) -> Any:
    """``log_mass`` of counts, elementwise; -inf of others where ``xp`` is numpy."""
    small, large = xp.minimum(r, FROM), xp.maximum(r, FROM)
    few = gammaln(k + small) - gammaln(small) - k * xp.log(m + small)
    many = (large - 0.5) * xp.log1p(k / large) - k + k * xp.log1p((k - m) / (large + m))
    rising = xp.where(r < FROM, few, many + stirling(large + k) - stirling(large))
    return rising + xlogy(k, m) - gammaln(k + 1.0) - r * xp.log1p(xp.minimum(m / r, _LARGEST_RATIO))


def log_masses_of_odds(k: Any, r: Any, log_p: Any, log_q: Any, xp: Any = np, gammaln: Any = gammaln) -> Any:
    """Log probability of k successes before r failures, of log probabilities ``log_p`` and ``log_q``, elementwise."""
    return log_rising_of_arrays(r, k, xp, gammaln) - gammaln(k + 1.0) + k * log_p + r * log_q


def _masses(k: np.ndarray, m: np.ndarray, r: np.ndarray) -> np.ndarray:
    inside = (k >= 0.0) & (k < _BEYOND) & (k == np.floor(k))
    return np.where(inside, log_masses(np.where(inside, k, 0.0), m, r), -np.inf)


class NegativeBinomial(Elementwise):
    """Number of successes, of probability ``probs`` in [0, 1), before ``total_count`` failures (any positive number).

    Its mean is total_count * probs / (1 - probs). For the parametrisation by mean and dispersion see
    :class:`NegativeBinomial2`.

    Args:
      total_count: failures to wait for; positive, not necessarily an integer.
      probs: probability of a success in [0, 1).
      logits: instead of ``probs``, its log odds, any finite number. Densities and gradients are then exact however near
        to 1 the probability is; the distribution is stored and sent as ``probs``.
    """

    __slots__ = ("logits", "probs", "total_count")
    parameters = ("total_count", "probs")
    discrete = True

    logits: Any

    def __init__(self, total_count: Any, probs: Any = None, *, logits: Any = None):
        total_count = as_parameter(total_count)
        require_positive("NegativeBinomial", "total_count", total_count)
        if logits is None and probs is not None:
            probs = as_parameter(probs)
        else:
            log_odds.check_one("NegativeBinomial", probs, logits)
            logits = log_odds.checked("NegativeBinomial", logits)
            probs = log_odds.probability(logits)
        if not is_tracer(probs):
            inside = 0.0 <= probs < 1.0 if type(probs) is float else (probs >= 0.0) & (probs < 1.0)
            require(inside, "NegativeBinomial", "probs", probs, "a probability in [0, 1)")
        self.total_count, self.probs, self.logits = total_count, probs, logits
        self._broadcast(total_count, probs)

    def log_prob(self, value: Any) -> Any:
        logits = self.logits
        if logits is None or is_tracer(value) or is_tracer(logits) or is_tracer(self.total_count):
            return super().log_prob(value)
        k, r, logits = (np.asarray(part, dtype=np.float64) for part in (value, self.total_count, logits))
        inside = (k >= 0.0) & (k < _BEYOND) & (k == np.floor(k))
        with np.errstate(all="ignore"):
            odds = log_odds.log_probabilities(logits), log_odds.log_probabilities(-logits)
            masses = np.where(inside, log_masses_of_odds(np.where(inside, k, 0.0), r, *odds), -np.inf)
        return masses if masses.ndim else float(masses)

    @staticmethod
    def _draw(uniform: Any, total_count: float, probs: float) -> int:
        return draw_negative_binomial(uniform, total_count * (probs / (1.0 - probs)), total_count)

    @staticmethod
    def _log_density(value: float, total_count: float, probs: float) -> float:
        return log_mass(value, total_count * (probs / (1.0 - probs)), total_count)

    @staticmethod
    def _log_densities(value: np.ndarray, total_count: np.ndarray, probs: np.ndarray) -> np.ndarray:
        return _masses(value, total_count * (probs / (1.0 - probs)), total_count)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import count_twins

        if self.logits is not None:
            return count_twins.NegativeBinomialLogits(self.total_count, self.logits)
        return count_twins.NegativeBinomialProbs(self.total_count, self.probs)

    @property
    def mean(self) -> Any:
        return self.total_count * (self.probs / (1.0 - self.probs))

    @property
    def variance(self) -> Any:
        return self.total_count * (self.probs / np.square(1.0 - self.probs))

    @property
    def support(self) -> tuple[Any, Any]:
        return 0, math.inf

    def __repr__(self) -> str:
        if self.logits is None:
            return super().__repr__()
        return f"NegativeBinomial(total_count={self.total_count!r}, logits={self.logits!r})"


class NegativeBinomial2(Elementwise):
    """Counts of a given ``mean`` in [0, 2**53] and variance mean + mean**2 / ``concentration`` (positive).

    The smaller the concentration (the dispersion parameter k of epidemiology), the wider; as it grows the distribution
    becomes a Poisson.
    """

    __slots__ = ("concentration", "mean")
    parameters = ("mean", "concentration")
    discrete = True

    def __init__(self, mean: Any, concentration: Any):
        mean, concentration = as_parameter(mean), as_parameter(concentration)
        if not is_tracer(mean):
            inside = 0.0 <= mean <= LARGEST_COUNT if type(mean) is float else (mean >= 0.0) & (mean <= LARGEST_COUNT)
            require(inside, "NegativeBinomial2", "mean", mean, "in [0, 2**53]")
        require_positive("NegativeBinomial2", "concentration", concentration)
        self.concentration = concentration
        self._broadcast(mean, concentration)
        self.mean = mean if self._floats is not None else _spread(mean, self.shape)  # type: ignore[misc]

    @staticmethod
    def _draw(uniform: Any, mean: float, concentration: float) -> int:
        return draw_negative_binomial(uniform, mean, concentration)

    _log_density = staticmethod(log_mass)
    _log_densities = staticmethod(_masses)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import count_twins

        return count_twins.NegativeBinomial2(self.mean, self.concentration)

    @property
    def variance(self) -> Any:
        return self.mean + np.square(self.mean) / self.concentration

    @property
    def support(self) -> tuple[Any, Any]:
        return 0, math.inf


def _spread(mean: Any, shape: tuple[int, ...]) -> Any:
    """The mean as an array of the values' shape, which is what ``mean`` is of any distribution."""
    if is_tracer(mean):
        import jax.numpy as jnp

        return mean if mean.shape == shape else jnp.broadcast_to(mean, shape)
    array = np.array(np.broadcast_to(mean, shape))
    array.setflags(write=False)
    return array
