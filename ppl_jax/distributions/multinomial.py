"""The multinomial distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import gammaln, xlogy

from ppl_jax.distributions.base import LARGEST_COUNT, Distribution, UniformSource, as_parameter, is_tracer
from ppl_jax.distributions.binomial import Binomial
from ppl_jax.distributions.counting import require_count
from ppl_jax.errors import ParameterError

_SMALL = 64  # up to so many categories plain Python floats are quicker than arrays
_ROUNDING = 1e-13  # sums this near to 1 are rounding: such probs are kept as they are


class Multinomial(Distribution):
    """How ``total_count`` independent choices among K categories fall; values have shape (..., K).

    Args:
      total_count: choices, an integer in [0, 2**53], or an array of them of shape (...,).
      probs: of the categories, shape (..., K), in proportion: non-negative with a positive sum.

    ``log_prob`` gives one number for each vector.
    """

    __slots__ = ("probs", "total_count")
    parameters = ("total_count", "probs")
    discrete = True

    def __init__(self, total_count: Any, probs: Any):
        total_count, given = as_parameter(total_count), as_parameter(probs)
        require_count("Multinomial", "total_count", total_count, LARGEST_COUNT, "2**53")
        if np.ndim(given) == 0 or given.shape[-1] == 0:
            raise ParameterError("Multinomial", "probs", probs, "an array of at least one category on its last axis")
        self.total_count, self.probs = total_count, _normalised(given, probs)
        if type(total_count) is float:
            self.shape = tuple(given.shape)
            return
        try:
            batch = np.broadcast_shapes(np.shape(total_count), given.shape[:-1])
        except ValueError:
            expected = f"of a shape (..., K) that broadcasts with total_count, shape {np.shape(total_count)}"
            raise ParameterError("Multinomial", "probs", probs, expected) from None
        self.shape = (*batch, given.shape[-1])

    def sample(self, rng: UniformSource) -> Any:
        counts = np.broadcast_to(self.total_count, self.shape[:-1]).ravel().tolist()
        rows = np.broadcast_to(self.probs, self.shape).reshape(-1, self.shape[-1]).tolist()
        draws = [_draw(rng.random, int(n), row) for n, row in zip(counts, rows, strict=True)]
        return np.array(draws, dtype=np.int64).reshape(self.shape)

    def log_prob(self, value: Any) -> Any:
        if is_tracer(value) or is_tracer(self.total_count) or is_tracer(self.probs):
            return self._traced_log_prob(value)
        x = np.asarray(value, dtype=np.float64)
        if type(self.total_count) is float and x.ndim == 1 and x.shape == self.probs.shape and x.size <= _SMALL:
            return _log_mass(x.tolist(), self.total_count, self.probs.tolist())
        n = np.asarray(self.total_count)
        with np.errstate(all="ignore"):
            inside = np.all((x >= 0.0) & (x == np.floor(x)), axis=-1) & (x.sum(axis=-1) == n)
            safe = np.where(inside[..., None], x, 0.0)
            terms = (xlogy(safe, self.probs) - gammaln(safe + 1.0)).sum(axis=-1)
            mass = np.where(inside, gammaln(n + 1.0) + terms, -np.inf)
        return float(mass) if mass.ndim == 0 else mass

    def to_numpyro(self) -> Any:
        from ppl_jax.distributions import vector_twins

        return vector_twins.MultinomialProbs(self.probs, self.total_count)

    @property
    def mean(self) -> Any:
        return np.expand_dims(self.total_count, -1) * self.probs

    @property
    def variance(self) -> Any:
        """The variance of each element."""
        return np.expand_dims(self.total_count, -1) * self.probs * (1.0 - self.probs)

    @property
    def support(self) -> tuple[Any, Any]:
        """Bounds of each element."""
        return 0, self.total_count if type(self.total_count) is float else np.expand_dims(self.total_count, -1)


def _normalised(probs: Any, given: Any) -> Any:
    if is_tracer(probs):
        return probs / probs.sum(axis=-1, keepdims=True)
    if probs.ndim == 1 and probs.size <= _SMALL:
        row = probs.tolist()
        whole = sum(row)
        if 0.0 < whole < np.inf and min(row) >= 0.0:
            if abs(whole - 1.0) < _ROUNDING:
                return probs
            probs = probs / whole
            probs.setflags(write=False)
            return probs
    with np.errstate(over="ignore", invalid="ignore"):
        total = probs.sum(axis=-1, keepdims=True)
    if not ((probs >= 0.0).all() and (total > 0.0).all() and (total < np.inf).all()):
        raise ParameterError("Multinomial", "probs", given, "non-negative and finite, with a positive finite sum")
    normalised = np.where(np.abs(total - 1.0) < _ROUNDING, probs, probs / total)
    normalised.setflags(write=False)
    return normalised


def _log_mass(counts: list[float], n: float, probs: list[float]) -> float:
    if not (sum(counts) == n and min(counts) >= 0.0):
        return -math.inf
    total = math.lgamma(n + 1.0)
    for count, mass in zip(counts, probs, strict=True):
        if count == 0.0:
            continue
        if mass == 0.0 or count != math.floor(count):
            return -math.inf
        total += count * math.log(mass) - math.lgamma(count + 1.0)
    return total


def _draw(uniform: Any, n: int, probs: list[float]) -> list[int]:
    """Category after category: of those that are left, each is binomial."""
    rest = [0.0] * (len(probs) + 1)
    for k in range(len(probs) - 1, -1, -1):
        rest[k] = rest[k + 1] + probs[k]
    counts = []
    for k, mass in enumerate(probs):
        if n == 0 or mass == 0.0:
            count = 0
        elif rest[k + 1] == 0.0:
            count = n
        else:
            count = Binomial._draw(uniform, float(n), min(mass / rest[k], 1.0))
        counts.append(count)
        n -= count
    return counts
