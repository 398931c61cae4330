"""Embeddings of sets and sequences: what they are blind to and what they see, and trainings on observations of them."""

import math
from functools import cache

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nn.small_network import SMALL, some_parameters

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.encoding.tokens import CallSites, Encoder
from ppl_jax.errors import NetworkError
from ppl_jax.nn import NetworkConfig, create_network
from ppl_jax.nn.embeddings import CNN, Embedding, Observer, embedding_of
from ppl_jax.nn.network import compiled_observer
from ppl_jax.nn.observations import observed_in, scaling_in

LENGTH = 7


COUNT = 4  # observations that are embedded at once, so that tests share what is compiled


@cache
def observer(kind, shape, varying):
    """An embedding of one observation of this kind and shape: its module, compiled, and its parameters."""
    module = Observer((("y", shape, Embedding(8, kind, length=LENGTH if varying else None)),), (), 16)
    example = {"y": jnp.zeros((COUNT, *shape))}, jnp.ones((COUNT, 1))
    return jax.jit(module.apply), some_parameters(module, *example)


def embedded(kind, values, varying=True):
    """The joint embedding of one observation of this kind, (COUNT, 16)."""
    apply, params = observer(kind, values.shape[1:], varying)
    return np.asarray(apply(params, {"y": jnp.asarray(values, jnp.float32)}, jnp.ones((COUNT, 1))))


def some(*shape):
    return np.random.default_rng(3).normal(size=shape)


def with_absent(values, number):
    """Values (n, LENGTH, ...) whose first ``number`` elements are there."""
    out = values.copy()
    out[:, number:] = np.nan
    return out


@pytest.mark.parametrize(
    ("shape", "varying"),
    [
        ((), False),
        ((2,), True),
        ((2, 3), False),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (((), True), ((2,), False), ((2, 3), True))),
    ],
)
def test_a_set_has_no_order(shape, varying):
    values = some(COUNT, LENGTH, *shape)
    order = np.random.default_rng(0).permutation(LENGTH)
    first, second = embedded("set", values, varying), embedded("set", values[:, order], varying)
    # The mean adds the same seven terms in another order, in single precision: an error of 7 * 6e-8 of a sum of terms
    # of order one, which the two layers behind it enlarge little.
    np.testing.assert_allclose(first, second, rtol=0.0, atol=1e-5)
    changed = values.copy()
    changed[:, 4] += 1.0
    assert np.abs(embedded("set", changed, varying) - first).max() > 1e-2


@pytest.mark.parametrize(
    ("shape", "varying"),
    [((), False), ((2,), True), *(pytest.param(*case, marks=pytest.mark.slow) for case in (((), True), ((2,), False)))],
)
def test_a_sequence_has_an_order(shape, varying):
    values = some(COUNT, LENGTH, *shape)
    swapped = values.copy()
    swapped[:, [0, 1]] = swapped[:, [1, 0]]
    first = embedded("sequence", values, varying)
    assert np.abs(embedded("sequence", swapped, varying) - first).max(axis=1).min() > 1e-3


@pytest.mark.parametrize("kind", ["set", "sequence"])
def test_elements_that_are_not_there_do_not_matter(kind):
    """Three elements mean the same whatever the largest number may be; an empty array has an embedding too."""
    values = some(COUNT, LENGTH, 2)
    few = embedded(kind, with_absent(values, 3))
    np.testing.assert_allclose(few, embedded(kind, values[:, :3], varying=False), rtol=0.0, atol=1e-6)
    assert np.abs(few - embedded(kind, with_absent(values, 4))).max() > 1e-3
    empty = embedded(kind, with_absent(values, 0))
    assert np.isfinite(empty).all() and np.ptp(empty, axis=0).max() == 0.0


@pytest.mark.parametrize("kind", ["set", "sequence"])
def test_gradients_are_finite_where_elements_are_absent(kind):
    module = Observer((("y", (LENGTH,), Embedding(8, kind, length=LENGTH)),), (), 16)
    values = some(3, LENGTH)
    values[0, 2:], values[1] = np.nan, np.nan
    data, presence = {"y": jnp.asarray(values, jnp.float32)}, jnp.ones((3, 1))
    params = some_parameters(module, data, presence)
    gradient = jax.jit(jax.grad(lambda params: jnp.square(module.apply(params, data, presence)).sum()))(params)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(gradient)]
    assert all(np.isfinite(leaf).all() for leaf in leaves) and any(leaf.any() for leaf in leaves)


# -- images and grids --------------------------------------------------------------------------------------------------


class Convolutions(nn.Module):
    """What the embedding of images and grids computes, by the library's own convolutions and pooling."""

    spatial: int

    @nn.compact
    def __call__(self, x):
        for channels in (16, 32, 64):
            x = nn.relu(nn.Conv(channels, (3,) * self.spatial)(x))
            window = tuple(2 if size >= 4 else 1 for size in x.shape[1:-1])
            x = nn.max_pool(x, window, window)
        return nn.Dense(4)(nn.relu(nn.Dense(128)(x.reshape(x.shape[0], -1))))


@pytest.mark.parametrize("shape", [(9, 6), (3, 8, 2), pytest.param((5, 4, 11), marks=pytest.mark.slow)])
def test_convolutions_are_those_of_the_library(shape):
    """Of the same parameters, outputs and gradients; sums are in another order, in single precision."""
    x = jnp.asarray(some(3, *shape, 2), jnp.float32)
    params = some_parameters(Convolutions(len(shape)), x)
    outcomes = []
    for module in (CNN(4, len(shape)), Convolutions(len(shape))):
        loss = jax.jit(jax.value_and_grad(lambda params, module=module: jnp.square(module.apply(params, x)).sum()))
        outcomes.append(loss(params))
    (value, gradient), (expected, expected_gradient) = outcomes
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 * np.abs(b).max()),
        gradient,
        expected_gradient,
    )


@pytest.mark.slow
def test_convolutions_begin_as_those_of_the_library():
    """The same parameters from the same seed."""
    x = jnp.ones((1, 3, 3, 2))
    ours, theirs = (jax.jit(module.init)(jax.random.key(0), x) for module in (CNN(4, 2), Convolutions(2)))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


# -- trainings ---------------------------------------------------------------------------------------------------------


def same_number():
    """Six measurements of one quantity."""
    mu = ppl.sample(dist.Normal(1.0, 2.0), name="mu")
    ppl.observe(dist.Normal(np.full(6, mu), 1.5), name="y")
    return mu


def any_number():
    """Up to twelve measurements of one quantity; how many is known at inference."""
    n = 1 + ppl.sample(dist.Binomial(11, 0.5), name="n", control=False)
    mu = ppl.sample(dist.Normal(1.0, 2.0), name="mu")
    ppl.observe(dist.Normal(np.full(n, mu), 1.5), name="y")
    return mu


def walk():
    """A random walk, of which only the first step is asked for."""
    first = ppl.sample(dist.Normal(0.0, 1.0), name="first")
    places = first + np.cumsum([0.0, *(ppl.sample(dist.Normal(0.0, 1.0), name=f"step{k}") for k in range(4))])
    ppl.observe(dist.Normal(places, 0.5), name="y")
    return first


def conjugate(y):
    """Mean and standard deviation of mu given measurements y."""
    precision = 1.0 / 4.0 + len(y) / 2.25
    return (1.0 / 4.0 + np.sum(y) / 2.25) / precision, precision**-0.5


def walk_posterior(y):
    """Mean and standard deviation of the first step given the places."""
    covariance = np.minimum.outer(np.arange(1.0, 6.0), np.arange(1.0, 6.0)) + 0.25 * np.eye(5)
    gain = np.linalg.solve(covariance, np.ones(5))  # the first step is in every place
    return gain @ y, math.sqrt(1.0 - gain.sum())


def embeddings(kind, names=("y",), **setting):
    return {name: {"dim": 16} for name in names} | {"y": {"dim": 16, "kind": kind, **setting}}


@cache
def untrained(model, kind, names=("y",), **setting):
    """A network as it is before the first step: its call sites are drawn from the prior."""
    look = ppl.prior(model, 32, seed=0, progress=False).values
    config = NetworkConfig(*observed_in(look, embeddings(kind, names, **setting)), SMALL["core"])
    return create_network(config, scaling_in(look, config), CallSites(), 0)


@pytest.mark.parametrize(
    ("model", "kind", "setting", "data"),
    [
        pytest.param(same_number, "set", {}, {"y": some(6)}, marks=pytest.mark.slow),
        (any_number, "set", {"length": 12}, {"n": 2, "y": some(3)}),
        (any_number, "sequence", {"length": 12}, {"n": 2, "y": some(3)}),
    ],
)
def test_a_saved_network_is_the_same(model, kind, setting, data, tmp_path):
    network = untrained(model, kind, tuple(data), **setting)
    network.save(tmp_path / "network")
    loaded = ppl.load_network(tmp_path / "network")
    assert loaded.config == network.config
    first, again = (compiled_observer(kept.config)(kept.params, *kept.standardised(data)) for kept in (network, loaded))
    np.testing.assert_array_equal(first, again)


def test_the_elements_of_a_set_have_one_scale():
    network = untrained(any_number, "set", ("n", "y"), length=12)
    mean, stddev = network.scaling["y"]
    assert mean.shape == stddev.shape == (12,)
    assert np.ptp(mean) == np.ptp(stddev) == 0.0
    # Of the measurements of 32 traces: their variance is 4 + 2.25, and so is about 32 times that of their mean.
    assert abs(mean[0] - 1.0) < 4.0 * 2.5 / math.sqrt(32)
    assert 1.5 < stddev[0] < 3.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "kind", "setting", "exact", "lengths"),
    [
        (same_number, "set", {}, conjugate, [6]),
        (any_number, "set", {"length": 12}, conjugate, [1, 3, 8, 12]),
        (any_number, "sequence", {"length": 12}, conjugate, [1, 3, 8, 12]),
        (walk, "sequence", {}, walk_posterior, [5]),
    ],
    ids=["fixed set", "varying set", "varying sequence", "walk"],
)
def test_the_posterior_is_exact(model, kind, setting, exact, lengths):
    names = ("n", "y") if model is any_number else ("y",)
    quantity = "first" if model is walk else "mu"
    given = embeddings(kind, names, **setting)
    network = ppl.train(model, 25_600, observe_embeddings=given, seed=0, **SMALL)
    for length in lengths:
        y = 2.0 + np.random.default_rng(length).normal(size=length)
        data = {"y": y} | ({"n": length - 1} if "n" in names else {})
        posterior = ppl.importance_sampling(model, data, 1000, proposal=network, seed=1, progress=False)
        mean, stddev = exact(y)
        ess = posterior.effective_sample_size
        found = posterior.map(quantity)
        # Four standard errors of the mean, and of the standard deviation (of a normal: stddev / sqrt(2 ess)).
        assert abs(found.mean - mean) < 4.0 * stddev / math.sqrt(ess)
        assert abs(found.stddev - stddev) < 4.0 * stddev / math.sqrt(2.0 * ess)
        # A normal prior 2 to 5 times wider than the posterior has a fraction of about a half down to a fifth.
        assert ess > (600 if model is not walk else 300)


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "set", "length": 0}, "length must be an integer of at least 1, got 0"),
        ({"kind": "set", "length": 2.0}, "length must be an integer of at least 1, got 2.0"),
        ({"kind": "mlp", "length": 3}, "with a length, kind must be 'set' or 'sequence', got 'mlp'"),
        ({"kind": "bag"}, "kind must be one of 'mlp', 'cnn2d', 'cnn3d', 'set', 'sequence', 'module'; got 'bag'"),
    ],
)
def test_wrong_settings_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        embedding_of("y", given)


@pytest.mark.parametrize("setting", [{}, {"length": 4}])
def test_a_number_is_no_set(setting):
    def model():
        ppl.observe(dist.Normal(ppl.sample(dist.Normal(0.0, 1.0)), 1.0), name="y")

    with pytest.raises(ValueError, match=r"'set' takes arrays of at least one element.*'y' has shape \(\)"):
        untrained(model, "set", **setting)


@pytest.mark.parametrize("kind", ["mlp", "set", "sequence"])
def test_numbers_of_elements_that_vary_need_a_length(kind):
    with pytest.raises(ppl.ObservationError, match=r"'y' at .*the network was made for shape .*'length': 100"):
        untrained(any_number, kind)


def test_more_elements_than_was_said_are_refused():
    with pytest.raises(ppl.ObservationError, match=r"'y' .*made for at most shape \(3,\).*a larger 'length'"):
        untrained(any_number, "set", length=3)
    network = untrained(any_number, "set", ("n", "y"), length=12)
    for y in (np.zeros(13), np.zeros((5, 2)), 0.0):
        with pytest.raises(NetworkError, match=r"at most shape \(12,\), but a value of shape \("):
            ppl.importance_sampling(any_number, {"n": 4, "y": y}, 10, proposal=network, progress=False)


def test_numbers_of_elements_that_disagree_with_the_model_name_the_observe():
    network = untrained(any_number, "set", ("n", "y"), length=12)
    with pytest.raises(ppl.ObservationError, match=r"'y'.*shape \(5,\)"):
        ppl.importance_sampling(any_number, {"n": 3, "y": np.zeros(5)}, 5, proposal=network, seed=0, progress=False)


def test_a_missing_number_among_the_elements_is_not_taken_for_an_absent_one():
    """Training skips what is not finite; an inference says so."""
    network = untrained(any_number, "set", ("n", "y"), length=12)
    with pytest.raises(NetworkError, match="cannot use the value given for 'y': it has NaN"):
        ppl.importance_sampling(any_number, {"y": [1.0, np.nan], "n": 1}, 10, proposal=network, progress=False)
    table = ppl.prior(any_number, 3, seed=0, progress=False).values
    layout = table.layouts[int(table.kinds[0])]
    table.heap[int(table.starts[0]) + layout.slots[layout.position("y")].start] = np.nan
    _, values, _ = Encoder({"y": (12,)}, CallSites(), frozenset({"y"})).encode(table)
    assert np.isposinf(values["y"][0, 0])
