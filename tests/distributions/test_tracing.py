"""Distributions built from tracers inside jit: densities and gradients agree with the host."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy_twins import CASES, agree, probes

from ppl_jax import distributions as d
from ppl_jax.distributions.base import as_parameter, is_tracer

FAMILIES = sorted({family for family, _ in CASES}, key=lambda family: family.__name__)


@pytest.mark.parametrize("family", FAMILIES)
def test_densities_agree_with_the_host(family, x64):
    """Inside the support, at its bounds, and outside."""
    rows = [parameters for other, parameters in CASES if other is family]
    values = np.array([probes(family, parameters) for parameters in rows])
    values = np.where(np.isfinite(values), values, 0.5)

    @jax.jit
    def traced(parameters, values):
        assert all(is_tracer(parameter) for parameter in parameters)
        return family(*parameters).log_prob(values)

    found = jax.vmap(traced)(tuple(np.array(rows).T), values)
    for parameters, row, got in zip(rows, values, np.asarray(found), strict=True):
        expected = family(*parameters).log_prob(row)
        assert agree(got, expected), parameters


CONTINUOUS = [(family, parameters) for family, parameters in CASES if not family.discrete]


@pytest.mark.parametrize("family", sorted({family for family, _ in CONTINUOUS}, key=lambda family: family.__name__))
def test_gradients_agree_with_differences_on_the_host(family, x64):
    parameters = dict(reversed(CONTINUOUS))[family]
    value = float(family(*parameters).sample(_Middle()))
    arguments = np.array([value + 0.01 * (family is not d.Uniform), *parameters])

    def density(arguments):
        return family(*arguments[1:]).log_prob(arguments[0])

    gradient = np.asarray(jax.jit(jax.grad(density))(arguments))
    steps = 1e-6 * np.maximum(1e-3, np.abs(arguments)) * np.eye(len(arguments))
    for slope, step in zip(gradient, steps, strict=True):
        if np.all(np.isfinite(arguments[step > 0.0])):
            difference = (density(arguments + step) - density(arguments - step)) / (2.0 * step.max())
            assert math.isclose(slope, difference, rel_tol=1e-3, abs_tol=1e-3)


class _Middle:
    def random(self):
        return 0.4


def test_composites_of_tracers(x64):
    def density(p, loc, value):
        mixture = d.Mixture([p, 1.0 - p], [d.Normal(loc, 1.0), d.Exponential(2.0)])
        vector = d.MultivariateNormal(jnp.stack([loc, loc]), jnp.eye(2) * p)
        total = mixture.log_prob(value) + vector.log_prob(jnp.stack([value, 0.0]))
        total += d.Categorical([p, 1.0 - p]).log_prob(1)
        return total + d.Factor(loc).log_prob(None) + d.Delta(loc).log_prob(loc)

    def host(p, loc, value):
        mixture = d.Mixture([p, 1.0 - p], [d.Normal(loc, 1.0), d.Exponential(2.0)])
        vector = d.MultivariateNormal([loc, loc], np.eye(2) * p)
        total = mixture.log_prob(value) + vector.log_prob([value, 0.0])
        return total + d.Categorical([p, 1.0 - p]).log_prob(1) + loc

    for value in (0.7, -0.7):  # outside the exponential's support, too
        found = jax.jit(density)(0.3, 0.2, value)
        assert agree(found, host(0.3, 0.2, value))
        slope = jax.jit(jax.grad(density, argnums=(0, 1, 2)))(0.3, 0.2, value)
        step = 1e-6
        expected = [
            (host(0.3 + step, 0.2, value) - host(0.3 - step, 0.2, value)) / (2 * step),
            (host(0.3, 0.2 + step, value) - host(0.3, 0.2 - step, value)) / (2 * step),
            (host(0.3, 0.2, value + step) - host(0.3, 0.2, value - step)) / (2 * step),
        ]
        assert agree(slope, expected, 1e-6)


def test_values_may_be_tracers_of_any_number_type(x64):
    categorical = d.Categorical([0.2, 0.8])
    values = np.array([0.0, 1.0, 2.0, 0.5])
    assert agree(jax.jit(categorical.log_prob)(values), categorical.log_prob(values))
    expected = [math.log(0.2), math.log(0.8), -np.inf, -np.inf]
    assert agree(jax.jit(categorical.log_prob)(np.array([0, 1, 5, 7])), expected)
    impossible = d.Categorical([0.0, 1.0])
    assert np.asarray(jax.jit(impossible.log_prob)(0.0)) == -np.inf


def test_lists_that_hold_tracers_become_one_tracer():
    def total(x):
        stacked = as_parameter([[x, 1.0], [2.0, x]])
        assert is_tracer(stacked) and stacked.shape == (2, 2)
        assert is_tracer(d.Normal([x, x + 1.0], 1.0).loc)
        return stacked.sum()

    assert jax.jit(total)(1.0) == 5.0
    with pytest.raises(TypeError):
        as_parameter([object(), 1.0])


def test_shapes_are_known_under_tracing():
    def shapes(x):
        assert d.Normal(x, 1.0).shape == (3,)
        assert d.Gamma(jnp.exp(x)[:, None], x**2 + 1.0).shape == (3, 3)
        assert d.Categorical(jnp.exp(x)).shape == ()
        assert d.MultivariateNormal(x, jnp.eye(3)).shape == (3,)
        assert d.Normal(x, 1.0).layout() == ("Normal", (3,), ())
        return x

    jax.jit(shapes)(jnp.zeros(3))


UNBOUNDED = (
    d.Gamma(2.0, 1.0), d.Gamma(1.0, 2.0), d.Exponential(2.0), d.LogNormal(0.0, 1.0), d.Poisson(3.0),
    d.Weibull(1.0, 2.0), d.TruncatedNormal(0.0, 1.0, 0.0, math.inf), d.Normal(0.0, 1.0),
    d.Mixture([0.5, 0.5], [d.Gamma(2.0, 1.0), d.LogNormal(0.0, 1.0)]),
)  # fmt: skip


@pytest.mark.parametrize("distribution", UNBOUNDED, ids=lambda family: family.family)
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_has_no_density(distribution, value):
    assert distribution.log_prob(value) == -math.inf
    if value == value:  # under JAX, what is NaN is left so where no bound is compared
        assert float(jax.jit(distribution.log_prob)(value)) == -math.inf
