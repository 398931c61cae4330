"""Log densities on the host, against scipy and against numpyro's twin, to 1e-6 relative to max(1, |log density|)."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy_twins import CASES, NAMES, agree, log_prob, probes

from ppl_jax import distributions as d
from ppl_jax.distributions.base import Distribution

CASE = pytest.mark.parametrize(("family", "parameters"), CASES, ids=NAMES)


@CASE
def test_agrees_with_scipy_everywhere(family, parameters):
    values = probes(family, parameters)
    distribution = family(*parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = distribution.log_prob(values)
    expected = log_prob(family.__name__, parameters, values)
    wrong = [row for row in zip(values, found, expected, strict=True) if not agree(row[1], row[2])]
    assert not wrong
    assert found.shape == values.shape


@CASE
def test_scalars_and_arrays_agree(family, parameters):
    values = probes(family, parameters)
    distribution = family(*parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one_by_one = [distribution.log_prob(float(value)) for value in values]
        from_numpy = [distribution.log_prob(value) for value in values]
        as_arrays = family(*[np.array([parameter]) for parameter in parameters]).log_prob(values)
    assert all(type(found) is float for found in one_by_one)
    assert one_by_one == from_numpy
    assert agree(one_by_one, distribution.log_prob(values), 1e-9)
    assert agree(as_arrays, distribution.log_prob(values), 1e-12)


@CASE
def test_agrees_with_numpyro_inside_the_support(family, parameters, x64):
    """Bounds included."""
    values = probes(family, parameters)
    inside = np.isfinite(log_prob(family.__name__, parameters, values))
    values = np.where(inside, values, values[inside][0])
    found = family(*parameters).to_numpyro().log_prob(values)
    assert agree(family(*parameters).log_prob(values), found)


@CASE
def test_parameters_and_values_broadcast(family, parameters):
    values = np.resize(probes(family, parameters), (2, 3, 4))
    distribution = family(*[np.full((3, 1), parameter) for parameter in parameters])
    assert distribution.shape == (3, 1)
    found = distribution.log_prob(values)
    assert found.shape == (2, 3, 4)
    assert agree(found, family(*parameters).log_prob(values), 1e-12)


@given(loc=st.floats(-1e6, 1e6), scale=st.floats(1e-6, 1e6), value=st.floats(allow_nan=True))
def test_no_value_raises_or_gives_nan(loc, scale, value):
    positive = abs(loc) + 1e-3
    probability = 1.0 / (1.0 + scale)
    for distribution in (
        d.Normal(loc, scale),
        d.Uniform(loc, loc + scale),
        d.Poisson(positive),
        d.Bernoulli(probability),
        d.Beta(positive, scale),
        d.Exponential(scale),
        d.Gamma(positive, scale),
        d.LogNormal(loc, scale),
        d.Binomial(math.floor(positive), probability),
        d.Weibull(scale, positive),
        d.TruncatedNormal(loc, scale, loc - scale, math.inf),
        d.TruncatedNormal(0.0, scale, positive, 2.0 * positive),
        d.VonMises(loc, scale),
        d.NegativeBinomial(positive, probability),
        d.NegativeBinomial2(positive, scale),
        d.BetaBinomial(positive, scale, math.floor(positive)),
        d.Geometric(probability),
        d.Hypergeometric(math.floor(positive) + 5, math.floor(positive), 5),
        d.StudentT(scale, loc, positive),
        d.Cauchy(loc, scale),
        d.HalfCauchy(scale),
        d.HalfNormal(scale),
        d.Laplace(loc, scale),
        d.Logistic(loc, scale),
        d.Gumbel(loc, scale),
        d.InverseGamma(positive, scale),
        d.Pareto(positive, scale),
        d.ZeroInflatedPoisson(probability, positive),
        d.Delta(loc),
        d.Categorical([positive, scale, 0.0]),
        d.Mixture([scale, 1.0], [d.Normal(loc, scale), d.Beta(0.5, positive)]),
    ):
        found = distribution.log_prob(value)
        assert type(found) is float
        assert not math.isnan(found)
        assert agree(found, distribution.log_prob(np.array([value])), 1e-8)
        if math.isnan(value):
            assert found == -math.inf


@given(low=st.floats(-50.0, 50.0), width=st.floats(1e-8, 100.0), scale=st.floats(0.05, 50.0), where=st.floats(0.0, 1.0))
def test_truncated_normal_relates_to_its_mirror_image(low, width, scale, where):
    value = min(low + where * width, low + width)
    here = d.TruncatedNormal(0.0, scale, low, low + width).log_prob(value)
    mirrored = d.TruncatedNormal(0.0, scale, -low - width, -low).log_prob(-value)
    assert agree(here, mirrored, 1e-9)


def test_truncated_normal_very_far_out_is_exponential():
    """Beyond c >> 1 standard deviations the tail is exponential with rate c, up to a relative 1/c^2."""
    for c in (1e6, 1e9, 1e100):
        distribution = d.TruncatedNormal(0.0, 1.0, c, math.inf)
        assert agree(distribution.log_prob(c), math.log(c), 1e-9)
        assert agree(d.TruncatedNormal(0.0, 1.0, -math.inf, -c).log_prob(-c), math.log(c), 1e-9)
        assert distribution.log_prob(2.0 * c) < -0.9 * c * c


def test_truncated_normal_of_a_narrow_interval_is_uniform():
    for low, width in ((0.0, 1e-12), (5.0, 1e-9), (-30.0, 1e-10), (0.0, 5e-324)):
        distribution = d.TruncatedNormal(0.0, 1.0, low, low + width)
        assert agree(distribution.log_prob(low), -math.log((low + width) - low), 1e-6)


@pytest.mark.parametrize(
    ("distribution", "value", "expected"),
    [
        (d.Normal(0.0, 1e-200), 1.0, -math.inf),
        (d.LogNormal(0.0, 1.0), 0.0, -math.inf),
        (d.Poisson(3.0), 1e308, -math.inf),
        (d.Poisson(3.0), 2**70, None),
        (d.Gamma(0.5, 1.0), 0.0, math.inf),
        (d.Gamma(2.0, 1.0), 0.0, -math.inf),
        (d.Weibull(1e-300, 3.0), 1e300, -math.inf),
        (d.Weibull(1.0, 0.5), 0.0, math.inf),
        (d.Beta(0.5, 2.0), 0.0, math.inf),
        (d.Beta(0.5, 2.0), 1.0, -math.inf),
        (d.Beta(1e9, 1e9), 0.5, 0.5 * math.log(8e9 / (2.0 * math.pi))),
        (d.Binomial(2.0**53, 0.5), -1.0, -math.inf),
        (d.Bernoulli(1e-20), 0, -1e-20),
        (d.VonMises(0.0, 1e12), 1e-6, -0.5 - math.log(2.0 * math.pi) / 2 + math.log(1e6)),
        (d.Delta(2.0), 2, 0.0),
        (d.Delta(2.0), 2.5, -math.inf),
        (d.Factor(-1.5), None, -1.5),
        (d.Factor(-math.inf), None, -math.inf),
    ],
    ids=repr,
)
def test_extremes(distribution: Distribution, value, expected):
    found = distribution.log_prob(value)
    assert not math.isnan(found)
    if expected is not None:
        assert agree(found, expected)
