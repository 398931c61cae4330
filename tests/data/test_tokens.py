"""What traces become: tokens in their priors' frames, packed into grids of few shapes."""

import math

import numpy as np
import programs
import pytest
from nn import wide_programs

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.encoding.batches import BLOCK, Shapes, make_batch, pack, rounded_length, rounded_rows
from ppl_jax.encoding.coordinates import CATEGORY, COUNT, log_stretch
from ppl_jax.encoding.tokens import CallSites, Encoder


def encoded(model, observed, number, seed=0):
    table = ppl.prior(model, number, seed=seed, progress=False).values
    encoder = Encoder(observed, CallSites())
    return table, encoder, encoder.encode(table)


def test_tokens_of_every_family_keep_the_prior_density_of_the_trace():
    table, _, (tokens, _, _) = encoded(wide_programs.zoo, {"sum": ()}, 50)
    ends = np.cumsum(tokens.lengths)
    density = tokens.log_prior - log_stretch(tokens.frames, tokens.u)
    sums = [density[end - length : end].sum() for length, end in zip(tokens.lengths, ends, strict=True)]
    np.testing.assert_allclose(sums, [trace.log_prob for trace in table], rtol=1e-9)
    elements = sum(math.prod(distribution.shape) for distribution in wide_programs.VECTORS.values())
    assert set(tokens.lengths) == {len(wide_programs.FAMILIES) + elements}


def test_shares_and_counts_are_divided_into_elements_that_keep_the_density():
    table, _, (tokens, _, _) = encoded(wide_programs.more, {"y": ()}, 50)
    ends = np.cumsum(tokens.lengths)
    density = tokens.log_prior - log_stretch(tokens.frames, tokens.u)
    sums = [density[end - length : end].sum() for length, end in zip(tokens.lengths, ends, strict=True)]
    np.testing.assert_allclose(sums, [trace.log_prob for trace in table], rtol=1e-9)
    assert set(tokens.lengths) == {len(wide_programs.MORE) + 2 + 1 + 3}


def test_coordinates_of_continuous_draws_are_of_order_one():
    _, _, (tokens, _, _) = encoded(wide_programs.zoo, {"sum": ()}, 400)
    for site in np.unique(tokens.site):
        where = tokens.site == site
        if tokens.frames.kind[where][0] == CATEGORY:
            continue
        u = tokens.u[where]
        # Standardised but for families whose frames are approximate: the far tail of a truncated normal is one.
        assert abs(np.mean(u)) < 1.2
        assert 0.5 < np.std(u) < 1.3


def test_the_frame_depends_on_the_run_time_parameters():
    def model():
        scale = ppl.sample(dist.Uniform(0.1, 10.0))
        ppl.sample(dist.Normal(100.0 * scale, scale))
        ppl.observe(dist.Normal(0.0, 1.0), name="y")

    _, _, (tokens, _, _) = encoded(model, {"y": ()}, 500)
    u = tokens.u[tokens.site == 2]
    # Standard normals: the mean of 500 is within four standard errors of 0.
    assert abs(u.mean()) < 4.0 / math.sqrt(500.0)
    assert abs(u.std() - 1.0) < 4.0 / math.sqrt(1000.0)


def test_loops_share_a_call_site_and_count_instances():
    _, encoder, (tokens, _, _) = encoded(programs.gum_marsaglia, {"obs0": (), "obs1": ()}, 200)
    assert encoder.sites.num_rows == 3
    assert set(tokens.site) == {1, 2}
    first = tokens.instance[: tokens.lengths[0]]
    np.testing.assert_array_equal(first, np.repeat(np.arange(1, len(first) // 2 + 1), 2))
    assert encoder.num_trace_types == len(set(tokens.lengths))


def test_a_name_that_is_observed_is_no_latent():
    _, _, (tokens, observations, presence) = encoded(programs.gum, {"mu": ()}, 10)
    assert tokens.lengths.sum() == 0
    assert observations["mu"].shape == (10,)
    assert presence.all()


def test_uncontrolled_and_fixed_draws_make_no_tokens():
    def model():
        ppl.sample(dist.Normal(0.0, 1.0), name="nuisance", control=False)
        ppl.sample(dist.Delta(3.0), name="fixed")
        ppl.sample(dist.Categorical(np.full(500, 1.0)), name="too many")
        ppl.sample(dist.Normal(np.zeros(1000), 1.0), name="too long")
        ppl.observe(dist.Normal(ppl.sample(dist.Normal(0.0, 1.0), name="x"), 1.0), name="y")

    _, encoder, (tokens, _, _) = encoded(model, {"y": ()}, 5)
    assert tokens.lengths.tolist() == [1] * 5
    assert encoder.sites.num_rows == 2


def test_a_missing_observation_is_told_by_its_presence():
    def model():
        if ppl.sample(dist.Bernoulli(0.5), name="there"):
            ppl.observe(dist.Normal(7.0, 1e-3), name="y")

    table, _, (_, observations, presence) = encoded(model, {"y": ()}, 100)
    there = np.array([trace["there"] for trace in table])
    np.testing.assert_array_equal(presence[:, 0], there)
    np.testing.assert_allclose(observations["y"], 7.0 * there, atol=0.01)


def test_observations_of_changing_shape_are_refused():
    def model():
        size = 2 + ppl.sample(dist.Bernoulli(0.5), name="more")
        ppl.observe(dist.Normal(np.zeros(size), 1.0), name="y")

    table = ppl.prior(model, 50, seed=0, progress=False).values
    with pytest.raises(ppl.ObservationError, match=r"'y'.*shape \(3,\), but the network was made for shape \(2,\)"):
        Encoder({"y": (2,)}, CallSites()).encode(table)


def test_encoding_reads_the_selected_traces_of_a_table():
    table, encoder, (tokens, observations, _) = encoded(programs.gum_marsaglia, {"obs0": (), "obs1": ()}, 300)
    index = np.array([5, 250, 5, 17])
    some, data, _ = encoder.encode(table[index])
    ends = np.cumsum(tokens.lengths)
    expected = np.concatenate([tokens.u[ends[k] - tokens.lengths[k] : ends[k]] for k in index])
    np.testing.assert_array_equal(some.u, expected)
    np.testing.assert_array_equal(data["obs1"], observations["obs1"][index])


# -- grids -------------------------------------------------------------------------------------------------------------


def test_packing_puts_every_trace_in_one_row_without_overlap():
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 13, 500)
    rows, row, first = pack(lengths, 16)
    used = np.zeros((rows, 16), int)
    for length, r, c in zip(lengths, row, first, strict=True):
        used[r, c : c + length] += 1
    assert used.max() == 1
    assert used.sum() == lengths.sum()
    assert rows <= math.ceil(1.1 * lengths.sum() / 16)


def test_batches_hold_every_token_once_and_say_whose_it_is():
    _, _, (tokens, observations, presence) = encoded(programs.gum_marsaglia, {"obs0": (), "obs1": ()}, 100)
    batch = make_batch(tokens, observations, presence, Shapes(), 128, 0, 8)
    assert batch.mask.sum() == tokens.lengths.sum()
    assert batch.num_traces == 100
    assert batch.observations["obs0"].shape == (128,)
    at = 0
    for trace, length in enumerate(tokens.lengths):
        mine = (batch.trace == trace) & (batch.mask > 0)
        assert mine.sum() == length
        assert len(set(np.nonzero(mine)[0])) == 1
        np.testing.assert_allclose(batch.u[mine], tokens.u[at : at + length], rtol=1e-6)
        np.testing.assert_array_equal(batch.start[mine], np.arange(length) == 0)
        at += length


def test_blocks_hold_cells_of_one_call_site():
    _, _, (tokens, observations, presence) = encoded(wide_programs.zoo, {"sum": ()}, 20)
    batch = make_batch(tokens, observations, presence, Shapes(), 32, 4, 64)
    cells = batch.block_cells.reshape(-1, BLOCK)
    flat = batch.site.ravel()
    for site, members in zip(batch.block_site, cells, strict=True):
        assert set(flat[members[members < flat.size]]) <= {site}
    np.testing.assert_array_equal(batch.block_cells[batch.cell_place.ravel()], np.arange(flat.size))


def test_the_number_of_shapes_does_not_grow_with_the_number_of_trace_types():
    rng = np.random.default_rng(1)
    shapes = Shapes()
    for _ in range(300):
        shapes.arrange(rng.geometric(0.15, 256), 256)
    # Lengths up to about 80 have 13 steps of the scale; nearby shapes stand in for each other.
    assert len(shapes.known) <= 12


def test_one_shape_that_is_reserved_serves_a_training():
    rng, shapes = np.random.default_rng(2), Shapes()
    shapes.reserve(2 * rng.geometric(0.785, 1000), 256)
    (reserved,) = shapes.known
    for count in (256, 256, 256, 256, 32):  # the last batch is not full
        shape, row, first = shapes.arrange(2 * rng.geometric(0.785, count), 256)
        assert shape == reserved
        assert row.max() < shape[0]
        assert first.max() < shape[1]
    shapes = Shapes()
    shapes.reserve(np.full(1000, 5), 256)
    assert shapes.known == {(256, 6)}  # traces of one length need no room to spare


def test_the_scale_of_shapes_is_coarse_and_sufficient():
    for number in range(1, 2000):
        assert number <= rounded_length(number) <= max(1.5 * number, number + 1)
        assert number <= rounded_rows(number) <= max(8, 1.25 * number)


def test_counts_have_half_bins_and_bounds():
    def model():
        ppl.sample(dist.Binomial(9, 0.3), name="n")
        ppl.observe(dist.Normal(0.0, 1.0), name="y")

    _, _, (tokens, observations, presence) = encoded(model, {"y": ()}, 4)
    batch = make_batch(tokens, observations, presence, Shapes(), 4, 0, 8)
    scale = math.sqrt(9 * 0.3 * 0.7)
    assert batch.kind[0, 0] == COUNT
    np.testing.assert_allclose(batch.half_bin[batch.mask > 0], 0.5 / scale, rtol=1e-6)
    np.testing.assert_allclose(batch.bounds[0, 0], [-2.7 / scale, 6.3 / scale], rtol=1e-6)
