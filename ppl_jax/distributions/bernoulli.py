"""The Bernoulli distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ppl_jax.distributions.base import Elementwise, as_parameter, require_probability


class Bernoulli(Elementwise):
    """1 with probability ``probs``, else 0."""

    __slots__ = ("probs",)
    parameters = ("probs",)
    discrete = True

    def __init__(self, probs: Any):
        probs = as_parameter(probs)
        require_probability("Bernoulli", "probs", probs)
        self.probs = probs
        self._broadcast(probs)

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
        yes, no = self.probs ** (1.0 / factor), (1.0 - self.probs) ** (1.0 / factor)
        return Bernoulli(yes / (yes + no))

    def to_numpyro(self) -> Any:
        from numpyro import distributions as npd

        return npd.BernoulliProbs(self.probs)

    @property
    def mean(self) -> Any:
        return self.probs

    @property
    def variance(self) -> Any:
        return self.probs * (1.0 - self.probs)

    @property
    def support(self) -> tuple[Any, Any]:
        return 0, 1
