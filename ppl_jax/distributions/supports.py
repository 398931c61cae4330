"""Supports whose bounds may hang on random values, as numpyro's samplers must see them. Imported where JAX is in use.

numpyro maps a bounded latent to the real line by its bounds in one execution, unless it sees that they are arrays. Here
a bound is always shown as an array, so that an interval that depends on another latent is one in every execution.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from numpyro.distributions import constraints

from ppl_jax.distributions.base import Distribution, is_tracer


def has_moving_bounds(twin: Any) -> bool:
    """Whether the support of one of numpyro's distributions is given by its parameters, as that of Uniform is."""
    support = twin.support
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return not isinstance(support, constraints.ParameterFreeConstraint)


def with_arrays(distribution: Distribution) -> Distribution:
    """The distribution with all parameters as JAX arrays, also numbers; for ``to_numpyro`` only."""
    names = distribution.parameters
    if not all(isinstance(getattr(distribution, name, None), (float, np.ndarray)) for name in names):
        return distribution  # they are traced already, or made of parts
    copy = object.__new__(type(distribution))
    for slot in (slot for kind in type(distribution).__mro__ for slot in getattr(kind, "__slots__", ())):
        if hasattr(distribution, slot):
            setattr(copy, slot, getattr(distribution, slot))
    for name in names:
        setattr(copy, name, jnp.asarray(getattr(distribution, name)))
    return copy


def is_traced(distribution: Distribution) -> bool:
    """Whether a parameter is an abstract value of JAX."""
    parts = [getattr(distribution, name, None) for name in distribution.parameters]
    return any(is_tracer(part) for part in parts) or any(
        is_traced(component) for component in getattr(distribution, "components", ())
    )
