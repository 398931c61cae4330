"""Families whose parameters are no plain numbers: categorical, mixture, multivariate normal; and delta and factor."""

import math
import warnings

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import logsumexp
from scipy_twins import agree

from ppl_jax import distributions as d

NAN, INF = float("nan"), float("inf")


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


MASSES = st.floats(0.0, 10.0, allow_subnormal=False)  # of what is subnormal, float64 has no digits to normalise


@given(probs=st.lists(MASSES, min_size=1, max_size=80).filter(lambda row: sum(row) > 0.0))
def test_categorical(probs):
    distribution, total = d.Categorical(probs), math.fsum(probs)
    with np.errstate(divide="ignore"):
        expected = np.log(np.array(probs)) - math.log(total)
    values = np.arange(len(probs))
    assert agree([distribution.log_prob(int(k)) for k in values], expected)
    assert agree([distribution.log_prob(float(k)) for k in values], expected)
    assert agree(distribution.log_prob(values), expected)
    outside = [-1, len(probs), 0.5, NAN, INF, -INF, 1e300]
    assert [distribution.log_prob(value) for value in outside] == [-INF] * len(outside)
    assert distribution.log_prob(np.array(outside, dtype=float)).tolist() == [-INF] * len(outside)


def test_a_category_too_rare_for_float64_is_impossible():
    """2.5e-324 is rounded to 0; the draw, the density and what is stored say the same of it."""
    distribution = d.Categorical([2.0, 5e-324])
    assert distribution.probs.tolist() == [1.0, 0.0]
    assert distribution.log_prob(1) == -INF == distribution.log_prob(np.array([1]))[0]
    assert distribution.sample(_Last()) == 0


class _Last:
    def random(self):
        return 1.0 - 2.0**-53


def test_categorical_agrees_with_numpyro(x64):
    for probs in ([0.2, 0.3, 0.5], np.arange(1.0, 101.0), [[0.2, 0.8], [0.6, 0.4]]):
        distribution = d.Categorical(probs)
        values = np.array([1, 0]) if distribution.shape else np.array([0, 1, 2, 1])
        assert agree(distribution.log_prob(values), distribution.to_numpyro().log_prob(values))


def test_categorical_broadcasts():
    rows = d.Categorical([[0.2, 0.8], [0.6, 0.4]])
    assert rows.shape == (2,)
    assert agree(rows.log_prob([0, 1]), np.log([0.2, 0.4]))
    assert agree(rows.log_prob(1), np.log([0.8, 0.4]))
    assert agree(rows.log_prob([[0], [1], [2]]), [np.log([0.2, 0.6]), np.log([0.8, 0.4]), [-INF, -INF]])
    assert d.Categorical([0.2, 0.8]).log_prob(np.array([[0, 1]])).shape == (1, 2)


def test_categorical_moments():
    distribution = d.Categorical([1.0, 2.0, 5.0])
    law = stats.rv_discrete(values=([0, 1, 2], [0.125, 0.25, 0.625]))
    assert agree([distribution.mean, distribution.variance], [law.mean(), law.var()], 1e-12)
    assert distribution.support == (0, 2)


MIXTURE = d.Mixture([0.2, 0.5, 0.3], [d.Normal(-2.0, 0.5), d.Normal(1.0, 2.0), d.Normal(30.0, 0.1)])


@given(value=st.floats(-1e3, 1e3))
def test_mixture(value):
    expected = logsumexp(stats.norm([-2.0, 1.0, 30.0], [0.5, 2.0, 0.1]).logpdf(value), b=[0.2, 0.5, 0.3])
    assert agree(MIXTURE.log_prob(value), expected)
    assert agree(MIXTURE.log_prob(np.array([value, value])), [expected, expected])


def test_mixture_agrees_with_numpyro(x64):
    values = np.linspace(0.05, 0.95, 7)
    for mixture in (
        MIXTURE,
        d.Mixture([1.0, 1.0], [d.Beta(2.0, 3.0), d.Beta(0.5, 0.5)]),
        d.Mixture([1.0, 3.0], [d.Exponential(2.0), d.Normal(0.0, 1.0)]),
        d.Mixture([1.0, 3.0, 1.0], [d.Gamma(2.0, 1.0), d.LogNormal(0.0, 1.0), d.Weibull(1.0, 2.0)]),
        d.Mixture([1.0, 3.0], [d.TruncatedNormal(0.0, 1.0, 0.0, 2.0), d.TruncatedNormal(0.0, 1.0, -1.0, 0.5)]),
        d.Mixture([1.0, 3.0], [d.Uniform(0.0, 0.5), d.Uniform(0.3, 2.0)]),
        d.Mixture([1.0, 3.0], [d.TruncatedNormal(0.0, 1.0, -INF, 2.0), d.TruncatedNormal(0.0, 1.0, -INF, 0.5)]),
    ):
        # Compiled as a whole: operation by operation it would be hundreds of compilations.
        assert agree(mixture.log_prob(values), jax.jit(mixture.to_numpyro().log_prob)(values))
    counts = np.arange(5)
    for mixture in (
        d.Mixture([1.0, 3.0], [d.Poisson(2.0), d.Binomial(4.0, 0.4)]),
        d.Mixture([1.0, 3.0], [d.Binomial(9.0, 0.2), d.Binomial(4.0, 0.4)]),
    ):
        assert agree(mixture.log_prob(counts), jax.jit(mixture.to_numpyro().log_prob)(counts))


def test_mixture_outside_and_at_the_edges():
    mixture = d.Mixture([0.5, 0.5], [d.Beta(0.5, 1.0), d.Uniform(2.0, 3.0)])
    assert mixture.log_prob(1.5) == -INF
    assert mixture.log_prob(0.0) == INF
    assert mixture.log_prob(NAN) == -INF
    assert mixture.log_prob(np.array([1.5, 0.0, NAN])).tolist() == [-INF, INF, -INF]
    never = d.Mixture([0.0, 1.0], [d.Beta(0.5, 1.0), d.Uniform(-1.0, 1.0)])
    assert never.log_prob(0.0) == -math.log(2.0) == never.log_prob(np.array([0.0]))[0]
    assert mixture.support == (0.0, 3.0)
    assert type(mixture.log_prob(0.5)) is float


def test_mixture_moments():
    assert agree(MIXTURE.mean, -0.4 + 0.5 + 9.0, 1e-12)
    second = 0.2 * (0.25 + 4.0) + 0.5 * (4.0 + 1.0) + 0.3 * (0.01 + 900.0)
    assert agree(MIXTURE.variance, second - 9.1**2, 1e-12)


def test_discrete_mixture():
    mixture = d.Mixture([0.5, 0.5], [d.Poisson(1.0), d.Binomial(3, 0.5)])
    assert mixture.discrete and not MIXTURE.discrete
    expected = 0.5 * stats.poisson(1.0).pmf(2) + 0.5 * stats.binom(3, 0.5).pmf(2)
    assert agree(mixture.log_prob(2), math.log(expected))


@given(
    d_=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
)
def test_multivariate_normal(d_, seed):
    rng = np.random.default_rng(seed)
    loc = rng.normal(size=d_) * 10.0
    scale_tril = np.tril(rng.normal(size=(d_, d_)), -1) * 0.3 + np.diag(rng.uniform(0.1, 3.0, size=d_))
    normal = d.MultivariateNormal(loc, scale_tril)
    values = loc + rng.normal(size=(3, d_)) * 4.0
    expected = stats.multivariate_normal(loc, scale_tril @ scale_tril.T, allow_singular=True).logpdf(values)
    assert agree(normal.log_prob(values), expected)
    assert agree([normal.log_prob(value) for value in values], expected)
    assert agree([normal.log_prob(value.tolist()) for value in values], expected)
    assert agree(normal.variance, np.diag(scale_tril @ scale_tril.T), 1e-12)
    assert agree(normal.stddev, np.sqrt(normal.variance), 1e-12)


def test_multivariate_normal_agrees_with_numpyro(x64):
    normal = d.MultivariateNormal([1.0, 2.0], [[1.0, 0.0], [0.5, 2.0]])
    values = np.array([[0.0, 0.0], [1.0, 2.0], [30.0, -50.0]])
    assert agree(normal.log_prob(values), normal.to_numpyro().log_prob(values))


@pytest.mark.parametrize("dimension", [2, 30])
def test_multivariate_normal_of_no_number(dimension):
    normal = d.MultivariateNormal(np.zeros(dimension), np.eye(dimension))
    for bad in (NAN, INF, -INF):
        value = np.zeros(dimension)
        value[0] = bad
        assert normal.log_prob(value) == -INF
        both = normal.log_prob(np.array([value, np.zeros(dimension)]))
        assert both[0] == -INF and agree(both[1], normal.log_prob(np.zeros(dimension)))


def test_delta_and_factor(x64):
    assert d.Delta([1.0, 2.0]).log_prob([1.0, 1.0]).tolist() == [0.0, -INF]
    assert d.Delta(1.0).log_prob(NAN) == -INF
    assert np.asarray(d.Delta(1.0).to_numpyro().log_prob(1.0)) == 0.0
    assert (d.Delta(3.0).mean, d.Delta(3.0).variance, d.Delta(3.0).support) == (3.0, 0.0, (3.0, 3.0))
    assert np.asarray(d.Factor(-2.5).to_numpyro().log_prob(np.zeros(0))) == -2.5
