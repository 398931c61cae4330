"""Cores: the same features token by token as for a whole grid, and nothing seen of a row's other traces."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nn.small_network import some_parameters

from ppl_jax.nn import LSTM, FeedForward, Transformer
from ppl_jax.nn.affine import Affine
from ppl_jax.nn.cores import _remember, core_config, core_from_json, core_to_json, initial_state, make_core, remember

CORES = [LSTM(8), FeedForward(8, 2), Transformer(8, 2, 2, 4)]


@pytest.mark.parametrize("core", CORES, ids=lambda core: type(core).__name__)
def test_a_grid_and_single_steps_give_the_same_features(core):
    module = make_core(core)
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.normal(size=(2, 9, 5)), jnp.float32)
    starts = np.zeros((2, 9), bool)
    starts[0, [0, 7]] = True  # a trace longer than the transformer's window, and one behind it
    starts[1, [0, 1, 4]] = True
    params = some_parameters(module, inputs, jnp.asarray(starts))
    grid = np.asarray(jax.jit(module.apply)(params, inputs, jnp.asarray(starts)))
    step = jax.jit(lambda state, x: module.apply(params, state, x, method="step"))
    for row in range(2):
        for column in range(9):
            if starts[row, column]:
                state = initial_state(core, 1)
            state, features = step(state, inputs[row, column][None])
            np.testing.assert_allclose(features[0], grid[row, column], rtol=1e-4, atol=1e-5)


def test_the_derivative_of_an_lstm_is_that_of_its_steps():
    rng = np.random.default_rng(3)
    gates, recurrent = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((5, 2, 12), (3, 12)))
    kept = jnp.asarray(rng.integers(0, 2, (5, 2, 1)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(5, 2, 3)), jnp.float32)

    def total(function):
        return jax.jit(jax.grad(lambda gates, recurrent: (weights * function(gates, kept, recurrent)).sum(), (0, 1)))

    by_hand, automatic = total(remember)(gates, recurrent), total(lambda *given: _remember(*given)[0])(gates, recurrent)
    for mine, theirs in zip(by_hand, automatic, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def test_a_row_of_single_draws_needs_no_memory():
    module = make_core(LSTM(8))
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(6, 1, 5)), jnp.float32)
    starts = jnp.ones((6, 1), bool)
    params = some_parameters(module, inputs, starts)
    together = module.apply(params, inputs.reshape(2, 3, 5), jnp.ones((2, 3), bool))
    np.testing.assert_allclose(module.apply(params, inputs, starts)[:, 0], together.reshape(6, 8), rtol=1e-5, atol=1e-6)


def test_a_dense_layer_of_parts_is_flaxs_of_them_joined():
    rng = np.random.default_rng(1)
    parts = [jnp.asarray(rng.normal(size=(4, 3, size)), jnp.float32) for size in (5, 2)]
    params = jax.jit(Affine(6).init)(jax.random.key(2), *parts)
    theirs = jax.jit(nn.Dense(6).init)(jax.random.key(2), jnp.concatenate(parts, -1))
    jax.tree.map(np.testing.assert_array_equal, params, theirs)
    params["params"]["bias"] = params["params"]["bias"] + 0.5
    weights = jnp.asarray(rng.normal(size=(4, 3, 6)), jnp.float32)

    def mine(params, parts):
        return (weights * Affine(6).apply(params, *parts) ** 2).sum()

    def flaxs(params, parts):
        return (weights * nn.Dense(6).apply(params, jnp.concatenate(parts, -1)) ** 2).sum()

    found, expected = (jax.jit(jax.value_and_grad(f, (0, 1)))(params, parts) for f in (mine, flaxs))
    # The same sums in another order, in single precision.
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), found, expected)


@pytest.mark.parametrize("core", CORES, ids=lambda core: type(core).__name__)
def test_configurations_survive_json(core):
    assert core_from_json(core_to_json(core)) == core


@pytest.mark.parametrize(
    ("core", "message"),
    [
        ("gru", "'lstm', 'feedforward', 'transformer'"),
        (LSTM(0), "at least 1"),
        (Transformer(10, 1, 3), "multiple of its heads"),
    ],
)
def test_wrong_cores_are_refused(core, message):
    with pytest.raises(ValueError, match=message):
        core_config(core)
