"""Random walks beside draws that are made afresh, and choices whose number changes."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.distributions import Categorical
from ppl_jax.infer.metropolis.other_choices import carried_over
from ppl_jax.streams import Stream

QUIET = {"progress": False}
POINTS = np.array([1.0, 1.7, 2.3, 3.0])
MEAN = POINTS.mean() / (1.0 + (1.25 / 4) / 25.0)  # prior N(0, 5), four data of variance 1.25
STDDEV = math.sqrt(1.0 / (1.0 / 25.0 + 4 / 1.25))


def with_nuisances():
    mu = ppl.sample(dist.Normal(0, 5), name="mu")
    for k in range(4):
        z = ppl.sample(dist.Normal(mu, 1.0), control=False)
        ppl.observe(dist.Normal(z, 0.5), name=f"y{k}")


def in_scopes():
    """The same, with the nuisances in rejection scopes that accept half of the passes whatever mu."""
    mu = ppl.sample(dist.Normal(0, 5), name="mu")
    for k in range(4):
        with ppl.rejection_scope() as scope:
            while True:
                z = ppl.sample(dist.Normal(mu, 1.0))
                if ppl.sample(dist.Bernoulli(0.5)):
                    break
                scope.reject()
        ppl.observe(dist.Normal(z, 0.5), name=f"y{k}")


@pytest.mark.parametrize("model", [with_nuisances, pytest.param(in_scopes, marks=pytest.mark.slow)])
def test_a_random_walk_is_worth_its_steps_beside_fresh_draws(model):
    data = {f"y{k}": value for k, value in enumerate(POINTS)}
    walk, prior = (
        ppl.metropolis_hastings(model, data, 12_000, kernel=kernel, burn_in=2000, num_chains=3, seed=1, **QUIET).map(
            "mu"
        )
        for kernel in ("random_walk", "lightweight")
    )
    # A walk of the best fixed scale is worth as much as the prior's proposals here. Both sizes are known to a factor of
    # 1.5 or so; a walk whose scale went to 0 had a tenth.
    assert walk.effective_sample_size > 0.4 * prior.effective_sample_size > 20
    assert abs(walk.mean - MEAN) < 4 * walk.standard_error
    assert walk.stddev == pytest.approx(STDDEV, rel=4 / math.sqrt(2 * walk.effective_sample_size))


CENTRES = np.array([-2.0, -1.8, 2.1, 1.9])
NUMBERS = np.array([0.4, 0.3, 0.3])


def mixture():
    number = 1 + ppl.sample(dist.Categorical(NUMBERS), name="number")
    means = [ppl.sample(dist.Normal(0, 3), name=f"mean{j}") for j in range(number)]
    shares = np.arange(1.0, number + 1.0)  # not uniform, so that the factors of the ratio are not 1
    for k, y in enumerate(CENTRES):
        ppl.observe(dist.Normal(means[ppl.sample(dist.Categorical(shares), name=f"z{k}")], 1.0), y)


def mixture_as_one_array():
    """The same, with all choices drawn at once."""
    number = 1 + ppl.sample(dist.Categorical(NUMBERS), name="number")
    means = np.array([ppl.sample(dist.Normal(0, 3), name=f"mean{j}") for j in range(number)])
    chosen = ppl.sample(dist.Categorical(np.tile(np.arange(1.0, number + 1.0), (4, 1))), name="z")
    ppl.observe(dist.Normal(means[chosen], 1.0), CENTRES)


def exact_numbers():
    """Posterior of the number of components, by enumeration of the choices; the means are integrated out."""
    evidence = np.zeros(3)
    for number in (1, 2, 3):
        shares = np.arange(1.0, number + 1.0) / np.arange(1.0, number + 1.0).sum()
        for choices in itertools.product(range(number), repeat=4):
            density = NUMBERS[number - 1] * np.prod(shares[list(choices)])
            for j in range(number):
                own = CENTRES[[choice == j for choice in choices]]
                covariance = np.eye(len(own)) + 9.0
                density *= stats.multivariate_normal(np.zeros(len(own)), covariance).pdf(own) if len(own) else 1.0
            evidence[number - 1] += density
    return evidence / evidence.sum()


@pytest.mark.parametrize("kernel", ["random_walk", pytest.param("lightweight", marks=pytest.mark.slow)])
@pytest.mark.parametrize("model", [mixture, pytest.param(mixture_as_one_array, marks=pytest.mark.slow)])
def test_a_mixture_of_unknown_size(model, kernel):
    chain = ppl.metropolis_hastings(model, {}, 24_000, kernel=kernel, burn_in=1000, num_chains=3, seed=1, **QUIET).map(
        "number"
    )
    exact = exact_numbers()
    assert chain.effective_sample_size > 60
    for number in range(3):
        found = chain.map(lambda value, number=number: float(value == number))
        error = math.sqrt(exact[number] * (1 - exact[number]) / chain.effective_sample_size)
        assert abs(found.mean - exact[number]) < 4 * error


def test_carrying_over_and_back_is_reversible():
    """p(z) T(z -> k) times the factor is q(k) T(k -> z), for all pairs of values, by frequencies and exactly."""
    p, q = np.array([0.2, 0.5, 0.3]), np.array([0.1, 0.3, 0.2, 0.25, 0.15])
    few, many = Categorical(p), Categorical(q)
    rng = Stream(1)
    for z in range(3):
        draws = [carried_over(few, z, many, rng) for _ in range(4000)]
        frequencies = np.bincount([value for value, _ in draws], minlength=5) / 4000
        expected = np.where(np.arange(5) < 3, 0.0, q)
        expected[z] = q[:3].sum()
        assert np.all(abs(frequencies - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000) + 1e-12)
        for value, log_factor in draws[:200]:
            back = 1.0 if value < 3 else p[z]  # probability of the way back
            assert math.exp(log_factor) == pytest.approx(q[value] * back / (p[z] * expected[value]))
    for k in range(5):
        draws = [carried_over(many, k, few, rng) for _ in range(300)]
        assert {value for value, _ in draws} == ({k} if k < 3 else {0, 1, 2})
        factor = p[k] * q[:3].sum() / q[k] if k < 3 else 1.0
        assert {round(math.exp(log_factor), 9) for _, log_factor in draws} == {round(factor, 9)}
