"""Arrays of draws: the compiled samplers give the bits of those in Python, and leave the stream where they leave it."""

import math
import random

import numpy as np
import pytest
from scipy_twins import CASES, PARAMETERS
from test_sampling import MORE

from ppl_jax import distributions as d
from ppl_jax.distributions import arrays
from ppl_jax.streams import CountedStream, Stream

TINY, HUGE, LARGEST_COUNT = np.finfo(float).tiny, np.finfo(float).max, 2.0**53

#: The corners of each domain, where samplers clip, underflow and overflow.
EDGES = {
    "Normal": [(0.0, TINY), (HUGE, HUGE), (-HUGE, 1.0)],
    "Uniform": [(0.0, 5e-324), (-0.4 * HUGE, 0.4 * HUGE)],
    "Poisson": [(LARGEST_COUNT,), (5e-324,), (np.nextafter(10.0, 0.0),)],
    "Bernoulli": [(5e-324,), (1.0 - 2.0**-53,)],
    "Beta": [(1e-300, 1e-300), (TINY, 1.0), (1e300, 1e300), (1.0, 1e-20)],
    "Exponential": [(TINY,), (HUGE,)],
    "Gamma": [(TINY, 1.0), (1.0, HUGE), (1e300, TINY), (1e-3, HUGE)],
    "LogNormal": [(-745.0, 10.0), (709.0, 10.0), (0.0, HUGE)],
    "Binomial": [(LARGEST_COUNT, 1e-15), (LARGEST_COUNT, 0.5), (LARGEST_COUNT, 1.0 - 2.0**-53)],
    "Weibull": [(1.0, 1e-3), (HUGE, 0.01), (TINY, 1e3)],
    "TruncatedNormal": [(0.0, TINY, 1.0, 2.0), (0.0, 1.0, 1e155, math.inf), (1e300, 1e-300, -1.0, 0.0)],
    "VonMises": [(1e10, 1.0), (0.0, TINY), (0.0, 1e300)],
    "Delta": [(0.0,), (-math.inf,), (1e300,)],
    "NegativeBinomial": [(TINY, 0.5), (1.0, 1.0 - 2.0**-53), (1e10, 1.0 - 2.0**-53)],
    "NegativeBinomial2": [(LARGEST_COUNT, 1e-3), (1.0, TINY), (LARGEST_COUNT, 1e300)],
    "BetaBinomial": [(1e-300, 1e-300, LARGEST_COUNT), (1.0, 1.0, LARGEST_COUNT)],
    "Geometric": [(5e-324,), (1e-17,), (1.0 - 2.0**-53,)],
    "Hypergeometric": [(2.0**31, 2.0**31, 5.0), (2.0**31, 2.0**30, 2.0**30), (2.0**31, 1.0, 1.0)],
    "ZeroInflatedPoisson": [(0.0, 3.0), (0.3, 0.0), (0.5, 40.0), (1.0, 5.0), (0.1, LARGEST_COUNT)],
    "StudentT": [(TINY, 0.0, 1.0), (1e300, 0.0, 1.0), (0.01, 0.0, HUGE)],
    "Cauchy": [(0.0, HUGE), (HUGE, TINY)],
    "HalfCauchy": [(HUGE,), (TINY,)],
    "HalfNormal": [(HUGE,), (TINY,)],
    "Laplace": [(0.0, TINY), (1e300, 1e300)],
    "Logistic": [(0.0, TINY), (1e300, 1e300)],
    "Gumbel": [(0.0, TINY), (1e300, 1e300)],
    "InverseGamma": [(TINY, 1.0), (1.0, HUGE), (1e300, TINY)],
    "Pareto": [(1.0, 1e-3), (HUGE, 1.0), (TINY, TINY)],
}
FAMILIES = sorted(set(PARAMETERS) | set(EDGES))

compiled = pytest.mark.skipif(not arrays.FAMILIES, reason="the samplers were not compiled: there was no compiler")


def parameters_of(family: str) -> list[tuple]:
    more = [parameters for made, parameters in CASES + MORE if made.__name__ == family]
    return more + EDGES[family]


def same_bits(first: np.ndarray, second: np.ndarray) -> bool:
    return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()


@compiled
def test_every_elementwise_family_is_compiled():
    makes = [vars(d)[name] for name in d.__all__]
    elementwise = {m.__name__ for m in makes if isinstance(m, type) and hasattr(m, "_draw_each")}
    assert elementwise - {"Categorical"} == set(FAMILIES) == set(arrays.FAMILIES)


@compiled
@pytest.mark.parametrize("family", FAMILIES)
def test_compiled_draws_have_the_bits_of_python(family):
    """30 draws under each set of parameters, in arrays whose elements take different branches of the sampler."""
    columns = [np.repeat(column, 30) for column in zip(*parameters_of(family), strict=True)]
    distribution = vars(d)[family](*columns)
    for kind in (Stream, CountedStream):
        for skipped in range(5):
            fast, slow = (kind(2**64 - 3, 2**63 + 5) for _ in range(2))
            assert [fast.random() for _ in range(skipped)] == [slow.random() for _ in range(skipped)]
            assert same_bits(distribution.sample(fast), distribution._draw_each(slow))
            assert fast.position == slow.position
            assert [fast.random() for _ in range(50)] == [slow.random() for _ in range(50)]
            assert same_bits(distribution.sample(fast), distribution._draw_each(slow))
            assert fast.position == slow.position


@compiled
def test_shapes_broadcast_as_in_python():
    column, row = np.arange(1.0, 4.0)[:, None], np.arange(1.0, 6.0)
    turned = np.asfortranarray(np.arange(1.0, 16.0).reshape(5, 3)).T
    for distribution in (
        d.Gamma(column, row), d.Gamma(2.0, row), d.Gamma(column, turned), d.Normal(turned, 1.0),
        d.Poisson(np.zeros((0, 3))), d.Uniform(row[::-1], 10.0), d.Delta(row),
    ):  # fmt: skip
        fast, slow = Stream(3), Stream(3)
        assert same_bits(distribution.sample(fast), distribution._draw_each(slow))
        assert fast.position == slow.position


@compiled
def test_categories_have_the_bits_of_python():
    rng = np.random.default_rng(1)
    rows = rng.exponential(size=(40, 5, 7)) * (rng.random((40, 5, 7)) < 0.5)
    rows[..., 3] += 1e-3
    tiny = np.array([[5e-324, 0.0], [0.0, 5e-324], [1e-323, 5e-324]])
    for probs in (rows, rows[..., 3:4], np.repeat(tiny, 50, axis=0), np.zeros((0, 2))):
        distribution = d.Categorical(probs)
        fast, slow = Stream(4, 1), Stream(4, 1)
        for _ in range(3):
            assert same_bits(distribution.sample(fast), distribution._draw_each(slow))
            assert fast.random() == slow.random() and fast.position == slow.position


def test_other_sources_of_uniforms_serve_as_well():
    for distribution in (d.Gamma(np.ones(5), 2.0), d.Categorical(np.ones((5, 3)))):
        first, second = random.Random(1), random.Random(1)
        assert same_bits(distribution.sample(first), distribution._draw_each(second))


def test_a_family_of_the_users_own_draws_as_it_says():
    class Normal(d.Normal):
        @staticmethod
        def _draw(uniform, loc, scale):
            return loc + scale * uniform()

    rng = Stream(1)
    assert Normal(np.zeros(3), 1.0).sample(Stream(1)).tolist() == [rng.random() for _ in range(3)]


def test_without_a_compiler_the_draws_are_the_same(monkeypatch):
    distribution, choice = d.StudentT(np.full(50, 3.0), 0.0, 1.0), d.Categorical(np.ones((50, 3)))
    before = distribution.sample(Stream(1)), choice.sample(Stream(1))
    monkeypatch.setattr(arrays, "FAMILIES", {})
    monkeypatch.setattr(d.StudentT, "_compiled", None)
    assert same_bits(distribution.sample(Stream(1)), before[0]) and same_bits(choice.sample(Stream(1)), before[1])
