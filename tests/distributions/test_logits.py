"""``logits=`` of Bernoulli, Binomial and Categorical: exact where probabilities round to 0 and 1, stored as those."""

import math

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from numpyro import distributions as npd
from scipy_twins import agree

from ppl_jax import distributions as d
from ppl_jax.distributions.from_numpyro import from_numpyro
from ppl_jax.distributions.layouts import rebuild
from ppl_jax.encoding.coordinates import frame_of
from ppl_jax.errors import ParameterError
from ppl_jax.streams import Stream

LOGITS = [-1000.0, -40.0, -2.0, 0.0, 2.0, 17.0, 40.0, 1000.0]


def _log_sigmoid(x):
    with mp.workdps(500):
        return float(-mp.log1p(mp.exp(-mp.mpf(x))))


def _sigmoid(x):
    with mp.workdps(500):
        return float(1 / (1 + mp.exp(-mp.mpf(x))))


@pytest.mark.parametrize("precise", [False, True], ids=["float32", "float64"])
def test_log_probabilities_and_gradients(precise):
    """d/dl log sigmoid(x) = sigmoid(-x); with n trials and k successes, k - n sigmoid(x)."""
    logits, tolerance = np.array(LOGITS), 1e-12 if precise else 1e-6
    for value in (0, 1):
        expected = [_log_sigmoid(x if value else -x) for x in LOGITS]
        slopes = [_sigmoid(-x) if value else -_sigmoid(x) for x in LOGITS]
        assert agree([d.Bernoulli(logits=x).log_prob(value) for x in LOGITS], expected, 1e-14)
        assert agree(d.Bernoulli(logits=logits).log_prob(value), expected, 1e-14)
        with jax.enable_x64(precise):
            both = jax.vmap(jax.value_and_grad(lambda x, value=value: d.Bernoulli(logits=x).log_prob(value)))
            found, gradient = both(jnp.asarray(logits))
        assert agree(found, expected, tolerance) and agree(gradient, slopes, tolerance)
    for n, k in ((10, 0), (10, 10), (10, 3), (0, 0), (1000000, 999999)):
        choose = float(mp.log(mp.binomial(n, k)))
        expected = [choose + k * _log_sigmoid(x) + (n - k) * _log_sigmoid(-x) for x in LOGITS]
        slopes = [k * _sigmoid(-x) - (n - k) * _sigmoid(x) for x in LOGITS]
        assert agree([d.Binomial(n, logits=x).log_prob(k) for x in LOGITS], expected, 1e-11)
        assert agree(d.Binomial(n, logits=logits).log_prob(k), expected, 1e-11)
        with jax.enable_x64(precise):
            both = jax.vmap(jax.value_and_grad(lambda x, n=n, k=k: d.Binomial(n, logits=x).log_prob(k)))
            found, gradient = both(jnp.asarray(logits))
        assert agree(found, expected, 1e-10 if precise else 1e-5), (n, k)
        assert agree(gradient, slopes, 1e-9 if precise else 1e-4), (n, k)


@pytest.mark.parametrize("precise", [False, True], ids=["float32", "float64"])
def test_categories_of_log_odds(precise):
    logits = [-1000.0, 0.0, 1000.0, -math.inf]
    family = d.Categorical(logits=logits)
    assert [family.log_prob(k) for k in range(5)] == [-2000.0, -1000.0, 0.0, -math.inf, -math.inf]
    assert family.log_prob(np.array([0, 2, 3, 0.5])).tolist() == [-2000.0, 0.0, -math.inf, -math.inf]
    with jax.enable_x64(precise):
        both = jax.vmap(
            jax.value_and_grad(lambda x, k: d.Categorical(logits=x).log_prob(k)), in_axes=(None, 0)
        )  # the shares are (0, 0, 1, 0)
        found, gradient = both(jnp.asarray(logits), jnp.arange(3))
    assert found.tolist() == [-2000.0, -1000.0, 0.0]
    assert gradient.tolist() == [[1.0, 0.0, -1.0, 0.0], [0.0, 1.0, -1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    rows = d.Categorical(logits=np.zeros((2, 3)))
    assert rows.shape == (2,) and agree(rows.log_prob([0, 2]), [-math.log(3.0)] * 2, 1e-14)


FAMILIES = [
    (d.Bernoulli(logits=0.5), d.Bernoulli(1.0 / (1.0 + math.exp(-0.5)))),
    (d.Bernoulli(logits=[0.5, -60.0, 8.0]), d.Bernoulli(d.Bernoulli(logits=[0.5, -60.0, 8.0]).probs)),
    (d.Binomial(7, logits=-1.5), d.Binomial(7, 1.0 / (1.0 + math.exp(1.5)))),
    (d.Binomial([3, 4], logits=0.0), d.Binomial([3, 4], 0.5)),
    (d.Categorical(logits=[0.0, math.log(3.0)]), d.Categorical([0.25, 0.75])),
    (d.Categorical(logits=np.log([[0.2, 0.8], [0.5, 0.5]])), d.Categorical([[0.2, 0.8], [0.5, 0.5]])),
]


@pytest.mark.parametrize(("family", "plain"), FAMILIES, ids=lambda family: repr(family)[:40])
def test_all_that_reads_distributions_reads_probabilities(family, plain):
    """Layout, numbers, draws, moments, frames and equality are those of the family of the same probabilities."""
    assert family.layout() == plain.layout()
    assert agree(family.numbers(), plain.numbers(), 1e-14)
    again = rebuild(family.layout(), family.numbers())
    assert again == family and hash(again) == hash(family) and again.logits is None
    assert agree(family.sample(Stream(3)), plain.sample(Stream(3)), 0.0)
    assert agree(family.mean, plain.mean, 1e-12) and agree(family.variance, plain.variance, 1e-12)
    assert agree(family.log_prob(1), plain.log_prob(1), 1e-12)
    if family.shape == ():
        assert agree(frame_of(family), frame_of(plain), 1e-12)
    wider = family.inflated(2.0)
    assert agree(wider.numbers(), plain.inflated(2.0).numbers(), 1e-12)
    assert "logits=" in repr(family)


def test_what_is_possible_stays_possible_when_it_is_stored():
    for family, value in ((d.Bernoulli(logits=1000.0), 0), (d.Bernoulli(logits=-1000.0), 1),
                          (d.Binomial(3, logits=1000.0), 1), (d.Categorical(logits=[0.0, -2000.0]), 1)):  # fmt: skip
        assert math.isfinite(rebuild(family.layout(), family.numbers()).log_prob(value))
    assert rebuild(("Categorical", (2,)), d.Categorical(logits=[0.0, -math.inf]).numbers()).log_prob(1) == -math.inf


@pytest.mark.parametrize("twin", [
    npd.Bernoulli(logits=jnp.array([-1000.0, 30.0])), npd.Binomial(5, logits=jnp.array([-1000.0, 30.0])),
    npd.Categorical(logits=jnp.array([[-1000.0, 0.0], [0.0, 60.0]])), npd.Bernoulli(logits=-90.0).expand((2,)),
    npd.Binomial(5, logits=-90.0).expand((2,)), npd.Categorical(logits=jnp.array([-90.0, 0.0])).expand((2,)),
])  # fmt: skip
def test_numpyros_logits_stay_what_they_are(twin):
    ours = from_numpyro(twin)
    assert type(ours) in (d.Bernoulli, d.Binomial, d.Categorical) and ours.logits is not None
    assert ours.shape == (2,)
    assert type(ours.to_numpyro()).__name__.endswith("Logits")
    for value in (0, 1):
        expected = np.asarray(twin.log_prob(jnp.full(2, value)))
        assert agree(ours.log_prob(value), expected, 1e-5)
        assert agree(jax.jit(ours.log_prob)(value), expected, 1e-5)
        assert agree(ours.to_numpyro().log_prob(jnp.full(2, value)), expected, 1e-5)
    assert from_numpyro(ours.to_numpyro()) == ours


@pytest.mark.parametrize(("make", "expected"), [
    (lambda: d.Bernoulli(), "'logits' in its place"),
    (lambda: d.Bernoulli(0.5, logits=0.0), "'logits' in its place"),
    (lambda: d.Binomial(3), "'logits' in its place"),
    (lambda: d.Binomial(3, 0.5, logits=0.0), "'logits' in its place"),
    (lambda: d.Categorical(), "'logits' in its place"),
    (lambda: d.Categorical([1.0], logits=[0.0]), "'logits' in its place"),
    (lambda: d.Bernoulli(logits=math.inf), "finite"),
    (lambda: d.Bernoulli(logits=[0.0, math.nan]), "finite"),
    (lambda: d.Binomial(3, logits=math.nan), "finite"),
    (lambda: d.Categorical(logits=[0.0, math.inf]), "below"),
    (lambda: d.Categorical(logits=[math.nan, 0.0]), "below"),
    (lambda: d.Categorical(logits=[-math.inf, -math.inf]), "finite one in every row"),
    (lambda: d.Categorical(logits=0.0), "at least one category"),
])  # fmt: skip
def test_logits_that_make_no_sense(make, expected):
    with pytest.raises(ParameterError, match=expected):
        make()
