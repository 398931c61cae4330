"""Random streams: the published generator, uniforms in the open interval, and independence of how they are read."""

import numpy as np
import pytest
from scipy import stats

from ppl_jax.streams import CountedStream, Stream, check_seed, counted_streams, derive_seed, philox, streams, uniforms

ALL = 0xFFFFFFFF
#: counter, key, output: the known-answer vectors of Random123, the authors' implementation (kat_vectors).
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ALL, ALL, ALL, ALL), (ALL, ALL), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_the_published_answers(counter, key, expected):
    assert tuple(map(int, philox(tuple(map(np.uint64, counter)), key))) == expected


def test_a_stream_is_the_counter_under_the_key():
    """Block b of stream (seed, index): counter (b, index) under the key seed, each in two words, low word first."""
    seed, index = 0x0123456789ABCDEF, 0xFEDCBA9876543210
    words = philox(tuple(map(np.uint64, (5, 0, index & ALL, index >> 32))), (seed & ALL, seed >> 32))
    pairs = [int(words[0]) | int(words[1]) << 32, int(words[2]) | int(words[3]) << 32]
    expected = [((pair >> 12) + 0.5) * 2.0**-52 for pair in pairs]
    stream = Stream(seed, index)
    assert [stream.random() for _ in range(12)][10:] == expected


def test_reading_in_batches_is_reading_one_by_one():
    """Past every refill (16, 80, 336, ... uniforms) and past the batches of streams (256)."""
    for index, stream in enumerate(streams(3, 0, 600)):
        if index in (0, 255, 256, 599):
            alone = Stream(3, index)
            assert [stream.random() for _ in range(5000)] == [alone.random() for _ in range(5000)]
    assert np.array_equal(
        uniforms(3, np.array([7], np.uint64), 2, 3)[0], uniforms(3, np.array([7], np.uint64), 0, 5)[0, 4:]
    )


def test_uniforms_lie_strictly_inside_and_are_uniform():
    values = uniforms(1, np.arange(1000, dtype=np.uint64), 0, 100)
    assert values.shape == (1000, 200)
    assert values.min() > 0.0 and values.max() < 1.0
    assert stats.kstest(values.ravel(), "uniform").pvalue > 1e-4
    neighbours = np.corrcoef(values[:, 0], values[:, 1])[0, 1], np.corrcoef(values[:-1, 0], values[1:, 0])[0, 1]
    assert np.abs(neighbours).max() < 4 / np.sqrt(1000)  # four standard errors of a correlation of zero


def test_streams_and_seeds_differ():
    first = {Stream(seed, index).random() for seed in range(20) for index in range(20)}
    assert len(first) == 400
    assert len({derive_seed(seed, label) for seed in range(20) for label in range(20)} | set(range(20))) == 420
    assert derive_seed(5, 1, 2) == derive_seed(derive_seed(5, 1), 2)
    assert derive_seed(5, 1, 2) != derive_seed(5, 2, 1)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, "1", True])
def test_seeds_that_are_none(seed):
    with pytest.raises(ValueError, match=r"seed must be None or an integer in \[0, 2\*\*64\)"):
        check_seed(seed)


def test_seeds_of_numpy_and_none():
    assert check_seed(np.int64(3)) == 3 and type(check_seed(np.int64(3))) is int
    assert check_seed(2**64 - 1) == 2**64 - 1
    assert check_seed(None) != check_seed(None)
    assert repr(Stream(1, 2)) == "Stream(seed=1, index=2)"


@pytest.mark.parametrize("kind", [Stream, CountedStream])
def test_streams_say_where_they_are_and_go_elsewhere(kind):
    """Within what is known already, to the end of it, beyond it, back, and before anything was asked for."""
    expected = uniforms(5, np.array([9], np.uint64), 0, 5000)[0].tolist()
    stream, fresh = kind(5, 9), kind(5, 9)
    from_batch = next((streams if kind is Stream else counted_streams)(5, 9, 10))
    many = (0, 1, 3, 16, 16, 17, 80, 2001, 2, 9998, 7)
    for one, moves in ((stream, many), (fresh, (5, 4)), (from_batch, (16, 7, 40))):
        assert one.position == 0
        for position in moves:
            one.move_to(position)
            assert one.position == position
            count = min(position % 3, 10_000 - position)
            assert [one.random() for _ in range(count)] == expected[position : position + count]
            assert one.position == position + count
    assert [stream.random() for _ in range(2000)] == expected[stream.position - 2000 : stream.position]
