"""The Bernoulli distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ppl_jax.distributions import log_odds
from ppl_jax.distributions.base import Elementwise, as_parameter, is_tracer, require_probability


class Bernoulli(Elementwise):
    """1 with probability ``probs``, else 0.

    Args:
      probs: probability of 1, in [0, 1].
      logits: instead of ``probs``, its log odds, any finite number. Densities and gradients are then exact however near
        to 0 or 1 the probability is; the distribution is stored and sent as ``probs``.
    """

    __slots__ = ("logits", "probs")
    parameters = ("probs",)
    discrete = True

    logits: Any

    def __init__(self, probs: Any = None, *, logits: Any = None):
        if logits is None and probs is not None:
            probs = as_parameter(probs)
            require_probability("Bernoulli", "probs", probs)
        else:
            log_odds.check_one("Bernoulli", probs, logits)
            logits = log_odds.checked("Bernoulli", logits)
            probs = log_odds.probability(logits)
        self.logits, self.probs = logits, probs
        self._broadcast(probs)

    def log_prob(self, value: Any) -> Any:
        logits = self.logits
        if logits is None or is_tracer(value) or is_tracer(logits):
            return super().log_prob(value)
        if type(logits) is float and np.ndim(value) == 0:
            return log_odds.log_probability(logits if value == 1 else -logits) if value in (0, 1) else -math.inf
        value = np.asarray(value, dtype=np.float64)
        either = log_odds.log_probabilities(np.where(value == 1.0, logits, np.negative(logits)))
        return np.where((value == 0.0) | (value == 1.0), either, -np.inf)

    @staticmethod
    def _draw(uniform: Any, probs: float) -> int:
        return 1 if uniform() < probs else 0

    @staticmethod
    def _log_density(value: float, probs: float) -> float:
        if value == 1.0:
            return math.log(probs) if probs > 0.0 else -math.inf
        return math.log1p(-probs) if value == 0.0 and probs < 1.0 else -math.inf

    @staticmethod
    def _log_densities(value: np.ndarray, probs: np.ndarray) -> np.ndarray:
        return np.where(value == 1.0, np.log(probs), np.where(value == 0.0, np.log1p(-probs), -np.inf))

    def inflated(self, factor: float) -> Bernoulli:
        if self.logits is not None:
            return Bernoulli(logits=self.logits / factor)
        yes, no = self.probs ** (1.0 / factor), (1.0 - self.probs) ** (1.0 / factor)
        return Bernoulli(yes / (yes + no))

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import choice_twins

        if self.logits is not None:
            return choice_twins.BernoulliLogits(self.logits)
        return choice_twins.BernoulliProbs(self.probs)

    @property
    def mean(self) -> Any:
        return self.probs

    @property
    def variance(self) -> Any:
        return self.probs * (1.0 - self.probs)

    @property
    def support(self) -> tuple[Any, Any]:
        return 0, 1

    def __repr__(self) -> str:
        return super().__repr__() if self.logits is None else f"Bernoulli(logits={self.logits!r})"
