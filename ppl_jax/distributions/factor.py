"""Factor: an unnormalised contribution to the log joint density."""

from __future__ import annotations

import math
from typing import Any

from ppl_jax.distributions.base import Distribution, UniformSource, as_parameter, is_tracer, require


class Factor(Distribution):
    """Adds ``log_factor`` (a scalar below +inf; -inf forbids the execution) to the log joint; it has no value."""

    __slots__ = ("log_factor",)
    parameters = ("log_factor",)

    def __init__(self, log_factor: Any):
        log_factor = as_parameter(log_factor)
        if type(log_factor) is float:
            require(log_factor < math.inf, "Factor", "log_factor", log_factor, "a number below +inf, not NaN")
        else:
            scalar = is_tracer(log_factor) and log_factor.shape == ()
            require(scalar, "Factor", "log_factor", log_factor, "a scalar")
        self.log_factor = log_factor
        self.shape = ()

    def sample(self, rng: UniformSource) -> Any:
        return None

    def log_prob(self, value: Any = None) -> Any:
        return self.log_factor

    def to_numpyro(self) -> Any:
        from numpyro import distributions as npd

        return npd.Unit(self.log_factor)
