"""Datasets hold what was put into them, bit for bit, in order, and say what that is."""

import numpy as np
import pytest
from dataset_programs import everything, gum, image, rejection, rows

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.data import ShardWriter, new_dataset, open_dataset
from ppl_jax.errors import StorageError
from ppl_jax.storage import TraceWriter

COUNT = 300


@pytest.fixture(scope="module")
def posterior():
    return ppl.importance_sampling(everything, {"y": 1.0}, COUNT, seed=1, progress=False)


@pytest.fixture(scope="module")
def dataset(posterior, tmp_path_factory):
    path = tmp_path_factory.mktemp("dataset") / "everything"
    with ShardWriter(path, block_traces=70) as writer:
        writer.extend(posterior.values, posterior.log_weights)
    return open_dataset(path)


def test_traces_come_back_in_order(dataset, posterior):
    assert len(dataset) == COUNT
    assert rows(dataset.take(slice(None))) == rows(posterior.values)
    np.testing.assert_array_equal(dataset.log_weights(), posterior.log_weights)
    for found, expected in zip(dataset, posterior, strict=True):
        assert found.log_importance_weight == expected.log_importance_weight
        assert found.log_joint == expected.log_joint
        assert found.type == expected.type


def test_one_trace_and_selections(dataset, posterior):
    expected = rows(posterior.values)
    assert rows(dataset.take([17])) == expected[17:18]
    assert dataset[17]["x"] == posterior[17]["x"] and dataset[-1]["x"] == posterior[-1]["x"]
    assert rows(dataset[10:200:7]) == expected[10:200:7]
    assert rows(dataset[[5, -1, 5]]) == [expected[5], expected[-1], expected[5]]
    mask = np.arange(COUNT) % 3 == 0
    assert rows(dataset[mask]) == expected[::3]
    assert len(dataset[[]]) == 0 and len(dataset[3:3]) == 0
    np.testing.assert_array_equal(dataset.log_weights(slice(60, 80)), posterior.log_weights[60:80])


@pytest.mark.parametrize("index", [COUNT, -COUNT - 1, [0, COUNT], np.zeros(3, bool), [0.5]])
def test_an_index_that_does_not_exist(dataset, index):
    with pytest.raises(IndexError):
        dataset[index]


def test_what_it_holds(dataset, posterior):
    info = dataset.info()
    traces = list(posterior)
    assert (info.traces, info.shards, info.blocks) == (COUNT, 1, 5)
    assert info.latents == sum(len(trace.controlled) for trace in traces)
    assert sum(found.traces for found in info.types) == COUNT
    assert [found.traces for found in info.types] == sorted((found.traces for found in info.types), reverse=True)
    assert info.observations == {"y": ()}
    assert info.names == ("count", "step", "coins", "kind", "x", "y")
    sites = [site for trace in traces for site in trace.sites if site.kind in ("sample", "observe")]
    assert info.addresses == tuple(dict.fromkeys(site.address for site in sites))
    assert info.bytes == sum(file.stat().st_size for file in dataset.path.glob("*.shard"))
    assert info.problems == ()


def test_types_are_numbered_in_order_of_appearance(dataset, posterior):
    lengths = [len(trace.controlled) for trace in posterior]
    assert [len(found.latents) for found in dataset.types] == list(dict.fromkeys(lengths))
    np.testing.assert_array_equal(dataset.type_counts, [lengths.count(len(found.latents)) for found in dataset.types])
    first = dataset.types[0].latents[0]
    assert (first.name, first.instance, first.value, first.distribution) == ("count", 1, (), ("Poisson", ()))
    assert dataset.types[-1] == dataset.types[len(dataset.types) - 1]
    assert dataset.types[:2] == [dataset.types[0], dataset.types[1]]
    with pytest.raises(IndexError):
        dataset.types[len(dataset.types)]


def test_traces_that_differ_only_in_nuisance_draws_are_of_one_type(tmp_path):
    dataset = ppl.save_dataset(rejection, tmp_path / "set", 200, progress=False)
    assert len(dataset.types) == 1 and dataset.info().layouts > 3
    assert [site.name for site in dataset.types[0].latents] == ["mu"]
    assert [site.name for site in dataset.types[0].observations] == ["y"]


def test_a_sample_that_was_conditioned_on_is_an_observation(tmp_path):
    dataset = new_dataset(tmp_path / "set")
    dataset.append(ppl.importance_sampling(gum, {"mu": 1.0, "obs0": 0.0, "obs1": 0.0}, 5, seed=0, progress=False))
    (only,) = dataset.types
    assert only.latents == () and [site.name for site in only.observations] == ["mu", "obs0", "obs1"]


def test_appending_goes_on_in_the_same_dataset(tmp_path, posterior):
    dataset = new_dataset(tmp_path / "set")
    assert len(dataset) == 0 and len(dataset.types) == 0 and dataset.info().latents == 0
    assert list(dataset.minibatches(10)) == [] and list(dataset) == []
    dataset.append(posterior)
    dataset.append(posterior.values[:50])
    assert len(dataset) == COUNT + 50 and dataset.info().shards == 2
    assert rows(dataset[:]) == rows(posterior.values) + rows(posterior.values[:50])
    np.testing.assert_array_equal(dataset.log_weights(slice(COUNT, None)), np.zeros(50))
    dataset.append(posterior.values[:0])
    assert dataset.info().shards == 2


def test_traces_one_by_one(tmp_path, posterior):
    with ShardWriter(tmp_path / "set", block_traces=40) as writer:
        for trace, log_weight in zip(posterior, posterior.log_weights.tolist(), strict=True):
            writer.append(trace, log_weight)
        assert len(open_dataset(tmp_path / "set")) == COUNT // 40 * 40  # whole blocks can be read at once
    dataset = open_dataset(tmp_path / "set")
    assert rows(dataset[:]) == rows(posterior.values)
    np.testing.assert_array_equal(dataset.log_weights(), posterior.log_weights)


def test_two_writers_at_once_have_a_shard_each(tmp_path, posterior):
    with ShardWriter(tmp_path / "set", block_traces=10) as one, ShardWriter(tmp_path / "set", block_traces=10) as other:
        for k in range(0, 100, 20):
            one.extend(posterior.values[k : k + 10], np.zeros(10))
            other.extend(posterior.values[k + 10 : k + 20], np.zeros(10))
    dataset = open_dataset(tmp_path / "set")
    assert dataset.info().shards == 2
    assert sorted(rows(dataset[:]), key=repr) == sorted(rows(posterior.values[:100]), key=repr)


def test_a_split_shares_the_files(dataset, posterior):
    training, validation = dataset.split(0.25)
    assert (len(training), len(validation)) == (225, 75)
    expected = rows(posterior.values)
    assert rows(training[:]) == expected[:225] and rows(validation[:]) == expected[225:]
    np.testing.assert_array_equal(training.type_counts + validation.type_counts, dataset.type_counts)
    assert training.types[0] == dataset.types[0]
    again, rest = validation.split(0.2)
    assert rows(again[:]) == expected[225:285] and rows(rest[:]) == expected[285:]
    found = sorted(value for minibatch in validation.minibatches(8) for value in minibatch.table.column("x").tolist())
    assert found == sorted(trace["x"] for trace in posterior[225:])
    with pytest.raises(StorageError, match="part of a dataset"):
        training.append(posterior)
    for fraction in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="fraction"):
            dataset.split(fraction)


def test_images_take_the_room_they_need(tmp_path):
    dataset = ppl.save_dataset(image, tmp_path / "exact", 200, progress=False)
    formats = {"image": "float16", "grid": "float32"}
    rounded = ppl.save_dataset(image, tmp_path / "rounded", 200, dtypes=formats, progress=False)
    prior = ppl.prior(image, 200, seed=0, progress=False)
    np.testing.assert_array_equal(dataset[:].column("image"), prior.values.column("image"))
    np.testing.assert_array_equal(dataset[:].column("grid"), prior.values.column("grid"))
    np.testing.assert_array_equal(rounded[:].column("image"), prior.values.column("image"))
    np.testing.assert_array_equal(rounded[:].column("grid"), prior.values.column("grid").astype(np.float32))
    assert dataset.observations == {"image": (8, 6), "grid": (2, 3, 4)}
    (minibatch,) = rounded.minibatches(200)
    assert minibatch.observation("image").dtype == np.uint8 and minibatch.observation("image").shape == (200, 8, 6)
    assert minibatch.observation("grid").dtype == np.float32 and minibatch.observation("grid").shape == (200, 2, 3, 4)
    # Exactly: a byte for each count of the image, float64 for its rates, for the grid and its means; and the latent.
    assert dataset.info().bytes / 200 == pytest.approx(48 + 48 * 8 + 24 * 8 * 2 + 8, rel=0.1)
    assert rounded.info().bytes / 200 == pytest.approx(48 + 48 * 2 + 24 * 4 * 2 + 8, rel=0.2)


def test_constant_parameters_and_copies_cost_nothing(tmp_path):
    dataset = ppl.save_dataset(gum, tmp_path / "set", 2000, progress=False)
    # mu, obs0 and obs1; the means are mu, and the result is mu.
    assert dataset.info().bytes / 2000 == pytest.approx(3 * 8, rel=0.05)


def test_values_that_need_pickle_are_refused(tmp_path):
    class Own:
        pass

    def model():
        ppl.tag(Own(), name="own")
        return ppl.sample(dist.Normal(0.0, 1.0))

    with pytest.raises(StorageError, match="Own cannot be stored on disk without pickle"):
        ppl.save_dataset(model, tmp_path / "set", 3, backend="host", progress=False)


def test_only_traces_can_be_appended(tmp_path, posterior):
    dataset = new_dataset(tmp_path / "set")
    for wrong in (posterior.map("x"), [1.0, 2.0]):
        with pytest.raises(StorageError, match="traces"):
            dataset.append(wrong)
    with pytest.raises(StorageError, match="300 traces must be appended with as many log weights, got 3"):
        dataset.append(posterior.values, np.zeros(3))
    assert len(dataset) == 0


def test_traces_of_another_model_are_not_appended(tmp_path, posterior):
    dataset = new_dataset(tmp_path / "set")
    dataset.append(posterior)
    with pytest.raises(
        StorageError, match="and what is appended are of different models: they have no address in common"
    ):
        dataset.append(ppl.prior(gum, 5, seed=0, progress=False))
    assert len(dataset) == COUNT


def test_observations_of_other_shapes_are_named(tmp_path, dataset):
    images = ppl.save_dataset(image, tmp_path / "images", 3, progress=False)
    images.check_observations({"image": (8, 6), "grid": (2, 3, 4)})
    with pytest.raises(
        StorageError, match=r"images: the observation 'image' has shape \(8, 6\), but \(6, 8\) was expected"
    ):
        images.check_observations({"image": (6, 8)})
    with pytest.raises(StorageError, match=r"has no observation 'obs0'\. Choose among its observations: 'y'"):
        dataset.check_observations({"obs0": ()})

    def model():
        length = ppl.sample(dist.Poisson(3.0), name="length")
        ppl.observe(dist.Normal(np.zeros(1 + length), 1.0), name="y")

    varying = ppl.save_dataset(model, tmp_path / "varying", 30, progress=False)
    assert varying.observations == {"y": None} and len(varying.types) > 1
    with pytest.raises(StorageError, match="'y' has shapes that vary"):
        varying.check_observations({"y": (3,)})


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"not empty \(it holds 'notes.txt'\)"):
        new_dataset(tmp_path)
    with pytest.raises(StorageError, match="is no dataset"):
        open_dataset(tmp_path)
    with pytest.raises(StorageError, match="is no dataset"):
        open_dataset(tmp_path / "missing")
    with pytest.raises(StorageError, match="No dataset can be written"):
        new_dataset(tmp_path / "notes.txt" / "set")


def test_bad_arguments(tmp_path, dataset):
    with pytest.raises(ValueError, match=r"dtypes\['obs'\] must be one of float64, float32, float16"):
        ShardWriter(tmp_path / "set", dtypes={"obs": "int3"})
    with pytest.raises(ValueError, match="block_traces"):
        ShardWriter(tmp_path / "set", block_traces=0)
    with pytest.raises(ValueError, match="batch_size must be a positive integer, got 0"):
        dataset.minibatches(0)
    with pytest.raises(ValueError, match="batch_size"):
        dataset.mixed_minibatches(1.5)


@pytest.mark.parametrize("block_traces", [1 << 16, 1 << 20])
def test_more_traces_than_two_bytes_count(tmp_path, block_traces):
    few = ppl.prior(rejection, 1000, seed=0, progress=False).values
    table = few[np.random.default_rng(0).integers(1000, size=150_000)]
    with ShardWriter(tmp_path / "set", block_traces=block_traces) as writer:
        writer.extend(table, np.arange(150_000.0))
    dataset = open_dataset(tmp_path / "set")
    places = np.array([0, 1, 65_535, 65_536, 65_537, 131_071, 131_072, 149_999])
    assert rows(dataset[places]) == rows(table[places])
    np.testing.assert_array_equal(dataset.log_weights(places), places)
    np.testing.assert_array_equal(dataset.minibatch(0, places).values(0), table[places].column("mu"))
    training, validation = dataset.split(0.1)
    np.testing.assert_array_equal(validation.minibatch(0, np.arange(9)).log_weights, 135_000 + np.arange(9.0))
    assert len(training) == 135_000 == training.type_counts.sum()


def test_a_table_of_many_layouts_in_memory_only(tmp_path):
    """More layouts than a block has traces, and layouts that first appear in the last block."""
    writer = TraceWriter()
    for trace in ppl.prior(rejection, 400, seed=0, progress=False):
        writer.append(trace, 0.0)
    table, log_weights = writer.finish()
    with ShardWriter(tmp_path / "set", block_traces=3) as shard:
        shard.extend(table, log_weights)
    assert rows(open_dataset(tmp_path / "set")[:]) == rows(table)
