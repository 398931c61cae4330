"""Log densities and gradients on the device, in float32 and float64, at the edges of every family, against mpmath.

Derivatives are mpmath's difference quotients with 60 digits, one-sided where the support ends.
"""

import math
from functools import cache

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from exact_densities import FAMILIES
from numpyro import distributions as npd

from ppl_jax import distributions as d
from ppl_jax.distributions.from_numpyro import from_numpyro

PUBLIC = set(d.__all__) - {"Distribution"}
SCALAR = sorted(name for name, exact in FAMILIES.items() if exact.edges and name != "Factor")
#: Of a density, relative to max(1, |density|), and of a derivative, relative to 1 and to the greatest of the gradient's
#: in units of their arguments: float32 has 7 digits, of which a difference of terms of that size keeps what is asked.
DENSITY = {False: 3e-5, True: 1e-9}
SLOPE = {False: 2e-3, True: 1e-6}


def test_every_family_has_a_row():
    assert set(FAMILIES) == PUBLIC


@cache
def _exact(name: str, edge: int) -> tuple[float, list[float | None]]:
    """Log density, and its derivatives with respect to value and parameters; None where there is none."""
    exact = FAMILIES[name]
    value, parameters = exact.edges[edge]
    with mp.workdps(60 if name != "TruncatedNormal" else 250):
        point = [mp.mpf(number) for number in (value, *parameters)]
        density = exact.density(*point)
        slopes: list[float | None] = []
        for k, number in enumerate(point):
            slopes.append(None if k in exact.still or mp.isinf(number) else _slope(name, exact.density, point, k))
        return float(density), slopes


def _slope(name, density, point, k):
    step = mp.mpf(10) ** -20 * (abs(point[k]) or 1)

    def moved(by):
        there = list(point)
        there[k] += by
        if not _inside(name, there):
            return None
        try:
            found = density(*there)
        except (ValueError, ZeroDivisionError):
            return None
        return found if mp.im(found) == 0 and mp.isfinite(found) else None

    here, above, below = density(*point), moved(step), moved(-step)
    if above is not None and below is not None:
        return float((above - below) / (2 * step))
    if above is None and below is None:
        return None
    other, sign = (above, 1) if above is not None else (below, -1)
    slope = sign * (other - here) / step
    return float(slope) if abs(slope) < mp.mpf(10) ** 36 else None  # the density itself jumps or has no slope


_BOUNDS = {
    "Beta": lambda x, a, b: 0 <= x <= 1,
    "Uniform": lambda x, low, high: low <= x <= high,
    "TruncatedNormal": lambda x, loc, scale, low, high: low <= x <= high,
    "Pareto": lambda x, scale, a: x >= scale,
    "Bernoulli": lambda k, p: 0 <= p <= 1,
    "Binomial": lambda k, n, p: 0 <= p <= 1,
    "Geometric": lambda k, p: 0 <= p <= 1,
    "NegativeBinomial": lambda k, r, p: 0 <= p < 1,
    "NegativeBinomial2": lambda k, m, r: m >= 0,
    "Poisson": lambda k, rate: rate >= 0,
    "ZeroInflatedPoisson": lambda k, gate, rate: 0 <= gate <= 1 and rate >= 0,
}
_POSITIVE = ("Exponential", "Gamma", "HalfCauchy", "HalfNormal", "InverseGamma", "LogNormal", "Weibull")


def _inside(name, point):
    bounds = _BOUNDS.get(name, (lambda x, *_: x >= 0) if name in _POSITIVE else lambda *_: True)
    return bounds(*point)


@pytest.mark.parametrize("precise", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("name", SCALAR)
def test_densities_and_gradients(name, precise):
    family, exact = getattr(d, name), FAMILIES[name]
    count = 1 + len(exact.edges[0][1])
    moving = tuple(k for k in range(count) if not (k == 0 and family.discrete))
    wrong = []
    with jax.enable_x64(precise):

        def density(value, *parameters):
            return family(*parameters).log_prob(value)

        both = jax.jit(jax.value_and_grad(density, argnums=moving))
        for edge, (value, parameters) in enumerate(exact.edges):
            first = jnp.asarray(int(value) if family.discrete else value)
            given = [first, *(jnp.asarray(float(parameter)) for parameter in parameters)]
            found, gradient = both(*given)
            expected, slopes = _exact(name, edge)
            if not abs(float(found) - expected) <= DENSITY[precise] * max(1.0, abs(expected)):
                wrong.append((value, parameters, "density", float(found), expected))
            host = float(family(*parameters).log_prob(value))
            if not abs(host - expected) <= 1e-9 * max(1.0, abs(expected)):
                wrong.append((value, parameters, "host", host, expected))
            units = {k: max(abs(float(given[k])), 1e-30) for k in moving}
            most = max([abs(slopes[k]) * units[k] for k in moving if slopes[k] is not None], default=0.0)
            for k, slope in zip(moving, gradient, strict=True):
                if not math.isfinite(float(slope)):
                    wrong.append((value, parameters, f"derivative {k}", float(slope), slopes[k]))
                elif slopes[k] is not None:
                    error = abs(float(slope) - slopes[k])
                    near = SLOPE[precise] * (abs(slopes[k]) + 1.0 + 1e-3 * most / units[k])
                    if not error <= near:
                        wrong.append((value, parameters, f"derivative {k}", float(slope), slopes[k]))
    assert not wrong


def _precise(name):
    return pytest.mark.parametrize("precise", [False, True], ids=["float32", "float64"])(name)


@_precise
def test_vectors_at_their_edges(precise):
    """Zero probabilities that did not happen add nothing, and take no gradient with them."""
    tolerance = 1e-12 if precise else 1e-6
    with jax.enable_x64(precise):
        choice = jax.jit(jax.value_and_grad(lambda p, k: d.Categorical(p).log_prob(k)))
        found, slope = choice(jnp.array([0.0, 0.25, 0.75]), 1)
        assert np.allclose(found, math.log(0.25), rtol=tolerance)
        assert np.allclose(slope, [-1.0, 4.0 - 1.0, -1.0], rtol=tolerance)  # of p_k / sum p
        found, slope = choice(jnp.array([0.0, 0.25, 0.75]), 0)
        assert found == -math.inf and np.isfinite(slope).all()
        many = jax.jit(jax.value_and_grad(lambda p, k: d.Multinomial(3, p).log_prob(k)))
        found, slope = many(jnp.array([0.0, 0.5, 0.5]), jnp.array([0, 1, 2]))
        assert np.allclose(found, math.log(3 / 8), rtol=10 * tolerance)
        assert np.allclose(slope, [-3.0, 2.0 - 3.0, 4.0 - 3.0], rtol=10 * tolerance)
        shares = jax.jit(jax.value_and_grad(lambda a, x: d.Dirichlet(a).log_prob(x), argnums=(0, 1)))
        found, slopes = shares(jnp.array([1.0, 1.0, 2.0]), jnp.array([0.0, 0.25, 0.75]))
        assert np.allclose(found, math.log(6 * 0.75), rtol=10 * tolerance)
        assert all(np.isfinite(slope).all() for slope in slopes)
        vector = jax.jit(jax.value_and_grad(lambda x, s: d.MultivariateNormal([0.0, 0.0], s).log_prob(x), (0, 1)))
        found, (at_value, at_scale) = vector(jnp.array([40.0, 0.0]), jnp.eye(2))
        assert np.allclose(found, -800.0 - math.log(2 * math.pi), rtol=10 * tolerance)
        assert np.allclose(at_value, [-40.0, 0.0]) and np.allclose(at_scale, [[1599.0, 0.0], [0.0, -1.0]])


@_precise
def test_mixtures_at_their_edges(precise):
    """f = sum w_k f_k / sum w; d log f / d w_k = f_k / f - 1, also where w_k is 0."""
    tolerance = 1e-10 if precise else 1e-5

    def density(w, x, loc):
        parts = [d.Normal(loc, 1.0), d.Normal(0.0, 0.5), d.Exponential(1.0)]
        return d.Mixture([w[0], w[1], w[2]], parts).log_prob(x)

    with jax.enable_x64(precise):
        both = jax.jit(jax.value_and_grad(density, argnums=(0, 1, 2)))
        cases = ((1.0, 0.0, 0.0), 1.5), ((0.5, 0.0, 0.5), -1.0), ((0.0, 1.0, 0.0), 0.25), ((0.25, 0.5, 0.25), 30.0)
        for w, x in cases:
            z = mp.mpf(x)
            parts = [mp.npdf(z - 1), mp.npdf(z / 0.5) / 0.5, mp.exp(-z) if x >= 0 else mp.mpf(0)]
            slopes = [-(z - 1) * parts[0], -4 * z * parts[1], -parts[2]]
            total = sum(a * b for a, b in zip(w, parts, strict=True))
            found, (by_weight, by_value, by_loc) = both(jnp.array(w), x, 1.0)
            assert np.allclose(float(found), float(mp.log(total)), rtol=tolerance)
            expected = [float(part / total) - 1.0 for part in parts]
            assert np.allclose(by_weight, expected, rtol=10 * tolerance, atol=tolerance)
            by_hand = sum(a * b for a, b in zip(w, slopes, strict=True)) / total
            assert np.allclose(by_value, float(by_hand), rtol=10 * tolerance)
            assert np.allclose(by_loc, float(w[0] * (z - 1) * parts[0] / total), rtol=10 * tolerance, atol=1e-30)
        parts = [d.Exponential(1.0), d.Beta(2.0, 2.0)]
        nowhere = jax.value_and_grad(lambda w, x: d.Mixture([w, 1 - w], parts).log_prob(x))
        found, slope = nowhere(0.5, -1.0)
        assert found == -math.inf and math.isfinite(slope)
        dense = [d.Beta(0.5, 2.0), d.Beta(1.0, 1.0)]
        unbounded = jax.value_and_grad(lambda w, x: d.Mixture([w, 1 - w], dense).log_prob(x))
        assert unbounded(0.5, 0.0)[0] == math.inf
        found, slope = unbounded(0.0, 0.0)  # of weight 0: as on the host, no matter how dense
        assert abs(float(found)) < 1e-5 and math.isfinite(slope)


OUTSIDE = [
    (d.LogNormal, (0.0, 1.0)), (d.Gamma, (2.0, 1.0)), (d.Weibull, (1.0, 2.5)), (d.Beta, (2.5, 3.5)),
    (d.InverseGamma, (2.0, 1.0)), (d.HalfNormal, (1.0,)), (d.Pareto, (1.0, 2.0)), (d.Exponential, (1.0,)),
    (d.TruncatedNormal, (0.0, 1.0, 0.0, 1.0)), (d.Uniform, (0.0, 1.0)), (d.VonMises, (0.0, 1.0)),
]  # fmt: skip


@pytest.mark.parametrize(("family", "parameters"), OUTSIDE, ids=lambda part: getattr(part, "__name__", ""))
def test_outside_the_support_derivatives_are_finite(family, parameters):
    """NaN there would reach every parameter of a model through 0 * NaN."""
    both = jax.jit(jax.value_and_grad(lambda x, *p: family(*p).log_prob(x), argnums=tuple(range(len(parameters) + 1))))
    for value in (-5.0, -1e30):
        found, gradient = both(value, *parameters)
        assert found == -math.inf and np.isfinite(gradient).all()


def test_a_wrapped_family_of_numpyros_never_sees_a_value_outside():
    for twin, outside in (
        (npd.Kumaraswamy(2.0, 3.0), -0.5), (npd.Kumaraswamy(2.0, 3.0), 1.5), (npd.LogUniform(1.0, 2.0), -1.0),
        (npd.Levy(0.0, 1.0), -1.0),
    ):  # fmt: skip
        ours = from_numpyro(twin)
        found, slope = jax.value_and_grad(ours.log_prob)(outside)
        assert found == -math.inf and slope == 0.0


def test_large_counts_keep_their_digits_on_the_host():
    """Log-factorials alone would be wrong by 1 and more."""
    with mp.workdps(60):
        for n, k, p in ((2**50, 2**49 + 12345678, 0.5), (2**53, 3, 2.0**-52), (2**53, 2**53 - 1, 1.0 - 2.0**-52)):
            q = mp.mpf(p)
            exact = mp.log(mp.binomial(n, k)) if min(k, n - k) < 10 else (
                mp.loggamma(n + 1) - mp.loggamma(k + 1) - mp.loggamma(n - k + 1)
            )  # fmt: skip
            exact += k * mp.log(q) + (n - k) * mp.log1p(-q)
            assert d.Binomial(n, p).log_prob(k) == pytest.approx(float(exact), rel=1e-9)
            assert d.Binomial([n], p).log_prob(k)[0] == pytest.approx(float(exact), rel=1e-9)
        for rate, k in ((2.0**50, 2**50 + 2**26), (2.0**53, 2**53), (3.0, 2**40)):
            exact = k * mp.log(mp.mpf(rate)) - rate - mp.loggamma(mp.mpf(k) + 1)
            assert d.Poisson(rate).log_prob(k) == pytest.approx(float(exact), rel=1e-9)
            assert d.Poisson([rate]).log_prob(k)[0] == pytest.approx(float(exact), rel=1e-9)
