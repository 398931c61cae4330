"""Draws follow their law: Kolmogorov-Smirnov for continuous families, chi-square for discrete ones, against scipy.

Every test is made at significance 1e-4 with fixed seeds. There are about 70 of them, so that a correct library fails
one for fewer than one in a hundred choices of the seeds; with these seeds it fails none, ever.
"""

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy_twins import CASES, INF, NAMES, twin

from ppl_jax import distributions as d
from ppl_jax.distributions.gamma import draw_standard_gamma
from ppl_jax.distributions.poisson import log_factorial
from ppl_jax.streams import Stream

DRAWS = 10_000
SIGNIFICANCE = 1e-4

#: Regimes beyond those of the log densities: each branch of each sampler, and its neighbours.
MORE = [
    (d.Gamma, (0.9999, 1.0)), (d.Gamma, (0.05, 3.0)), (d.Gamma, (1e6, 1e3)),
    (d.Beta, (0.999, 0.999)), (d.Beta, (0.01, 0.02)), (d.Beta, (0.5, 1.5)), (d.Beta, (1e4, 0.7)),
    (d.Poisson, (10.5,)), (d.Poisson, (150.0,)), (d.Poisson, (1e6,)),
    (d.Binomial, (25.0, 0.399)), (d.Binomial, (25.0, 0.401)), (d.Binomial, (25.0, 0.61)), (d.Binomial, (40.0, 0.5)),
    (d.Binomial, (1000000.0, 0.2)), (d.Binomial, (1e9, 3e-9)),
    (d.TruncatedNormal, (0.0, 1.0, 7.99, INF)), (d.TruncatedNormal, (0.0, 1.0, 8.01, INF)),
    (d.TruncatedNormal, (0.0, 1.0, 8.01, 8.02)), (d.TruncatedNormal, (0.0, 1.0, -9.0, -8.5)),
    (d.TruncatedNormal, (0.0, 1.0, -1e-3, 5.0)), (d.TruncatedNormal, (0.0, 1.0, 30.0, 31.0)),
    (d.NegativeBinomial2, (1e5, 0.01)), (d.NegativeBinomial2, (3.0, 1e9)), (d.BetaBinomial, (0.01, 0.02, 100.0)),
    (d.Hypergeometric, (1e6, 5e5, 5e5)),
    (d.Hypergeometric, (300.0, 150.0, 100.0)), (d.Hypergeometric, (2.0**24, 2.0**23, 100.0)),
    (d.StudentT, (0.05, 0.0, 1.0)),
    (d.InverseGamma, (0.01, 1.0)), (d.Pareto, (1.0, 0.01)),
    (d.VonMises, (0.0, 1e-9)), (d.VonMises, (2.0, 0.05)), (d.VonMises, (0.0, 2e3)), (d.VonMises, (0.0, 1e6)),
]  # fmt: skip


@pytest.mark.parametrize(("family", "parameters"), CASES + MORE, ids=NAMES + [f"{f.__name__}{p} more" for f, p in MORE])
def test_draws_follow_their_law(family, parameters):
    rng = Stream(20240901, len(parameters))
    distribution = family(*parameters)
    draws = np.array([distribution.sample(rng) for _ in range(DRAWS)])
    low, high = distribution.support
    assert np.all((draws >= low) & (draws <= high) & np.isfinite(draws))
    assert np.all(np.isfinite(distribution.log_prob(draws)))
    law = twin(family.__name__, parameters)
    if family is d.VonMises:
        p_value = _von_mises_p_value(draws, *parameters)
    elif family.discrete:
        p_value = _chi_square_p_value(draws, law)
    else:
        p_value = _ks_p_value(draws, law)
    assert p_value > SIGNIFICANCE


def _ks_p_value(draws: np.ndarray, law) -> float:
    """Draws that rounding would bring to a bound are kept a step away: those are counted, the others compared."""
    first, last = sys.float_info.min, (1.0 - 2.0**-53 if law.dist.name == "beta" else sys.float_info.max)
    with np.errstate(over="ignore"):  # within scipy
        below, mass = law.cdf(first), law.cdf(last) - law.cdf(first)
    if law.support()[0] != 0.0 or mass == 1.0:
        return stats.kstest(draws, law.cdf).pvalue
    inside = (draws > first) & (draws < last)
    counted = stats.binomtest(int(inside.sum()), len(draws), min(mass, 1.0)).pvalue
    compared = stats.kstest(draws[inside], lambda x: (law.cdf(x) - below) / mass).pvalue
    return min(counted, compared)


def _von_mises_p_value(draws: np.ndarray, loc: float, concentration: float) -> float:
    """The circle is cut opposite to loc. scipy's normal approximation above 50 is wrong by 1 / (8 concentration)."""
    angles = (draws - loc + math.pi) % (2.0 * math.pi) - math.pi
    return stats.kstest(angles, stats.vonmises(concentration).cdf).pvalue


def _chi_square_p_value(draws: np.ndarray, law) -> float:
    """Cells of about equal expected counts, at most 40 of them, by the law's own quantiles."""
    edges = np.unique(law.ppf(np.linspace(0.0, 1.0, 41)[1:-1]))
    expected = np.diff(np.concatenate([[0.0], law.cdf(edges), [1.0]])) * len(draws)
    observed = np.bincount(np.searchsorted(edges, draws), minlength=len(expected))
    rare = expected < 5.0
    assert observed[rare].sum() <= 30
    if (~rare).sum() < 2:
        return 1.0
    kept = expected[~rare] * observed[~rare].sum() / expected[~rare].sum()
    return stats.chisquare(observed[~rare], kept).pvalue


@pytest.mark.parametrize(
    "probs", [[0.2, 0.3, 0.5], [0.0, 1.0], [5, 0, 3, 2], (1.0,), np.ones(64), np.arange(200.0)], ids=len
)
def test_categorical_draws_follow_their_law(probs):
    rng = Stream(5)
    distribution = d.Categorical(probs)
    draws = np.array([distribution.sample(rng) for _ in range(DRAWS)])
    expected = np.asarray(probs, dtype=float) / np.sum(probs) * DRAWS
    observed = np.bincount(draws, minlength=len(expected))
    assert len(observed) == len(expected) and np.all(observed[expected == 0.0] == 0)
    possible = expected > 0.0
    if possible.sum() > 1:
        assert stats.chisquare(observed[possible], expected[possible]).pvalue > SIGNIFICANCE


def test_mixture_draws_follow_their_law():
    rng = Stream(6)
    mixture = d.Mixture([1.0, 2.0, 1.0], [d.Normal(-2.0, 0.5), d.Exponential(1.0), d.Uniform(3.0, 4.0)])

    def cdf(x):
        return 0.25 * stats.norm(-2.0, 0.5).cdf(x) + 0.5 * stats.expon().cdf(x) + 0.25 * stats.uniform(3.0).cdf(x)

    assert stats.kstest([mixture.sample(rng) for _ in range(DRAWS)], cdf).pvalue > SIGNIFICANCE


def test_multivariate_normal_draws_follow_their_law():
    """Whitened draws are independent standard normals: each coordinate, and a sum that mixes them."""
    rng = Stream(7)
    loc, scale_tril = np.array([1.0, -2.0, 0.5]), np.array([[1.0, 0.0, 0.0], [2.0, 0.5, 0.0], [-1.0, 0.3, 3.0]])
    normal = d.MultivariateNormal(loc, scale_tril)
    draws = np.array([normal.sample(rng) for _ in range(DRAWS)])
    direction = np.array([0.3, -1.0, 2.0])
    spread = math.sqrt(direction @ scale_tril @ scale_tril.T @ direction)
    assert stats.kstest(draws @ direction, stats.norm(direction @ loc, spread).cdf).pvalue > SIGNIFICANCE
    whitened = np.linalg.solve(scale_tril, (draws - loc).T)
    for row in whitened:
        assert stats.kstest(row, stats.norm().cdf).pvalue > SIGNIFICANCE


def test_multivariate_normal_sums_rows_in_order():
    """The very digits of an explicit sum, which another language can repeat."""
    rng, again = Stream(8), Stream(8)
    loc, scale_tril = np.array([0.1, 0.2, 0.3]), np.tril(np.arange(1.0, 10.0).reshape(3, 3)) / 7.0
    z = [stats_quantile(again.random()) for _ in range(3)]
    expected = []
    for i in range(3):
        total = 0.0
        for j in range(3):
            total += float(scale_tril[i, j]) * z[j]
        expected.append(float(loc[i]) + total)
    assert d.MultivariateNormal(loc, scale_tril).sample(rng).tolist() == expected


def stats_quantile(u: float) -> float:
    return d.Normal(0.0, 1.0).sample(_Fixed([u]))


class _Fixed:
    """A source that gives the uniforms it was given."""

    def __init__(self, uniforms):
        self.random = iter(uniforms).__next__


def test_categorical_draw_is_the_sequential_search():
    for probs in ([0.1, 0.0, 0.7, 0.2], [3.0, 1.0, 0.0], [0.0, 0.0, 2.0], list(np.linspace(0.0, 1.0, 100))):
        distribution, total = d.Categorical(probs), 0.0
        for mass in probs:
            total += float(mass)
        for u in [2.0**-53, 0.1, 0.25, 0.75, 0.8, 1.0 - 2.0**-53, *np.linspace(0.001, 0.999, 57)]:
            cumulative, expected = 0.0, -1
            for k, mass in enumerate(probs):
                cumulative += float(mass)
                if u * total < cumulative:
                    expected = k
                    break
            assert distribution.sample(_Fixed([u])) == expected


def test_categorical_of_totals_near_the_smallest_number():
    distribution = d.Categorical([5e-324, 0.0])
    assert distribution.sample(_Fixed([1.0 - 2.0**-53])) == 0


@pytest.mark.parametrize(
    "distribution",
    [
        d.Gamma(1e-3, 1.0), d.Gamma(1e-300, 1.0), d.Gamma(0.1, 1e300), d.Gamma(3.0, 1e-310), d.Gamma(5e-324, 1.0),
        d.Beta(1e-3, 1e-3), d.Beta(1e-300, 1e-300), d.Beta(5e-324, 5e-324), d.Beta(1e-3, 50.0), d.Beta(50.0, 1e-3),
        d.Weibull(1.0, 1e-3), d.Weibull(1.0, 5e-324), d.Weibull(1e300, 0.01), d.Weibull(1e-300, 0.01),
        d.Exponential(1e-310), d.LogNormal(0.0, 1e5), d.LogNormal(800.0, 1.0), d.LogNormal(-800.0, 1.0),
        d.VonMises(0.0, 5e-324), d.VonMises(3.0, 1e16), d.VonMises(-3.0, 1e200), d.VonMises(1e6, 3.0),
        d.TruncatedNormal(0.0, 1.0, 1e100, INF), d.TruncatedNormal(0.0, 1.0, 20.0, np.nextafter(20.0, 21.0)),
        d.TruncatedNormal(0.0, 1.0, -50.0, -50.0 + 1e-9), d.TruncatedNormal(0.0, 1.0, -1e-300, INF),
        d.StudentT(1e-300, 0.0, 1.0), d.StudentT(1e300, 0.0, 1e300), d.Cauchy(0.0, 1e300), d.HalfCauchy(1e308),
        d.HalfNormal(1.7e308), d.InverseGamma(5e-324, 1.0), d.InverseGamma(1.0, 1e-300), d.InverseGamma(1e300, 1.0),
        d.Pareto(1e300, 1e-3), d.Pareto(1.0, 5e-324), d.Geometric(1e-300), d.Geometric(1.0),
        d.NegativeBinomial2(2.0**53, 0.01), d.NegativeBinomial2(1.0, 1e-300), d.NegativeBinomial2(1.0, 1e300),
        d.NegativeBinomial(1e-300, 1.0 - 2.0**-53), d.BetaBinomial(5e-324, 5e-324, 2.0**53),
        d.BetaBinomial(1e300, 1e300, 2.0**53), d.Hypergeometric(2.0**31, 2.0**31, 2.0**31),
        d.Hypergeometric(2.0**31, 2.0**30, 2.0**30), d.ZeroInflatedPoisson(1.0, 1e15), d.ZeroInflatedPoisson(0.0, 0.0),
        d.Poisson(1e15), d.Binomial(2.0**53, 0.3), d.Binomial(2.0**53, 1e-15), d.Uniform(1e16, 1e16 + 2.0),
    ],
    ids=repr,
)  # fmt: skip
def test_extreme_parameters_stay_inside_the_support(distribution):
    rng = Stream(9)
    low, high = distribution.support
    edges = [2.0**-53, 0.5, 1.0 - 2.0**-53]
    draws = [distribution.sample(rng) for _ in range(300)]
    draws += [distribution.sample(_Then(first, rng)) for first in edges]
    for draw in draws:
        assert low <= draw <= high and math.isfinite(draw)
        assert math.isfinite(distribution.log_prob(draw))


class _Then:
    """One given uniform, then those of a stream."""

    def __init__(self, first, rng):
        self.given, self.rng = [first], rng

    def random(self):
        return self.given.pop() if self.given else self.rng.random()


def test_vanishing_concentrations_make_beta_a_coin():
    rng = Stream(10)
    ones = sum(d.Beta(1e-5, 3e-5).sample(rng) > 0.5 for _ in range(DRAWS))
    assert stats.binomtest(ones, DRAWS, 0.25).pvalue > SIGNIFICANCE


@pytest.mark.parametrize(("family", "parameters"), CASES, ids=NAMES)
def test_array_draws_are_the_scalar_draws_in_order(family, parameters):
    factors = np.array([[1.0], [1.0], [1.0]])
    columns = [np.full(2, parameter) if i else factors * parameter for i, parameter in enumerate(parameters)]
    together = family(*columns)
    expected_shape = np.broadcast_shapes(*[column.shape for column in columns])
    one = family(*parameters)
    drawn, again = together.sample(Stream(3)), Stream(3)
    assert drawn.shape == together.shape == expected_shape
    assert drawn.dtype == (np.int64 if family.discrete else np.float64)
    assert drawn.ravel().tolist() == [one.sample(again) for _ in range(drawn.size)]


def test_array_draws_use_each_elements_parameters():
    drawn = d.Normal(np.array([0.0, 100.0, 200.0]), np.array([[1.0], [2.0]])).sample(Stream(3))
    again = Stream(3)
    expected = [d.Normal(loc, scale).sample(again) for scale in (1.0, 2.0) for loc in (0.0, 100.0, 200.0)]
    assert drawn.shape == (2, 3) and drawn.ravel().tolist() == expected
    rows = np.array([[0.5, 0.5, 0.0], [0.0, 0.1, 0.9]])
    drawn, again = d.Categorical(rows).sample(Stream(4)), Stream(4)
    assert drawn.tolist() == [d.Categorical(row).sample(again) for row in rows]


def test_no_draw_for_delta_and_factor():
    assert d.Delta(2.5).sample(_Fixed([])) == 2.5
    assert d.Delta(np.array([1.0, 2.0])).sample(_Fixed([])).tolist() == [1.0, 2.0]
    assert d.Factor(-3.0).sample(_Fixed([])) is None


def test_any_source_of_uniforms_will_do():
    import random

    assert 0.0 < d.Beta(2.0, 3.0).sample(random.Random(1)) < 1.0
    assert type(d.Poisson(20.0).sample(np.random.default_rng(1))) is int


@given(k=st.integers(0, 10**9))
def test_log_factorial(k):
    assert math.isclose(log_factorial(k), math.lgamma(k + 1), rel_tol=1e-13, abs_tol=1e-13)


@given(a=st.floats(5e-324, 1e300), seed=st.integers(0, 2**64 - 1))
def test_gamma_draws_are_finite_and_not_negative(a, seed):
    assert 0.0 <= draw_standard_gamma(Stream(seed).random, a) < math.inf
