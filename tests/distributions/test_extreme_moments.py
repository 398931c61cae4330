"""Moments at the extremes of every family's parameters, where closed formulas cancel or overflow, against mpmath."""

import math

import mpmath as mp
import numpy as np
import pytest

from ppl_jax import distributions as d
from ppl_jax.running.precision import is_coarse

INF = math.inf

TRUNCATED = [
    (5.0, 1e-3, 0.0, 1.0),
    (0.0, 1.0, 500.0, INF),
    (1e6, 1.0, -1.0, 1.0),
    (0.0, 1.0, -INF, -40.0),
    (0.0, 1.0, 40.0, 40.001),
    (0.0, 1.0, 8.0, 8.000001),
    (0.0, 1.0, -1e-9, 1e-9),
    (0.0, 1.0, -1e-4, 3.0),
    (3.0, 2.0, -INF, INF),
    (0.0, 1.0, 1e8, INF),
    (0.0, 1e-200, 1.0, 2.0),
    (0.0, 1.0, -30.0, 0.5),
    (0.0, 1.0, 0.0, 1e300),
]


def _truncated_moments(loc, scale, low, high):
    """Mean and variance by mpmath's quadrature of the distance from the mode, in its units."""
    with mp.workdps(60):
        loc, scale, low, high = (mp.mpf(number) for number in (loc, scale, low, high))
        mode = min(max(loc, low), high)
        slope = (mode - loc) / scale
        unit = 1 / (abs(slope) + 1)
        left, right = max((low - mode) / scale / unit, mp.mpf(-150)), min((high - mode) / scale / unit, mp.mpf(150))
        edges = sorted({left, right, *(mp.mpf(k) for k in (-40, -10, -3, 0, 3, 10, 40) if left < k < right)})

        def moment(order):
            return mp.quad(lambda s: s**order * mp.exp(-unit * s * (slope + unit * s / 2)), edges)

        mass = moment(0)
        mean = moment(1) / mass
        variance = moment(2) / mass - mean**2
        return float(mode + scale * unit * mean), float((scale * unit) ** 2 * variance)


@pytest.mark.parametrize("parameters", TRUNCATED)
def test_a_truncated_normal_far_out(parameters):
    mean, variance = _truncated_moments(*parameters)
    family = d.TruncatedNormal(*parameters)
    assert family.mean == pytest.approx(mean, rel=1e-12, abs=1e-25)
    assert family.variance == pytest.approx(variance, rel=1e-10, abs=0.0)
    assert family.stddev == pytest.approx(math.sqrt(variance) if variance else family.stddev, rel=1e-10)
    assert parameters[2] <= family.mean <= parameters[3]


def test_truncated_normals_in_an_array():
    rows = np.array(TRUNCATED)
    family = d.TruncatedNormal(*rows.T)
    single = [d.TruncatedNormal(*row) for row in TRUNCATED]
    assert family.mean.tolist() == [one.mean for one in single]
    assert family.variance.tolist() == pytest.approx([one.variance for one in single], rel=1e-12, abs=0.0)


def test_numbers_of_the_tail():
    """Known beforehand: exponential tails have the standard deviation scale**2 / distance."""
    assert d.TruncatedNormal(0.0, 1.0, 500.0, INF).variance == pytest.approx(4.0e-06, rel=5e-5)
    assert d.TruncatedNormal(1e6, 1.0, -1.0, 1.0).mean == pytest.approx(1.0 - 1e-6, abs=1e-11)
    assert d.TruncatedNormal(5.0, 1e-3, 0.0, 1.0).stddev == pytest.approx(2.5e-7, rel=1e-4)


@pytest.mark.parametrize("concentration", [1e-300, 1e-6, 0.3, 5.0, 99.9, 100.0, 1e4, 1e9, 1e16, 1e300])
def test_the_variance_of_a_von_mises(concentration):
    with mp.workdps(40):
        k = mp.mpf(concentration)
        if concentration < 1e5:
            exact = 1 - mp.besseli(1, k) / mp.besseli(0, k)
        else:
            exact = 1 / (2 * k) + 1 / (8 * k**2) + 1 / (8 * k**3)
    assert d.VonMises(0.0, concentration).variance == pytest.approx(float(exact), rel=1e-11, abs=0.0)


@pytest.mark.parametrize("concentration", [0.02, 0.5, 3.0, 33.0, 34.0, 1e3, 1e6, 1e9])
def test_the_variance_of_a_weibull(concentration):
    with mp.workdps(50):
        x = 1 / mp.mpf(concentration)
        exact = float(4 * (mp.gamma(1 + 2 * x) - mp.gamma(1 + x) ** 2))
    assert d.Weibull(2.0, concentration).variance == pytest.approx(exact, rel=1e-10, abs=0.0)
    assert d.Weibull([2.0, 2.0], concentration).variance.tolist() == pytest.approx([exact] * 2, rel=1e-10, abs=0.0)


def test_a_weibull_of_which_float64_holds_no_moments():
    assert d.Weibull(1.0, 1e-3).mean == d.Weibull(1.0, 1e-3).variance == INF


EXTREME = [
    (d.Beta(1e-200, 1e-200), 0.5, 0.25),
    (d.Beta(1e200, 1e200), 0.5, 0.125e-200),
    (d.Beta(1e-300, 1.0), 1e-300, 0.5e-300),
    (d.Gamma(1e250, 1e200), 1e50, 1e-150),
    (d.Gamma(1e-250, 1e-200), 1e-50, 1e150),
    (d.Exponential(1e-150), 1e150, 1e300),
    (d.Uniform(1.5e308, 1.6e308), 1.55e308, INF),
    (d.LogNormal(-800.0, 27.0), math.exp(-435.5), math.exp(-142.0)),
    (d.LogNormal(0.0, 1e-8), 1.0, 1e-16),
    (d.LogNormal(0.0, 30.0), math.exp(450.0), INF),
    (d.LogNormal(-700.0, 1e-3), math.exp(-700.0 + 5e-7), 0.0),
    (d.Mixture([1.0, 0.0], [d.Normal(1.0, 2.0), d.HalfCauchy(1.0)]), 1.0, 4.0),
    (d.Mixture([0.5, 0.5], [d.Normal(1.0, 2.0), d.Pareto(1.0, 0.5)]), INF, INF),
    (d.Bernoulli(1e-300), 1e-300, 1e-300),
    (d.Categorical([1e-300, 1.0]), 1.0, 1e-300),
]


@pytest.mark.parametrize(("family", "mean", "variance"), EXTREME, ids=lambda part: repr(part)[:40])
def test_nothing_overflows_on_the_way(family, mean, variance):
    assert family.mean == pytest.approx(mean, rel=1e-12, abs=0.0)
    assert family.variance == pytest.approx(variance, rel=1e-12, abs=0.0)


def test_a_distribution_without_moments_may_be_too_narrow_for_float32():
    """Its density is asked where its moments are not known: NaN is no reason to trust float32."""
    assert is_coarse(d.Cauchy(1e6, 1e-3), 1e6 + 1e-3)
    assert is_coarse(d.StudentT(1.5, 1e6, 1e-3), 1e6 + 1e-3)
    assert is_coarse(d.TruncatedNormal(5.0, 1e-3, 0.0, 1.0), 1.0 - 1e-7)
    assert not is_coarse(d.Cauchy(0.0, 1.0), 1e6)
    assert not is_coarse(d.HalfCauchy(1.0), 0.3)
    assert not is_coarse(d.StudentT(1.0, 1e3, 10.0), 1003.0)
