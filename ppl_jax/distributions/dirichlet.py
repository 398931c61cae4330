"""The Dirichlet distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import gammaln

from ppl_jax.distributions.base import SMALLEST, Distribution, UniformSource, as_parameter, is_tracer, require_positive
from ppl_jax.distributions.gamma import draw_standard_gamma
from ppl_jax.errors import ParameterError

#: How far from 1 the sum of a value may be: what is rounding in JAX's float32.
SUM_ERROR = 1e-5
_SMALL = 64  # up to so many elements plain Python floats are quicker than arrays


class Dirichlet(Distribution):
    """Vectors of K positive numbers that sum to 1, of positive ``concentration``, shape (..., K).

    ``log_prob`` gives one number for each vector. A vector belongs to the support where its sum is within 1e-5 of 1.
    """

    __slots__ = ("concentration",)
    parameters = ("concentration",)

    def __init__(self, concentration: Any):
        concentration = as_parameter(concentration)
        if np.ndim(concentration) == 0 or concentration.shape[-1] == 0:
            raise ParameterError("Dirichlet", "concentration", concentration, "a vector of at least one number")
        require_positive("Dirichlet", "concentration", concentration)
        self.concentration = concentration
        self.shape = tuple(concentration.shape)

    def sample(self, rng: UniformSource) -> Any:
        rows = self.concentration.reshape(-1, self.shape[-1]).tolist()
        return np.array([_draw(rng.random, row) for row in rows]).reshape(self.shape)

    def log_prob(self, value: Any) -> Any:
        if is_tracer(value) or is_tracer(self.concentration):
            return self._traced_log_prob(value)
        x, a = np.asarray(value, dtype=np.float64), self.concentration
        if a.ndim == 1 and x.shape == a.shape and x.size <= _SMALL:
            return _log_density(x.tolist(), a.tolist())
        with np.errstate(all="ignore"):
            norm = gammaln(a.sum(axis=-1)) - gammaln(a).sum(axis=-1)
            powers = np.where(a == 1.0, 0.0, (a - 1.0) * np.log(x))  # at 0 that is 0 or infinite
            inside = np.all(x >= 0.0, axis=-1) & (np.abs(x.sum(axis=-1) - 1.0) <= SUM_ERROR)
            density = np.where(inside, norm + powers.sum(axis=-1), -np.inf)
        density = np.where(np.isnan(density), -np.inf, density)  # an impossible and an infinitely likely edge meet
        return float(density) if density.ndim == 0 else density

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import vector_twins

        return vector_twins.Dirichlet(self.concentration)

    @property
    def mean(self) -> Any:
        return self.concentration / self.concentration.sum(axis=-1, keepdims=True)

    @property
    def variance(self) -> Any:
        """The variance of each element."""
        mean = self.mean
        return mean * (1.0 - mean) / (self.concentration.sum(axis=-1, keepdims=True) + 1.0)

    @property
    def support(self) -> tuple[Any, Any]:
        """Bounds of each element."""
        return 0.0, 1.0


def _log_density(x: list[float], a: list[float]) -> float:
    if not (abs(sum(x) - 1.0) <= SUM_ERROR and min(x) >= 0.0):
        return -math.inf
    total = math.lgamma(sum(a))
    for share, concentration in zip(x, a, strict=True):
        total -= math.lgamma(concentration)
        if share > 0.0:
            total += (concentration - 1.0) * math.log(share)
        elif concentration != 1.0:
            total += math.copysign(math.inf, 1.0 - concentration)
    return total if total == total else -math.inf


def _draw(uniform: Any, concentrations: list[float]) -> list[float]:
    """Gamma draws over their sum, in logarithms: where concentrations are small all of them may underflow."""
    logs = []
    for a in concentrations:
        boost = 0.0 if a >= 1.0 else a
        gamma = draw_standard_gamma(uniform, a + 1.0 if boost else a)
        log = math.log(max(gamma, SMALLEST))
        logs.append(log + math.log(uniform()) / boost if boost else log)
    highest = max(logs)
    if highest == -math.inf:  # concentrations below 1e-306: one category has everything
        threshold, chosen, below = uniform() * sum(concentrations), 0, concentrations[0]
        while threshold >= below and chosen + 1 < len(concentrations):
            chosen += 1
            below += concentrations[chosen]
        logs, highest = [0.0 if k == chosen else -math.inf for k in range(len(logs))], 0.0
    parts = [math.exp(log - highest) for log in logs]
    total = 0.0
    for part in parts:
        total += part
    return [max(part / total, SMALLEST) for part in parts]
