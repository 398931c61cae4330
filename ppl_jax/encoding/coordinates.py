"""Frames: the coordinates in which a proposal sees a draw, taken from the draw's prior.

A network proposes for thousands of call sites whose values differ by orders of magnitude. In its prior's frame every
draw looks alike: of order 1, unbounded or with known bounds. A frame is also the prior-standardised meaning of a
value where it is an input. Vector-valued draws are taken apart into scalar *elements*, each with the prior that it has
given the elements before it, so a proposal made element by element has an exact joint density.

Everything here is numpy on the host, for many draws at once: tables of traces and guided executions both use it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import digamma, polygamma

from ppl_jax.distributions.base import Distribution, Elementwise
from ppl_jax.distributions.beta_binomial import BetaBinomial
from ppl_jax.distributions.categorical import Categorical
from ppl_jax.distributions.geometric import Geometric
from ppl_jax.distributions.hypergeometric import Hypergeometric
from ppl_jax.distributions.layouts import FAMILIES
from ppl_jax.distributions.multivariate_normal import MultivariateNormal
from ppl_jax.distributions.negative_binomial import NegativeBinomial, NegativeBinomial2
from ppl_jax.distributions.normal import Normal
from ppl_jax.distributions.zero_inflated import ZeroInflatedPoisson

#: What a proposal has to be: nothing (the prior is used); a density on the line, with or without bounds; a density on
#: the half-line, seen through the logarithm; a choice among categories; an integer; an angle; a density on the line
#: with tails so heavy that they are seen through the inverse hyperbolic sine.
PRIOR, LINE, LOGARITHM, CATEGORY, COUNT, CIRCLE, TAILS = range(7)

MOST_ELEMENTS = 256  # elements of a vector-valued draw above which it is left to the prior
MOST_CATEGORIES = 128  # categories above which a draw is left to the prior

_EULER = 0.5772156649015329
_GUMBEL_STDDEV = math.pi / math.sqrt(6.0)
_LOG_2 = math.log(2.0)
_WIDEST_ANGLE = 1.8  # radians; the standard deviation of a uniform angle


class Frames(NamedTuple):
    """The frames of n scalar draws: kind, int8 (n,); the others float64 (n,).

    A value x has the coordinate u = (x - shift) / scale; under LOGARITHM u = (log(x - low) - shift) / scale, and under
    TAILS u = asinh((x - shift) / scale). ``low`` and ``high`` bound x, and are infinite where x is unbounded.
    """

    kind: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def take(self, index: Any) -> Frames:
        """The frames at ``index``."""
        return Frames(*(column[index] for column in self))


def blank(n: int) -> Frames:
    """Frames of n draws for which nothing is proposed."""
    return Frames(np.zeros(n, np.int8), np.zeros(n), np.ones(n), np.full(n, -np.inf), np.full(n, np.inf))


def coordinates(frames: Frames, values: np.ndarray) -> np.ndarray:
    """The coordinates u of values, float64 (n,); angles are wrapped into half a turn around their shift."""
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = np.where(frames.kind == LOGARITHM, np.log(np.maximum(values - frames.low, 1e-300)), values)
        distance = seen - frames.shift
        distance = np.where(frames.kind == CIRCLE, (distance + math.pi) % (2.0 * math.pi) - math.pi, distance)
        u = distance / frames.scale
        return np.where(frames.kind == TAILS, np.arcsinh(u), u)


def log_stretch(frames: Frames, u: np.ndarray) -> np.ndarray:
    """log |dx / du|, float64 (n,): what a density in u loses on its way to x. 0 for discrete draws."""
    log_scale = np.log(frames.scale)
    stretch = np.where(frames.kind == LOGARITHM, frames.shift + frames.scale * u + log_scale, log_scale)
    stretch = np.where(frames.kind == TAILS, log_scale + np.logaddexp(u, -u) - _LOG_2, stretch)
    return np.where((frames.kind == CATEGORY) | (frames.kind == COUNT), 0.0, stretch)


# -- families ----------------------------------------------------------------------------------------------------------


def _line(shift: Any, scale: Any, low: Any = -math.inf, high: Any = math.inf) -> tuple:
    return LINE, shift, scale, low, high


def _normal(p: np.ndarray) -> tuple:
    return _line(p[:, 0], p[:, 1])


def _uniform(p: np.ndarray) -> tuple:
    return _line(0.5 * p[:, 0] + 0.5 * p[:, 1], (p[:, 1] - p[:, 0]) / math.sqrt(12.0), p[:, 0], p[:, 1])


def _beta(p: np.ndarray) -> tuple:
    total = p[:, 0] + p[:, 1]
    mean = p[:, 0] / total
    return _line(mean, np.sqrt(mean * (1.0 - mean) / (total + 1.0)), 0.0, 1.0)


def _truncated_normal(p: np.ndarray) -> tuple:
    """Roughly standardised: beyond a bound at distance d, the tail falls off over scale**2 / d."""
    loc, scale, low, high = p.T
    centre = np.clip(loc, low, high)
    width = scale * scale / (scale + np.abs(loc - centre))
    return _line(centre, np.minimum(width, high - low), low, high)


def _laplace(p: np.ndarray) -> tuple:
    return _line(p[:, 0], math.sqrt(2.0) * p[:, 1])


def _logistic(p: np.ndarray) -> tuple:
    return _line(p[:, 0], math.pi / math.sqrt(3.0) * p[:, 1])


def _gumbel(p: np.ndarray) -> tuple:
    return _line(p[:, 0] + _EULER * p[:, 1], _GUMBEL_STDDEV * p[:, 1])


def _tails(p: np.ndarray) -> tuple:
    """Of location and scale, the last two parameters."""
    return TAILS, p[:, -2], p[:, -1], -math.inf, math.inf


def _logarithm(shift: Any, scale: Any, low: Any = 0.0) -> tuple:
    return LOGARITHM, shift, scale, low, math.inf


def _exponential(p: np.ndarray) -> tuple:
    return _logarithm(-_EULER - np.log(p[:, 0]), _GUMBEL_STDDEV)


def _gamma(p: np.ndarray) -> tuple:
    return _logarithm(digamma(p[:, 0]) - np.log(p[:, 1]), np.sqrt(polygamma(1, p[:, 0])))


def _lognormal(p: np.ndarray) -> tuple:
    return _logarithm(p[:, 0], p[:, 1])


def _weibull(p: np.ndarray) -> tuple:
    return _logarithm(np.log(p[:, 0]) - _EULER / p[:, 1], _GUMBEL_STDDEV / p[:, 1])


def _half_normal(p: np.ndarray) -> tuple:
    return _logarithm(np.log(p[:, 0]) - 0.5 * (_EULER + _LOG_2), 0.5 * math.pi / math.sqrt(2.0))


def _half_cauchy(p: np.ndarray) -> tuple:
    return _logarithm(np.log(p[:, 0]), 0.5 * math.pi)


def _inverse_gamma(p: np.ndarray) -> tuple:
    return _logarithm(np.log(p[:, 1]) - digamma(p[:, 0]), np.sqrt(polygamma(1, p[:, 0])))


def _pareto(p: np.ndarray) -> tuple:
    """The excess over the bound is the ratio of an exponential and a gamma variable, times the bound."""
    spread = np.sqrt(polygamma(1, 1.0) + polygamma(1, p[:, 1]))
    return _logarithm(np.log(p[:, 0]) - _EULER - digamma(p[:, 1]), spread, p[:, 0])


def _count(mean: Any, variance: Any, low: Any = 0.0, high: Any = math.inf) -> tuple:
    return np.where(variance > 0.0, COUNT, PRIOR), mean, np.sqrt(np.maximum(variance, 0.25)), low, high


def _poisson(p: np.ndarray) -> tuple:
    return _count(p[:, 0], p[:, 0])


def _binomial(p: np.ndarray) -> tuple:
    n, probs = p[:, 0], p[:, 1]
    return _count(n * probs, n * probs * (1.0 - probs), high=n)


def _counts_of(family: Any) -> Callable[[np.ndarray], tuple]:
    """The frames of a family of counts, from its own moments and bounds."""

    def frames(p: np.ndarray) -> tuple:
        together = family(*p.T)
        return _count(together.mean, together.variance, *together.support)

    return frames


def _von_mises(p: np.ndarray) -> tuple:
    return CIRCLE, p[:, 0], np.minimum(p[:, 1] ** -0.5, _WIDEST_ANGLE), -math.pi, math.pi


def _bernoulli(p: np.ndarray) -> tuple:
    return CATEGORY, 0.0, 1.0, 0.0, 1.0


#: Families whose frames are computed for many draws together, from their parameters (n, p).
_BY_FAMILY: dict[str, Callable[[np.ndarray], tuple]] = {
    "Normal": _normal,
    "Uniform": _uniform,
    "Beta": _beta,
    "TruncatedNormal": _truncated_normal,
    "Exponential": _exponential,
    "Gamma": _gamma,
    "LogNormal": _lognormal,
    "Weibull": _weibull,
    "Poisson": _poisson,
    "Binomial": _binomial,
    "VonMises": _von_mises,
    "Bernoulli": _bernoulli,
    "Laplace": _laplace,
    "Logistic": _logistic,
    "Gumbel": _gumbel,
    "StudentT": _tails,
    "Cauchy": _tails,
    "HalfNormal": _half_normal,
    "HalfCauchy": _half_cauchy,
    "InverseGamma": _inverse_gamma,
    "Pareto": _pareto,
    "NegativeBinomial": _counts_of(NegativeBinomial),
    "NegativeBinomial2": _counts_of(NegativeBinomial2),
    "BetaBinomial": _counts_of(BetaBinomial),
    "Geometric": _counts_of(Geometric),
    "Hypergeometric": _counts_of(Hypergeometric),
    "ZeroInflatedPoisson": _counts_of(ZeroInflatedPoisson),
}
MOST_PARAMETERS = 4

#: The families whose type a network embeds. No more are added, so that networks trained earlier can be read.
_EMBEDDED = (
    "Bernoulli", "Beta", "Binomial", "Categorical", "Delta", "Exponential", "Factor", "Gamma", "LogNormal", "Mixture",
    "MultivariateNormal", "Normal", "Poisson", "TruncatedNormal", "Uniform", "VonMises", "Weibull",
)  # fmt: skip
#: Families by number; 0 stands for those that numpyro computes.
FAMILY_NUMBERS = {
    name: number
    for number, name in enumerate(("numpyro", *_EMBEDDED, *sorted(name for name in FAMILIES if name not in _EMBEDDED)))
}
#: Rows of the embedding of the distribution's type; families of greater number share row 0 with numpyro's.
EMBEDDED_FAMILIES = 1 + len(_EMBEDDED)


def family_number(family: str) -> int:
    """The number of a family; all of numpyro's recipes share 0."""
    return FAMILY_NUMBERS.get(family, 0)


def is_vectorised(family: str) -> bool:
    """Whether ``frames_of`` knows the family."""
    return family in _BY_FAMILY


def frames_of(family: str, parameters: np.ndarray) -> Frames:
    """Frames of draws of one family, from its scalar parameters, float64 (n, p)."""
    kind, *numbers = _BY_FAMILY[family](parameters)
    n = len(parameters)
    columns = [np.broadcast_to(np.asarray(number, np.float64), n) for number in numbers]
    return Frames(np.broadcast_to(np.asarray(kind, np.int8), n), *columns)


def log_priors(family: str, values: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Log densities of values (n,) under one family with scalar parameters (n, p), float64 (n,)."""
    with np.errstate(all="ignore"):
        return FAMILIES[family]._log_densities(values, *parameters.T)


def frame_of(distribution: Distribution) -> tuple[int, float, float, float, float]:
    """The frame of one scalar draw of any family: kind, shift, scale, low, high."""
    family = type(distribution).__name__
    if isinstance(distribution, Elementwise) and family in _BY_FAMILY:
        one = frames_of(family, np.array([distribution.numbers()]))
        return int(one.kind[0]), *(float(column[0]) for column in one[1:])  # type: ignore[return-value]
    if isinstance(distribution, Categorical):
        most = float(distribution.support[1])
        return (CATEGORY, 0.0, 1.0, 0.0, most) if most < MOST_CATEGORIES else _NO_FRAME
    try:
        mean, variance = float(distribution.mean), float(distribution.variance)
        low, high = (float(bound) for bound in distribution.support)
    except (NotImplementedError, TypeError, ValueError, AttributeError):
        return _NO_FRAME
    if not (math.isfinite(mean) and 0.0 < variance < math.inf and low < high):
        return _NO_FRAME
    if not distribution.discrete:
        return LINE, mean, math.sqrt(variance), low, high
    return COUNT, mean, math.sqrt(max(variance, 0.25)), low, high


_NO_FRAME = (PRIOR, 0.0, 1.0, -math.inf, math.inf)


# -- elements of vector-valued draws -----------------------------------------------------------------------------------


def element_priors(distribution: Distribution) -> list[Distribution] | None:
    """Scalar distributions of the elements of a vector-valued draw of independent elements, in C order.

    None where the elements depend on each other (see ``conditional_normal``) or are of no family that can be divided.
    """
    shape = distribution.shape
    if isinstance(distribution, Categorical):
        return [Categorical(row) for row in distribution.probs.reshape(-1, distribution.probs.shape[-1])]
    if not isinstance(distribution, Elementwise):
        return None
    columns = [np.broadcast_to(value, shape).ravel().tolist() for value in distribution._values()]
    kind: Any = type(distribution)
    return [kind(*element) for element in zip(*columns, strict=True)]


def conditional_normal(distribution: MultivariateNormal, earlier: Sequence[float]) -> Normal:
    """The prior of element k of a multivariate normal given the elements 0 ... k - 1."""
    k = len(earlier)
    tril = distribution.scale_tril
    z = np.zeros(k)
    for i in range(k):
        z[i] = (earlier[i] - distribution.loc[i] - tril[i, :i] @ z[:i]) / tril[i, i]
    return Normal(float(distribution.loc[k] + tril[k, :k] @ z), float(tril[k, k]))


def conditional_normals(loc: np.ndarray, tril: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every element given the ones before it, (n, d) each.

    Args:
      loc: float64 (n, d); ``tril``: (n, d, d); ``values``: (n, d).
    """
    means = np.empty_like(values)
    z = np.zeros_like(values)
    for k in range(values.shape[1]):
        means[:, k] = loc[:, k] + np.einsum("nj,nj->n", tril[:, k, :k], z[:, :k])
        z[:, k] = (values[:, k] - means[:, k]) / tril[:, k, k]
    return means, np.einsum("nkk->nk", tril).copy()
