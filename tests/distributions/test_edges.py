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
            given = [jnp.asarray(int(value) if family.discrete else value), *(jnp.asarray(float(p)) for p in parameters)]
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
