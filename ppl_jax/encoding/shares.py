"""Dirichlet and multinomial draws as scalar elements, each with the prior that it has given the elements before it.

Of K shares that sum to 1, or of K counts that sum to a total, the last is what the others leave: K - 1 elements are
proposed for. Given those before it, a share is what is left times a beta variable, and a count is binomial. Batches of
vectors are left to the prior.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ppl_jax.distributions.base import SMALLEST, Distribution, Elementwise
from ppl_jax.distributions.beta import Beta
from ppl_jax.distributions.binomial import Binomial
from ppl_jax.distributions.dirichlet import Dirichlet
from ppl_jax.distributions.multinomial import Multinomial
from ppl_jax.encoding.coordinates import LINE, Frames, frames_of, log_priors

FAMILIES = ("Dirichlet", "Multinomial")


class Share(Elementwise):
    """``rest``, what is left to share, times a beta variable of ``concentration1`` and ``concentration0``."""

    __slots__ = ("concentration0", "concentration1", "rest")
    parameters = ("rest", "concentration1", "concentration0")

    def __init__(self, rest: float, concentration1: float, concentration0: float):
        self.rest, self.concentration1, self.concentration0 = rest, concentration1, concentration0
        self._broadcast(rest, concentration1, concentration0)

    @staticmethod
    def _draw(uniform: Any, rest: float, a: float, b: float) -> float:
        return max(rest * Beta._draw(uniform, a, b), SMALLEST)

    @staticmethod
    def _log_density(value: float, rest: float, a: float, b: float) -> float:
        return Beta._log_density(value / rest, a, b) - math.log(rest)

    @staticmethod
    def _log_densities(value: np.ndarray, rest: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return Beta._log_densities(value / rest, a, b) - np.log(rest)

    @property
    def mean(self) -> Any:
        return self.rest * self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def variance(self) -> Any:
        return self.rest**2 * Beta(self.concentration1, self.concentration0).variance

    @property
    def support(self) -> tuple[Any, Any]:
        return 0.0, self.rest


def number_of_elements(family: str, shape: Sequence[int]) -> int:
    """How many elements of a value of this family and shape can be proposed for; 0 if it cannot be divided."""
    if family in FAMILIES:
        return shape[0] - 1 if len(shape) == 1 else 0
    return math.prod(shape)


def conditional_share(distribution: Dirichlet, earlier: Sequence[float]) -> Share:
    """The prior of element k of a vector of shares given the elements 0 ... k - 1."""
    concentrations = distribution.concentration[len(earlier) :].tolist()
    return Share(max(1.0 - sum(earlier), SMALLEST), concentrations[0], sum(concentrations[1:]))


def conditional_count(distribution: Multinomial, earlier: Sequence[int]) -> Binomial:
    """The prior of element k of a vector of counts given the elements 0 ... k - 1."""
    probs = distribution.probs[len(earlier) :].tolist()
    rest = sum(probs)
    return Binomial(distribution.total_count - sum(earlier), min(probs[0] / rest, 1.0) if rest > 0.0 else 0.0)


def with_last(distribution: Distribution, values: Sequence[Any]) -> list[Any]:
    """All elements, from those but the last."""
    if isinstance(distribution, Dirichlet):
        return [*values, max(1.0 - sum(values), SMALLEST)]
    return [*values, int(distribution.total_count) - sum(values)]


def frames_of_elements(family: str, numbers: np.ndarray, values: np.ndarray) -> tuple[Frames, np.ndarray]:
    """Frames and log prior densities of the elements of n vectors, element after element of each vector.

    Args:
      family: "Dirichlet" or "Multinomial".
      numbers: of their distributions, float64 (n, ...).
      values: of the vectors, float64 (n, K).

    Returns:
      Frames of n * (K - 1) draws, and their log densities, float64 (n * (K - 1),).
    """
    left = values[:, ::-1].cumsum(axis=1)[:, ::-1][:, :-1]
    if family == "Multinomial":
        probs = numbers[:, 1:]
        rest = probs[:, ::-1].cumsum(axis=1)[:, ::-1][:, :-1]
        share = np.where(rest > 0.0, np.minimum(probs[:, :-1] / np.where(rest > 0.0, rest, 1.0), 1.0), 0.0)
        parameters = np.stack([left.ravel(), share.ravel()], axis=1)
        return frames_of("Binomial", parameters), log_priors("Binomial", values[:, :-1].ravel(), parameters)
    a = numbers[:, :-1].ravel()
    b = numbers[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:].ravel()
    left = np.maximum(left.ravel(), SMALLEST)
    mean = a / (a + b)
    frames = Frames(
        np.full(len(a), LINE, np.int8),
        left * mean,
        np.maximum(left * np.sqrt(mean * (1.0 - mean) / (a + b + 1.0)), SMALLEST),
        np.zeros(len(a)),
        left,
    )
    with np.errstate(all="ignore"):
        return frames, Share._log_densities(values[:, :-1].ravel(), left, a, b)
