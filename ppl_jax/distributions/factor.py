"""Factor: an unnormalised contribution to the log joint density."""

from __future__ import annotations

from typing import Any

from ppl_jax.distributions.base import Distribution, UniformSource, as_parameter, is_tracer, require


class Factor(Distribution):
    """Adds ``log_factor`` (a scalar below +inf; -inf forbids the execution) to the log joint; it has no value."""

    __slots__ = ("log_factor",)
    parameters = ("log_factor",)

    def __init__(self, log_factor: Any):
        self.log_factor = as_parameter(log_factor)
        if type(self.log_factor) is not float:
            require(is_tracer(self.log_factor) and self.log_factor.shape == (), "Factor", "log_factor", log_factor, "a scalar")
        else:
            require(self.log_factor < float("inf"), "Factor", "log_factor", log_factor, "a number below +inf, not NaN")
        self.shape = ()

    def sample(self, rng: UniformSource) -> Any:
        return None

    def log_prob(self, value: Any = None) -> Any:
        return self.log_factor

    def to_numpyro(self) -> Any:
        from numpyro import distributions as npd

        return npd.Unit(self.log_factor)
