"""The beta-binomial distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import gammaln

from ppl_jax.distributions.base import LARGEST_COUNT, Elementwise, as_parameter, require_positive
from ppl_jax.distributions.beta import Beta
from ppl_jax.distributions.binomial import Binomial
from ppl_jax.distributions.counting import require_count
from ppl_jax.distributions.rising import log_rising, log_rising_of_arrays


class BetaBinomial(Elementwise):
    """Number of successes in ``total_count`` trials whose common probability is beta distributed.

    Args:
      concentration1: of the beta, for successes; positive.
      concentration0: of the beta, for failures; positive.
      total_count: trials, an integer in [0, 2**53].
    """

    __slots__ = ("concentration0", "concentration1", "total_count")
    parameters = ("concentration1", "concentration0", "total_count")
    discrete = True

    def __init__(self, concentration1: Any, concentration0: Any, total_count: Any):
        concentration1, concentration0 = as_parameter(concentration1), as_parameter(concentration0)
        total_count = as_parameter(total_count)
        require_positive("BetaBinomial", "concentration1", concentration1)
        require_positive("BetaBinomial", "concentration0", concentration0)
        require_count("BetaBinomial", "total_count", total_count, LARGEST_COUNT, "2**53")
        self.concentration1, self.concentration0, self.total_count = concentration1, concentration0, total_count
        self._broadcast(concentration1, concentration0, total_count)

    @staticmethod
    def _draw(uniform: Any, a: float, b: float, n: float) -> int:
        return Binomial._draw(uniform, n, Beta._draw(uniform, a, b))

    @staticmethod
    def _log_density(value: float, a: float, b: float, n: float) -> float:
        if not 0.0 <= value <= n or value != math.floor(value):
            return -math.inf
        choose = log_rising(n - value + 1.0, value) - math.lgamma(value + 1.0)
        return choose + log_rising(a, value) + log_rising(b, n - value) - log_rising(a + b, n)

    @staticmethod
    def _log_densities(value: np.ndarray, a: np.ndarray, b: np.ndarray, n: np.ndarray) -> np.ndarray:
        inside = (value >= 0.0) & (value <= n) & (value == np.floor(value))
        return np.where(inside, log_masses(np.where(inside, value, 0.0), a, b, n), -np.inf)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import count_twins

        return count_twins.BetaBinomial(self.concentration1, self.concentration0, self.total_count)

    @property
    def mean(self) -> Any:
        return self.total_count * (self.concentration1 / (self.concentration1 + self.concentration0))

    @property
    def variance(self) -> Any:
        a, b, n = self.concentration1, self.concentration0, self.total_count
        p, q = a / (a + b), b / (a + b)
        return n * p * q * ((a + b + n) / (a + b + 1.0))

    @property
    def support(self) -> tuple[Any, Any]:
        return 0, self.total_count


def log_masses(k: Any, a: Any, b: Any, n: Any, xp: Any = np, gammaln: Any = gammaln) -> Any:
    """Log probabilities of counts k in 0 ... n, elementwise."""

    def rising(x: Any, k: Any) -> Any:
        return log_rising_of_arrays(x, k, xp, gammaln)

    choose = rising(n - k + 1.0, k) - gammaln(k + 1.0)
    return choose + rising(a, k) + rising(b, n - k) - rising(a + b, n)
