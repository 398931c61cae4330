"""The categorical distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ppl_jax.distributions.base import Distribution, UniformSource, as_parameter, is_tracer, require


class Categorical(Distribution):
    """0 ... K-1 with probabilities proportional to ``probs``, shape (..., K), non-negative with a positive sum."""

    __slots__ = ("probs",)
    parameters = ("probs",)
    discrete = True

    def __init__(self, probs: Any):
        probs = as_parameter(probs)
        if type(probs) is float:
            require(False, "Categorical", "probs", probs, "an array of at least one dimension")
        if not is_tracer(probs):
            total = probs.sum(axis=-1, keepdims=True)
            valid = bool(np.isfinite(probs).all() and (probs >= 0.0).all() and (total > 0.0).all())
            require(valid, "Categorical", "probs", probs, "non-negative and finite, with a positive sum")
            probs = probs / total
        self.probs = probs
        self.shape = tuple(probs.shape[:-1])

    def sample(self, rng: UniformSource) -> Any:
        if self.shape == ():
            return _draw(rng.random(), self.probs.tolist())
        rows = self.probs.reshape(-1, self.probs.shape[-1]).tolist()
        return np.array([_draw(rng.random(), row) for row in rows], dtype=np.int64).reshape(self.shape)

    def log_prob(self, value: Any) -> Any:
        if is_tracer(value) or is_tracer(self.probs):
            return self.to_numpyro().log_prob(value)
        if self.shape == () and np.ndim(value) == 0:
            index = int(value)
            mass = self.probs.item(index) if index == value and 0 <= index < self.probs.shape[0] else 0.0
            return math.log(mass) if mass > 0.0 else -math.inf
        value = np.asarray(value)
        inside = (value == np.floor(value)) & (value >= 0) & (value < self.probs.shape[-1])
        index = np.where(inside, value, 0).astype(np.int64)
        probs = np.broadcast_to(self.probs, (*index.shape, self.probs.shape[-1]))
        mass = np.take_along_axis(probs, index[..., None], axis=-1)[..., 0]
        with np.errstate(divide="ignore"):
            return np.where(inside, np.log(mass), -np.inf)

    def inflated(self, factor: float) -> Categorical:
        return Categorical(np.power(self.probs, 1.0 / factor))

    def to_numpyro(self) -> Any:
        from numpyro import distributions as npd

        return npd.CategoricalProbs(self.probs)

    @property
    def mean(self) -> Any:
        return (self.probs * np.arange(self.probs.shape[-1])).sum(axis=-1)

    @property
    def variance(self) -> Any:
        return (self.probs * np.arange(self.probs.shape[-1]) ** 2).sum(axis=-1) - np.square(self.mean)

    @property
    def support(self) -> tuple[Any, Any]:
        return 0, self.probs.shape[-1] - 1


def _draw(u: float, probs: list[float]) -> int:
    """First k whose cumulative probability exceeds u; the last possible one if rounding leaves none."""
    cumulative, last = 0.0, 0
    for k, mass in enumerate(probs):
        if mass > 0.0:
            cumulative += mass
            last = k
            if u < cumulative:
                return k
    return last
