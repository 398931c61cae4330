"""Means, variances and supports against scipy; inflated distributions are wider and have the same support."""

import math

import numpy as np
import pytest
from scipy_twins import CASES, NAMES, SUPPORTS, agree, twin

from ppl_jax import distributions as d

CASE = pytest.mark.parametrize(("family", "parameters"), CASES, ids=NAMES)


@CASE
def test_mean_and_variance(family, parameters):
    distribution, law = family(*parameters), twin(family.__name__, parameters)
    if family is d.VonMises:  # circular: scipy gives the moments of the number
        law = twin("VonMises", (0.0, parameters[1]))
        length = law.expect(math.cos, lb=-math.pi, ub=math.pi) if parameters[1] < 1e3 else 1.0 - 0.5 / parameters[1]
        assert agree(distribution.mean, parameters[0], 1e-12)
        assert abs(distribution.variance - (1.0 - length)) < 1e-6
        return
    if family is d.TruncatedNormal:  # the moments are scipy's own
        assert parameters[2] <= distribution.mean <= parameters[3] and distribution.variance > 0.0
        return
    if family in (d.Cauchy, d.StudentT, d.HalfCauchy, d.InverseGamma, d.Pareto, d.NegativeBinomial2):
        return  # see test_more_moments
    assert agree(distribution.mean / law.mean() if law.mean() else distribution.mean, 1.0 if law.mean() else 0.0, 1e-9)
    if math.isfinite(law.var()):
        ratio = distribution.variance / law.var() if law.var() else 1.0 + distribution.variance
        assert agree(ratio, 1.0, 1e-6)
    assert agree(distribution.stddev, np.sqrt(distribution.variance), 1e-12)


@CASE
def test_moments_of_arrays_have_the_shape_of_a_value(family, parameters):
    distribution = family(*[np.full(3, p) if i == 0 else np.full((2, 1), p) for i, p in enumerate(parameters)])
    expected = (2, 3) if len(parameters) > 1 else (3,)
    assert distribution.shape == expected
    one = family(*parameters)
    for moment in ("mean", "variance", "stddev"):
        assert np.shape(getattr(distribution, moment)) == expected
        found, single = np.asarray(getattr(distribution, moment)), getattr(one, moment)
        assert agree(found, np.broadcast_to(single, expected), 1e-9) or np.isnan(found).all() == np.isnan(single)


@CASE
def test_support(family, parameters):
    assert family(*parameters).support == SUPPORTS.get(family.__name__, lambda *_: (-math.inf, math.inf))(*parameters)


INFLATING = [
    d.Normal(1.0, 2.0),
    d.LogNormal(0.0, 0.5),
    d.Exponential(3.0),
    d.TruncatedNormal(0.0, 1.0, -1.0, 4.0),
    d.VonMises(0.3, 5.0),
    d.Bernoulli(0.1),
    d.Categorical([0.9, 0.05, 0.05]),
    d.Mixture([0.5, 0.5], [d.Normal(0.0, 1.0), d.Normal(3.0, 1.0)]),
    d.MultivariateNormal([0.0, 1.0], [[1.0, 0.0], [0.5, 1.0]]),
    d.Normal(np.zeros(3), np.ones(3)),
    d.StudentT(5.0, 1.0, 2.0),
    d.HalfNormal(2.0),
    d.Laplace(1.0, 2.0),
    d.Logistic(1.0, 2.0),
    d.Gumbel(1.0, 2.0),
]


@pytest.mark.parametrize("distribution", INFLATING, ids=repr)
def test_inflated_is_wider(distribution):
    wider = distribution.inflated(2.0)
    assert type(wider) is type(distribution) and wider.shape == distribution.shape
    assert np.all(wider.variance > distribution.variance)
    assert wider.support == distribution.support
    assert distribution.inflated(1.0).numbers() == pytest.approx(distribution.numbers(), rel=1e-12)


@CASE
def test_inflated_keeps_the_support(family, parameters):
    distribution = family(*parameters)
    wider = distribution.inflated(3.0)
    assert wider.support == distribution.support
    assert wider.variance >= distribution.variance * (1.0 - 1e-9) or math.isnan(distribution.variance)


def test_inflation_forbids_what_was_impossible():
    wider = d.Categorical([0.0, 0.9, 0.1]).inflated(2.0)
    assert wider.log_prob(0) == -math.inf
    assert wider.probs.tolist() == pytest.approx([0.0, 0.75, 0.25])
    assert d.Bernoulli(0.0).inflated(5.0).probs == 0.0
    poisson = d.Poisson(3.0)
    assert poisson.inflated(2.0) is poisson
