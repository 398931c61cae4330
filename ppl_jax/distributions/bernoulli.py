"""The Bernoulli distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ppl_jax.distributions.base import Elementwise, as_parameter, is_tracer, require


class Bernoulli(Elementwise):
    """1 with probability ``probs``, else 0."""

    __slots__ = ("probs",)
    parameters = ("probs",)
    discrete = True

    def __init__(self, probs: Any):
        probs = as_parameter(probs)
        if not is_tracer(probs):
            inside = np.greater_equal(probs, 0.0) & np.less_equal(probs, 1.0)
            require(inside, "Bernoulli", "probs", probs, "a probability in [0, 1]")
        self._set(probs)

    @staticmethod
    def _draw(uniform: Any, probs: float) -> int:
        return 1 if uniform() < probs else 0

    @staticmethod
    def _log_density(value: float, probs: float) -> float:
        mass = probs if value == 1.0 else 1.0 - probs if value == 0.0 else 0.0
        return math.log(mass) if mass > 0.0 else -math.inf

    @staticmethod
    def _log_densities(value: np.ndarray, probs: np.ndarray) -> np.ndarray:
        return np.log(np.where(value == 1.0, probs, np.where(value == 0.0, 1.0 - probs, 0.0)))

    def inflated(self, factor: float) -> Bernoulli:
        yes, no = np.power(self.probs, 1.0 / factor), np.power(1.0 - np.asarray(self.probs), 1.0 / factor)
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
