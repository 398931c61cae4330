"""Networks: training and guided executions see the same proposals; tables grow; files; observations that do not fit."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nn.small_network import some_parameters
from nn.wide_programs import zoo as every_family

import ppl_jax as ppl
from ppl_jax.encoding.batches import Shapes, make_batch
from ppl_jax.encoding.tokens import CallSites, Encoder
from ppl_jax.errors import NetworkError
from ppl_jax.nn import LSTM, FeedForward, Network, NetworkConfig, create_network
from ppl_jax.nn.cores import initial_state
from ppl_jax.nn.embeddings import Embedding, Observer, embedding_of
from ppl_jax.nn.network import ProposalModule, compiled_step, grow, grown
from ppl_jax.nn.packing import Packing

SCALING = {"sum": (np.float32(60.0), np.float32(10.0))}


@pytest.fixture(scope="module")
def tokens():
    table = ppl.prior(every_family, 12, seed=0, progress=False).values
    encoder = Encoder({"sum": ()}, CallSites())
    return encoder.encode(table), encoder.sites


@pytest.fixture(scope="module")
def network(tokens):
    (found, _, _), sites = tokens
    base = NetworkConfig((("sum", (), Embedding(8)),), (), LSTM(8), components=3, observation_dim=16)
    kinds = set(found.frames.kind.tolist())
    return create_network(grown(base, sites.num_rows, found.log_probs.shape[1], kinds), dict(SCALING), sites, 5)


def raw_numbers(network, tokens):
    found, observations, presence = tokens
    config = network.config
    batch = make_batch(found, observations, presence, Shapes(), 12, config.categories, config.capacity)
    scaled = {name: (values - SCALING[name][0]) / SCALING[name][1] for name, values in batch.observations.items()}
    batch = batch._replace(observations=scaled)
    raw = jax.jit(ProposalModule(config).apply)({"params": network.params}, batch)
    return batch, np.asarray(raw), scaled


def test_guided_steps_see_the_proposals_of_training(network, tokens):
    batch, raw, scaled = raw_numbers(network, tokens[0])
    module = ProposalModule(network.config)
    step = compiled_step(network.config)
    observe = jax.jit(lambda y, p: module.apply({"params": network.params}, y, p, method="observe"))
    embedded = observe(scaled, np.asarray(batch.presence))
    row, columns = 0, np.flatnonzero(batch.mask[0])
    state, before = initial_state(network.config.core, 1), (0, 0, 0.0)
    for column in columns:
        at = (row, column)
        first = bool(batch.start[at])
        if first:
            state, before = initial_state(network.config.core, 1), (0, 0, 0.0)
        token = {name: np.array([getattr(batch, name)[at]]) for name in ("site", "family", "instance", "element")}
        token |= {"place": batch.place[at][None], "first": np.array([first])}
        names = ("previous_site", "previous_kind", "previous_u")
        token |= dict(zip(names, (np.array([v]) for v in before), strict=True))
        token["previous_u"] = token["previous_u"].astype(np.float32)
        state, numbers = step(network.params, state, embedded[batch.trace[at]], token)
        # The same sums in another order, in single precision.
        np.testing.assert_allclose(numbers[0], raw[at], rtol=1e-3, atol=1e-4)
        before = (int(batch.site[at]), int(batch.kind[at]), float(batch.u[at]))


def test_growing_keeps_what_was_learned(network, tokens):
    _, raw, _ = raw_numbers(network, tokens[0])
    bigger = grown(network.config, 200, 70, set())
    assert (bigger.capacity, bigger.categories) == (256, 128)
    params = grow(network.params, network.config, bigger, jax.random.key(0))
    larger = Network(bigger, params, network.sites, np.zeros(256, np.int64), network.scaling)
    again = raw_numbers(larger, tokens[0])[1]
    np.testing.assert_allclose(again[..., : raw.shape[-1]], raw, rtol=1e-4, atol=1e-5)
    moments = grow(jax.tree.map(np.ones_like, network.params), network.config, bigger, None)
    assert moments["heads"][network.config.capacity :].sum() == 0.0


def test_parameters_are_packed_into_few_arrays_and_back(network):
    packing = Packing(network.params)
    packed = packing.pack(network.params)
    heads = network.params["heads"]
    assert [part.shape for part in packed.large] == [heads.shape]
    assert packed.small.shape == (network.num_parameters - heads.size,)
    jax.tree.map(np.testing.assert_array_equal, packing.unpack(packed), network.params)


def test_call_sites_keep_their_rows():
    sites = CallSites()
    assert [sites.add("a", "Normal"), sites.add("b", "Normal"), sites.add("a", "Normal")] == [1, 2, 1]
    assert sites.add("a", "Uniform") == 3
    assert sites.row("unheard of", "Normal") == 0
    again = CallSites(sites.known)
    assert again.row("b", "Normal") == 2


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_saved_network_is_the_same(network, tokens, tmp_path):
    network.history.append((256, 0.5, float("nan")))
    network.save(tmp_path / "net")
    loaded = ppl.load_network(tmp_path / "net")
    assert loaded.config == network.config
    assert loaded.sites.known == network.sites.known
    np.testing.assert_equal(loaded.history, network.history)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, jax.tree.map(np.asarray, network.params))
    np.testing.assert_array_equal(raw_numbers(loaded, tokens[0])[1], raw_numbers(network, tokens[0])[1])


def test_a_folder_in_use_is_not_overwritten(network, tmp_path):
    (tmp_path / "precious").write_text("data")
    with pytest.raises(ppl.StorageError, match="not empty"):
        network.save(tmp_path)


@pytest.mark.parametrize("name", ["network.json", "arrays.npz"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_cut_file_is_told(network, tmp_path, name, keep):
    network.save(tmp_path / "net")
    path = tmp_path / "net" / name
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(ppl.StorageError, match="damaged"):
        ppl.load_network(tmp_path / "net")


@pytest.mark.parametrize("step", [1009, pytest.param(53, marks=pytest.mark.slow)])
def test_every_changed_byte_of_a_file_is_told(network, tmp_path, step):
    network.save(tmp_path / "net")
    for file in sorted((tmp_path / "net").iterdir()):
        data = file.read_bytes()
        ends = [*range(0, len(data), step), *range(len(data) - 100, len(data), max(1, step // 100))]
        for place in ends:
            changed = bytearray(data)
            changed[place] ^= 1 << (place % 8)
            file.write_bytes(changed)
            with pytest.raises(ppl.StorageError, match=r"is damaged|holds the format"):
                ppl.load_network(tmp_path / "net")
        file.write_bytes(data)
    assert ppl.load_network(tmp_path / "net").config == network.config


def test_the_arrays_of_another_network_are_told(network, tmp_path):
    network.save(tmp_path / "net")
    other = create_network(network.config, network.scaling, network.sites, seed=7)
    other.save(tmp_path / "other")
    (tmp_path / "net" / "arrays.npz").write_bytes((tmp_path / "other" / "arrays.npz").read_bytes())
    with pytest.raises(ppl.StorageError, match=r"damaged .*the checksum of arrays\.npz is another"):
        ppl.load_network(tmp_path / "net")


def test_a_network_of_the_first_format_is_read(network, tmp_path):
    """It had no checksums, and no length of an observation."""
    network.save(tmp_path / "net")
    data = json.loads((tmp_path / "net" / "network.json").read_text())
    del data["crc32"], data["arrays_crc32"]
    data |= {"format": "ppl_jax network 1", "observed": [entry[:4] for entry in data["observed"]]}
    (tmp_path / "net" / "network.json").write_text(json.dumps(data, indent=1))
    assert ppl.load_network(tmp_path / "net").config == network.config


def test_what_is_no_network_is_told(tmp_path):
    with pytest.raises(ppl.StorageError, match="not a folder with a network"):
        ppl.load_network(tmp_path)
    (tmp_path / "network.json").write_text('{"format": "another"}')
    with pytest.raises(ppl.StorageError, match="'another', but 'ppl_jax network 2' was expected"):
        ppl.load_network(tmp_path)


class Halves(nn.Module):
    """A module of a user's."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(4)(x[:, ::2])


def test_a_module_of_the_users_is_asked_for_when_loading(tmp_path):
    given = embedding_of("y", Halves())
    config = NetworkConfig((("y", (6,), Embedding(given.dim, given.kind)),), (Halves(),), FeedForward(4, 1))
    scaling = {"y": (np.zeros(6, np.float32), np.ones(6, np.float32))}
    create_network(config, scaling, CallSites(), 0).save(tmp_path / "n")
    with pytest.raises(ppl.StorageError, match=r"embeds 'y' by a module of yours.*modules=\{'y': module\}"):
        ppl.load_network(tmp_path / "n")
    assert ppl.load_network(tmp_path / "n", modules={"y": Halves()}).config == config


# -- observations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "'sum' is not given"),
        ({"sum": 1.0, "other": 2.0}, "'other' is unknown to it"),
        ({"sum": np.zeros(3)}, r"of shape \(\), but a value of shape \(3,\)"),
        ({"sum": float("nan")}, "cannot use the value given for 'sum': it has NaN"),
        ({"sum": -np.inf}, "cannot use the value given for 'sum': it has NaN, infinite"),
        ({"sum": 1e200}, "cannot use the value given for 'sum': .* huge numbers"),
    ],
)
def test_observations_that_do_not_fit_are_refused(network, given, message):
    with pytest.raises(NetworkError, match=message):
        network.standardised(given)


def test_observations_are_standardised(network):
    values, presence = network.standardised({"sum": 80.0})
    np.testing.assert_allclose(values["sum"], [2.0])
    assert presence.tolist() == [[1.0]]


def test_embeddings_take_numbers_images_and_grids():
    observed = (
        ("a", (), Embedding(4)),
        ("b", (), Embedding(4)),
        ("image", (8, 6), Embedding(5, "cnn2d")),
        ("colour", (8, 6, 3), Embedding(5, "cnn2d")),
        ("grid", (4, 4, 4), Embedding(6, "cnn3d")),
    )
    module = Observer(observed, (), 7)
    rng = np.random.default_rng(0)
    data = {name: jnp.asarray(rng.normal(size=(3, *shape)), jnp.float32) for name, shape, _ in observed}
    presence = jnp.ones((3, 5))
    params = some_parameters(module, data, presence)
    embed = jax.jit(module.apply)
    found = embed(params, data, presence)
    assert found.shape == (3, 7)
    # "a" and "b" share a computation, not their parameters.
    swapped = embed(params, {**data, "a": data["b"], "b": data["a"]}, presence)
    assert not np.allclose(found, swapped)
    # An observation that is not there does not matter.
    absent = presence.at[:, 2].set(0.0)
    other = {**data, "image": 9.0 * data["image"]}
    np.testing.assert_array_equal(embed(params, data, absent), embed(params, other, absent))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 3}, "a setting must be .* got 'size'"),
        ({"dim": 0}, "dim must be an integer of at least 1"),
        ({"kind": "rnn"}, "kind must be one of 'mlp', 'cnn2d', 'cnn3d', 'set', 'sequence', 'module'"),
        (64, "must be a mapping such as"),
        ({"kind": "module"}, "kind 'module' needs a Flax linen module"),
    ],
)
def test_wrong_embeddings_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        embedding_of("y", given)
