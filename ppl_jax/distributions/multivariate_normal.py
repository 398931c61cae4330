"""The multivariate normal distribution."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from ppl_jax.distributions.base import (
    Distribution,
    UniformSource,
    as_parameter,
    is_tracer,
    require,
    require_finite,
)
from ppl_jax.distributions.normal import HALF_LOG_2PI, standard_normal_quantile
from ppl_jax.errors import ParameterError

_SMALL = 16  # up to this dimension, a solve by plain Python floats is quicker than a call of LAPACK


@lru_cache(maxsize=64)
def _above_diagonal(d: int) -> np.ndarray:
    return np.triu(np.ones((d, d), dtype=bool), 1)


class MultivariateNormal(Distribution):
    """Normal vector with mean ``loc``, shape (d,), and covariance L L^T, L = ``scale_tril`` lower triangular, (d, d).

    ``log_prob`` takes vectors of shape (..., d) and gives one number for each.
    """

    __slots__ = ("loc", "scale_tril")
    parameters = ("loc", "scale_tril")

    def __init__(self, loc: Any, scale_tril: Any):
        loc, scale_tril = as_parameter(loc), as_parameter(scale_tril)
        require(np.ndim(loc) == 1, "MultivariateNormal", "loc", loc, "a vector")
        d = loc.shape[0]
        if np.shape(scale_tril) != (d, d):
            raise ParameterError("MultivariateNormal", "scale_tril", scale_tril, f"of shape {(d, d)}")
        require_finite("MultivariateNormal", "loc", loc)
        if not is_tracer(scale_tril):
            valid = bool(
                np.isfinite(scale_tril).all()
                and (scale_tril.diagonal() > 0.0).all()
                and not scale_tril[_above_diagonal(d)].any()
            )
            require(valid, "MultivariateNormal", "scale_tril", scale_tril, "lower triangular with a positive diagonal")
        self.loc, self.scale_tril, self.shape = loc, scale_tril, (d,)

    def sample(self, rng: UniformSource) -> Any:
        # Column by column, so that every row is summed in order: a matrix product's order depends on the machine.
        total = np.zeros(self.shape)
        for column in self.scale_tril.T:
            total += column * standard_normal_quantile(rng.random())
        return self.loc + total

    def log_prob(self, value: Any) -> Any:
        if any(is_tracer(part) for part in (value, self.loc, self.scale_tril)):
            return self.to_numpyro().log_prob(value)
        vectors = np.asarray(value, dtype=np.float64)
        if vectors.ndim == 1 and 0 < vectors.shape[0] == self.shape[0] <= _SMALL:
            return _log_density((vectors - self.loc).tolist(), self.scale_tril.tolist())
        with np.errstate(all="ignore"):
            centred = (vectors - self.loc).reshape(-1, self.shape[0])
            z = solve_triangular(self.scale_tril, centred.T, lower=True, check_finite=False)
            squares = np.square(z).sum(axis=0)
            log_prob = -0.5 * squares - np.log(self.scale_tril.diagonal()).sum() - self.shape[0] * HALF_LOG_2PI
        log_prob[np.isnan(log_prob)] = -np.inf  # infinities and NaN among the values
        return float(log_prob[0]) if vectors.ndim == 1 else log_prob.reshape(vectors.shape[:-1])

    def inflated(self, factor: float) -> MultivariateNormal:
        return MultivariateNormal(self.loc, self.scale_tril * factor)

    def to_numpyro(self) -> Any:
        from numpyro import distributions as npd

        return npd.MultivariateNormal(self.loc, scale_tril=self.scale_tril)

    @property
    def mean(self) -> Any:
        return self.loc

    @property
    def variance(self) -> Any:
        """The variance of each element, shape (d,)."""
        return np.square(self.scale_tril).sum(axis=-1)

    @property
    def support(self) -> tuple[Any, Any]:
        return -math.inf, math.inf


def _log_density(centred: list[float], rows: list[list[float]]) -> float:
    """The log density by forward substitution, row by row."""
    z: list[float] = []
    total = -HALF_LOG_2PI * len(rows)
    for x, row in zip(centred, rows, strict=True):
        for weight, earlier in zip(row, z, strict=False):
            x -= weight * earlier
        x /= row[len(z)]
        z.append(x)
        total -= 0.5 * x * x + math.log(row[len(z) - 1])
    return total if total == total else -math.inf
