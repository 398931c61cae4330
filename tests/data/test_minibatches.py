"""Minibatches hold what the traces hold, every trace once, in an order that nothing but the seed decides."""

from collections import Counter

import numpy as np
import pytest
from dataset_programs import everything, gum, image, rejection

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.data import ShardWriter, TypeTable, minibatches_of, open_dataset

COUNT = 400


@pytest.fixture(scope="module")
def prior():
    return ppl.prior(everything, COUNT, seed=2, progress=False)


@pytest.fixture(scope="module")
def dataset(prior, tmp_path_factory):
    path = tmp_path_factory.mktemp("minibatches") / "everything"
    with ShardWriter(path, block_traces=90) as writer:
        writer.extend(prior.values, prior.log_weights)
    with ShardWriter(path, block_traces=50) as writer:
        writer.extend(prior.values[:0], prior.log_weights[:0])
    return open_dataset(path)


def assert_agrees_with_traces(minibatch):
    traces = list(minibatch.table)
    assert len(minibatch) == len(traces)
    for k, site in enumerate(minibatch.type.latents):
        values, numbers = minibatch.values(k), minibatch.numbers(k)
        assert values.shape == (len(traces), *site.value)
        for j, trace in enumerate(traces):
            expected = trace.controlled[k]
            np.testing.assert_array_equal(values[j], expected.value)
            np.testing.assert_array_equal(numbers[j], expected.distribution.numbers())
            assert (site.address, site.instance, site.name) == (expected.address, expected.instance, expected.name)
        assert values.dtype == (np.int64 if traces[0].controlled[k].distribution.discrete else np.float64)
    for k, site in enumerate(minibatch.type.observations):
        data = [[found for found in trace.observed if found.kind != "factor"][k] for trace in traces]
        np.testing.assert_array_equal(minibatch.observed(k), [found.value for found in data])
        assert site.name == data[0].name


def test_columns_agree_with_the_traces(dataset):
    for minibatch in dataset.minibatches(32, seed=1):
        assert_agrees_with_traces(minibatch)


def test_every_trace_comes_once_in_each_epoch(dataset, prior):
    expected = Counter(trace["x"] for trace in prior)
    orders = []
    for epoch in (0, 1):
        found = [minibatch.table.column("x").tolist() for minibatch in dataset.minibatches(32, seed=1, epoch=epoch)]
        assert Counter(value for values in found for value in values) == expected
        assert len(found) == dataset.num_minibatches(32)
        orders.append(found)
    assert orders[0] != orders[1]


def test_an_epoch_goes_on_where_it_was_left(dataset):
    whole = [minibatch.table.column("x").tolist() for minibatch in dataset.minibatches(32, seed=1, epoch=3)]
    rest = [minibatch.table.column("x").tolist() for minibatch in dataset.minibatches(32, seed=1, epoch=3, start=5)]
    assert rest == whole[5:]


def test_the_order_does_not_depend_on_how_the_traces_are_stored(dataset, prior, tmp_path):
    with ShardWriter(tmp_path / "set", block_traces=COUNT) as writer:
        writer.extend(prior.values, prior.log_weights)
    types = TypeTable()
    ways = [
        dataset.minibatches(16, seed=4, epoch=2),
        open_dataset(tmp_path / "set").minibatches(16, seed=4, epoch=2),
        minibatches_of(prior.values, 16, types, seed=4, epoch=2),
    ]
    for one, other, memory in zip(*ways, strict=True):
        assert one.number == other.number == memory.number and one.type == other.type == memory.type
        for k in range(len(one.type.latents)):
            np.testing.assert_array_equal(one.values(k), other.values(k))
            np.testing.assert_array_equal(one.values(k), memory.values(k))
            np.testing.assert_array_equal(one.numbers(k), memory.numbers(k))
        np.testing.assert_array_equal(one.observation("y"), memory.observation("y"))
        np.testing.assert_array_equal(one.log_weights, memory.log_weights)
    assert list(types) == list(dataset.types)


def test_in_memory_minibatches_agree_with_the_traces(prior):
    for minibatch in minibatches_of(prior.values[50:], 32, TypeTable(), seed=1):
        assert_agrees_with_traces(minibatch)


def test_a_type_table_goes_on_from_table_to_table(prior):
    types = TypeTable()
    for low in range(0, COUNT, 100):
        for minibatch in minibatches_of(prior.values[low : low + 100], 32, types, epoch=low):
            assert types[minibatch.number] == minibatch.type
    assert len(types) == len(set(types)) == len({len(trace.controlled) for trace in prior})


def test_the_weighted_mean_over_an_epoch_is_the_mean_over_the_traces(dataset, prior):
    """What makes gradients unbiased: minibatches of one type, of unequal size, and yet every trace counts the same."""
    for minibatches in (dataset.minibatches(32, seed=1), minibatches_of(prior.values, 32, TypeTable())):
        total = sum(minibatch.weight * minibatch.table.column("x").mean() for minibatch in minibatches)
        assert total * 32 / COUNT == pytest.approx(np.mean([trace["x"] for trace in prior]), rel=1e-12)


def test_any_minibatch_of_an_epoch_is_an_unbiased_draw(dataset, prior):
    """The expectation of weight times sum over minibatches at one position, over seeds, is that over all traces."""
    seeds, position = 500, 3
    mean = np.mean([trace["x"] for trace in prior])
    batches = dataset.num_minibatches(64)
    draws = np.empty(seeds)
    for seed in range(seeds):
        minibatch = next(dataset.minibatches(64, seed=seed, start=position))
        draws[seed] = minibatch.weight * (minibatch.observation("x") * 64 * batches / COUNT).mean()
    # Five standard errors.
    assert abs(draws.mean() - mean) < 5 * draws.std() / seeds**0.5


def test_mixed_minibatches_are_full_and_cover_an_epoch(dataset, prior):
    seen, sizes = Counter(), []
    for group in dataset.mixed_minibatches(48, seed=1):
        assert len({minibatch.number for minibatch in group}) == len(group)
        sizes.append(sum(map(len, group)))
        assert sum(minibatch.weight for minibatch in group) == pytest.approx(sizes[-1] / 48)
        for minibatch in group:
            assert_agrees_with_traces(minibatch)
            seen.update(minibatch.table.column("x").tolist())
    assert seen == Counter(trace["x"] for trace in prior)
    assert sorted(sizes)[1:] == [48] * (COUNT // 48)


def test_mixed_minibatches_keep_to_a_key(dataset):
    total = 0
    for group in dataset.mixed_minibatches(16, key=lambda found: len(found.latents) // 3):
        assert len({len(minibatch.type.latents) // 3 for minibatch in group}) == 1
        total += sum(map(len, group))
    assert total == COUNT


def test_parameters_have_their_shapes(dataset):
    minibatch = next(m for m in dataset.minibatches(32) if any(site.name == "step" for site in m.type.latents))
    places = {site.name: k for k, site in enumerate(minibatch.type.latents)}
    mean, stddev = minibatch.parameters(places["step"])
    assert mean.shape == (len(minibatch), 3) and stddev.shape == (len(minibatch),)
    np.testing.assert_array_equal(mean, np.broadcast_to(np.arange(3.0), mean.shape))
    (probs,) = minibatch.parameters(places["coins"])
    assert probs.shape == (len(minibatch), 2, 2)
    with pytest.raises(TypeError, match="numbers"):
        minibatch.parameters(places["x"])


def test_observations_by_name_and_occurrence(tmp_path):
    def model():
        x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
        for _ in range(3):
            ppl.observe(dist.Normal(x, 1.0), name="y")
        ppl.tag(2 * x, name="twice")

    dataset = ppl.save_dataset(model, tmp_path / "set", 20, progress=False)
    (minibatch,) = dataset.minibatches(20)
    traces = list(minibatch.table)
    np.testing.assert_array_equal(minibatch.observation("y"), [trace["y"] for trace in traces])
    np.testing.assert_array_equal(minibatch.observation(("y", 1)), [trace["y", 1] for trace in traces])
    np.testing.assert_array_equal(minibatch.observation("twice"), [trace["twice"] for trace in traces])
    for key in ("z", ("y", 4)):
        with pytest.raises(KeyError):
            minibatch.observation(key)


def test_a_type_of_many_row_layouts_is_read_together(tmp_path):
    dataset = ppl.save_dataset(rejection, tmp_path / "set", 300, progress=False)
    (minibatch,) = dataset.minibatches(300)
    assert len({len(trace) for trace in minibatch.table}) > 3
    assert_agrees_with_traces(minibatch)
    (memory,) = minibatches_of(ppl.prior(rejection, 300, seed=0, progress=False).values, 300, TypeTable())
    np.testing.assert_array_equal(memory.values(0), minibatch.values(0))


def test_arrays_from_several_shards(tmp_path):
    for start in (0, 40):
        dataset = ppl.save_dataset(image, tmp_path / "set", 40, start=start, block_traces=16, progress=False)
    assert dataset.info().shards == 2
    (minibatch,) = dataset.minibatches(80)
    np.testing.assert_array_equal(minibatch.observation("image"), minibatch.table.column("image"))
    np.testing.assert_array_equal(minibatch.observation("grid"), minibatch.table.column("grid"))


def test_a_program_without_latents(tmp_path):
    dataset = ppl.save_dataset(lambda: None, tmp_path / "set", 10, progress=False)
    (minibatch,) = dataset.minibatches(10)
    assert len(minibatch) == 10 and minibatch.type.latents == () and minibatch.table[0].result is None
    assert dataset.info().latents == 0


def test_a_dataset_of_one_trace(tmp_path):
    dataset = ppl.save_dataset(gum, tmp_path / "set", 1, progress=False)
    (minibatch,) = dataset.minibatches(64)
    assert minibatch.weight == 1 / 64 and minibatch.values(0).shape == (1,)
