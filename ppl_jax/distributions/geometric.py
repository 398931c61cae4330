"""The geometric distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ppl_jax.distributions import log_odds
from ppl_jax.distributions.base import LARGEST_COUNT, Elementwise, as_parameter, is_tracer, require


class Geometric(Elementwise):
    """Number of failures (0, 1, ...) before the first success.

    Args:
      probs: probability of a success in (0, 1].
      logits: instead of ``probs``, its log odds, any finite number. Densities and gradients are then exact however near
        to 1 the probability is; the distribution is stored and sent as ``probs``.
    """

    __slots__ = ("logits", "probs")
    parameters = ("probs",)
    discrete = True

    logits: Any

    def __init__(self, probs: Any = None, *, logits: Any = None):
        if logits is None and probs is not None:
            probs = as_parameter(probs)
        else:
            log_odds.check_one("Geometric", probs, logits)
            logits = log_odds.checked("Geometric", logits)
            probs = log_odds.probability(logits)
        if not is_tracer(probs):
            inside = 0.0 < probs <= 1.0 if type(probs) is float else (probs > 0.0) & (probs <= 1.0)
            require(inside, "Geometric", "probs", probs, "a probability in (0, 1]")
        self.probs, self.logits = probs, logits
        self._broadcast(probs)

    def log_prob(self, value: Any) -> Any:
        if self.logits is None or is_tracer(value) or is_tracer(self.logits):
            return super().log_prob(value)
        k, logits = np.asarray(value, dtype=np.float64), np.asarray(self.logits)
        inside = (k >= 0.0) & (k < np.inf) & (k == np.floor(k))
        failures = np.where(inside, k, 0.0) * log_odds.log_probabilities(-logits)
        masses = np.where(inside, failures + log_odds.log_probabilities(logits), -np.inf)
        return masses if masses.ndim else float(masses)

    @staticmethod
    def _draw(uniform: Any, probs: float) -> int:
        if probs == 1.0:
            return 0
        return int(min(math.floor(min(math.log(uniform()) / math.log1p(-probs), LARGEST_COUNT)), LARGEST_COUNT))

    @staticmethod
    def _log_density(value: float, probs: float) -> float:
        if not 0.0 <= value < math.inf or value != math.floor(value):
            return -math.inf
        if value == 0.0:
            return math.log(probs)
        return math.log(probs) + value * math.log1p(-probs) if probs < 1.0 else -math.inf

    @staticmethod
    def _log_densities(value: np.ndarray, probs: np.ndarray) -> np.ndarray:
        inside = (value >= 0.0) & (value < np.inf) & (value == np.floor(value))
        failures = np.where(value == 0.0, 0.0, value * np.log1p(-probs))
        return np.where(inside, np.log(probs) + failures, -np.inf)

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import count_twins

        if self.logits is not None:
            return count_twins.GeometricLogits(self.logits)
        return count_twins.GeometricProbs(self.probs)

    @property
    def mean(self) -> Any:
        return (1.0 - self.probs) / self.probs

    @property
    def variance(self) -> Any:
        return (1.0 - self.probs) / self.probs / self.probs

    @property
    def support(self) -> tuple[Any, Any]:
        return 0, math.inf

    def __repr__(self) -> str:
        return super().__repr__() if self.logits is None else f"Geometric(logits={self.logits!r})"
