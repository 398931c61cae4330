"""Random orders: permutations of everything, the same for the same key, and without preference."""

import numpy as np
import pytest
from scipy import stats

from ppl_jax.data.order import WINDOW, BatchOrder, Permutation, RowOrder, derive


@pytest.mark.parametrize("n", [1, 2, 3, 5, 1000, 1024, 1025, 4096, 4097, 100_003])
def test_a_permutation_is_one(n):
    found = Permutation(n, 7)(np.arange(n))
    np.testing.assert_array_equal(np.sort(found), np.arange(n))
    np.testing.assert_array_equal(Permutation(n, 7)(np.arange(n)[n // 2 :]), found[n // 2 :])


def test_keys_choose_permutations():
    one, other = (Permutation(5000, key)(np.arange(5000)) for key in (1, 2))
    # Of two independent permutations about one place agrees; 10 or more have probability 1e-7 (Poisson of mean 1).
    assert np.sum(one == other) < 10
    assert derive(1, 2) != derive(2, 1) and derive(1, 2, 3) != derive(1, 3, 2)


@pytest.mark.parametrize("n", [3, 5, 7, 2000, 70_000])
def test_every_place_is_equally_likely(n):
    bins, draws = min(n, 20), 1000
    for place in (0, n // 2, n - 1):
        found = np.array([Permutation(n, derive(key, place))(np.array([place]))[0] for key in range(draws)])
        counts = np.bincount(found * bins // n, minlength=bins)
        expected = np.bincount(np.arange(n) * bins // n, minlength=bins) * (draws / n)
        # 15 tests of level 1e-5; the keys are fixed, so the test fails in every run or in none.
        assert stats.chisquare(counts, expected).pvalue > 1e-5


def test_neighbours_are_separated():
    found = Permutation(70_000, 3)(np.arange(70_000))
    # The correlation of neighbours in a random permutation has standard deviation n ** -0.5 = 0.004.
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 5 * 70_000**-0.5


@pytest.mark.parametrize("counts", [[10], [3, 0, 5], [WINDOW], [WINDOW + 1], [70_000, 1, 1000, 0, 130_000], [1] * 500])
def test_every_row_comes_once(counts):
    order = RowOrder(np.array(counts), 5)
    pieces = [order(low, min(low + 5000, order.total)) for low in range(0, order.total, 5000)]
    types, rows = (np.concatenate(part) for part in zip(*pieces, strict=True))
    np.testing.assert_array_equal(np.bincount(types, minlength=len(counts)), counts)
    for number, count in enumerate(counts):
        np.testing.assert_array_equal(np.sort(rows[types == number]), np.arange(count))


def test_rows_beyond_a_window_are_mixed_from_everywhere():
    order = RowOrder(np.array([1_000_000]), 5)
    _, rows = order(0, WINDOW)
    # 128 chunks of 1,953: the mean of their places has a standard deviation of 0.289 / sqrt(128) = 0.026.
    assert abs(rows.mean() / 1_000_000 - 0.5) < 5 * 0.026
    assert len(np.unique(rows // 512)) == 128


def batches(order):
    return [order(position) for position in range(order.total)]


def test_minibatches_cover_an_epoch_once():
    counts = np.array([1000, 0, 37, 256, 3])
    order = BatchOrder([np.array([k]) for k in range(5)], counts, 64, 11)
    found = batches(order)
    assert all(len(np.unique(types)) == 1 for types, _ in found)
    seen = [(int(types[0]), row) for types, rows in found for row in rows.tolist()]
    assert len(seen) == len(set(seen)) == counts.sum()
    sizes = [len(rows) for types, rows in found if types[0] == 0]
    assert sorted(sizes) == [1000 % 64] + [64] * 15
    assert order.total == 16 + 1 + 4 + 1


def test_the_small_minibatch_stands_anywhere():
    counts = np.array([650])
    places = []
    for key in range(200):
        sizes = [len(rows) for _, rows in batches(BatchOrder([np.array([0])], counts, 64, key))]
        places.append(sizes.index(650 % 64))
    # 11 places; the mean of a uniform one is 5, with standard deviation 3.16 / sqrt(200) = 0.22.
    assert abs(np.mean(places) - 5.0) < 5 * 0.22


def test_groups_follow_each_other_in_proportion():
    counts = np.array([64_000, 16_000])
    order = BatchOrder([np.array([0]), np.array([1])], counts, 64, 3)
    first = np.array([types[0] for types, _ in batches(order)[:400]])
    # 400 of 1,250 minibatches drawn without replacement, a fifth of group 1: standard deviation 6.6.
    assert abs(np.sum(first == 1) - 80) < 5 * 6.6


def test_groups_of_several_types_are_mixed():
    counts = np.array([100, 50, 10, 200])
    order = BatchOrder([np.array([0, 2]), np.array([1, 3])], counts, 32, 3)
    seen = []
    for types, rows in batches(order):
        assert set(types.tolist()) <= {0, 2} or set(types.tolist()) <= {1, 3}
        seen += list(zip(types.tolist(), rows.tolist(), strict=True))
    assert len(seen) == len(set(seen)) == 360
