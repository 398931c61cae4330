"""The multivariate normal distribution."""

from __future__ import annotations

import math
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


class MultivariateNormal(Distribution):
    """Normal vector with mean ``loc``, shape (d,), and covariance L L^T, L = ``scale_tril`` lower triangular, (d, d)."""

    __slots__ = ("loc", "scale_tril")
    parameters = ("loc", "scale_tril")

    def __init__(self, loc: Any, scale_tril: Any):
        loc, scale_tril = as_parameter(loc), as_parameter(scale_tril)
        require(np.ndim(loc) == 1, "MultivariateNormal", "loc", loc, "a vector")
        d = loc.shape[0]
        require(np.shape(scale_tril) == (d, d), "MultivariateNormal", "scale_tril", scale_tril, f"of shape {(d, d)}")
        require_finite("MultivariateNormal", "loc", loc)
        if not is_tracer(scale_tril):
            valid = bool(
                np.isfinite(scale_tril).all()
                and (np.diag(scale_tril) > 0).all()
                and not np.triu(scale_tril, 1).any()
            )
            require(valid, "MultivariateNormal", "scale_tril", scale_tril, "lower triangular with a positive diagonal")
        self.loc, self.scale_tril, self.shape = loc, scale_tril, (d,)

    def sample(self, rng: UniformSource) -> Any:
        z = np.array([standard_normal_quantile(rng.random()) for _ in range(self.shape[0])])
        return self.loc + self.scale_tril @ z

    def log_prob(self, value: Any) -> Any:
        if any(is_tracer(part) for part in (value, self.loc, self.scale_tril)):
            return self.to_numpyro().log_prob(value)
        z = solve_triangular(self.scale_tril, np.asarray(value, dtype=np.float64) - self.loc, lower=True)
        return float(-0.5 * z @ z - np.log(np.diag(self.scale_tril)).sum() - self.shape[0] * HALF_LOG_2PI)

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
        return np.square(self.scale_tril).sum(axis=-1)

    @property
    def support(self) -> tuple[Any, Any]:
        return -math.inf, math.inf
