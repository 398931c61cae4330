"""Columns of numbers as bytes: every bit comes back, and what repeats costs nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppl_jax.data.encoding import (
    CONSTANT,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    FORMATS,
    INT16,
    INT32,
    SAME_AS,
    UINT8,
    Columns,
    encode,
    encoded_length,
    locate,
)
from ppl_jax.errors import StorageError


def columns_of_sizes(sizes):
    widths = np.array(sizes, dtype=np.int64)
    return Columns(np.cumsum(widths) - widths, widths, (), ())


def decode(codes, data, count, columns):
    """The numbers again, by the places that ``locate`` gives."""
    places = locate(np.zeros(1, np.int64), np.array([count]), np.array([len(codes)]), codes, columns.sizes)
    numbers = np.empty((count, int(columns.sizes.sum())))
    for column, (start, size) in enumerate(zip(columns.starts.tolist(), columns.sizes.tolist(), strict=True)):
        base, step, code = (int(array[column]) for array in places)
        for row in range(count):
            run = np.frombuffer(data, FORMATS[code], size, base + row * step)
            numbers[row, start : start + size] = run
    return numbers


def round_trip(numbers, sizes, requested=None):
    numbers = np.ascontiguousarray(numbers, dtype=np.float64)
    columns = columns_of_sizes(sizes)
    codes, data = encode(numbers, columns, requested or {}, "here")
    assert len(data) % 8 == 0 and len(data) == encoded_length(len(numbers), codes, columns.sizes)
    return codes, data, decode(codes, data, len(numbers), columns)


SPECIAL = [0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, -1.0, 255.0, 256.0, 2.0**31, 5e-324, 0.1, 1e300, 2.0**-140]
POOLS = [[0.5], [0.0, -0.0], [0.0, 200.0], [-3.0, 7.0], [1e5, 0.0], SPECIAL]


@st.composite
def groups(draw):
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=8))
    count = draw(st.integers(1, 40))
    pools = draw(st.lists(st.sampled_from(POOLS), min_size=1))
    cells = [draw(st.sampled_from(pools)) for _ in range(sum(sizes))]
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    numbers = np.stack([np.array(pool)[rng.integers(len(pool), size=count)] for pool in cells], axis=1)
    if draw(st.booleans()) and len(cells) > 1:
        numbers[:, -1] = numbers[:, 0]
    return numbers, sizes


@given(groups())
def test_every_bit_comes_back(group):
    numbers, sizes = group
    _, _, again = round_trip(numbers, sizes)
    np.testing.assert_array_equal(again.view(np.int64), np.ascontiguousarray(numbers).view(np.int64))


def test_a_nan_keeps_its_payload():
    odd = np.array([0x7FF8_0000_DEAD_BEEF, 0x3FF0_0000_0000_0000], dtype=np.uint64).view(np.float64)[:, None]
    _, _, again = round_trip(odd, [1])
    assert again.view(np.uint64)[0, 0] == 0x7FF8_0000_DEAD_BEEF


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ([3.0, 3.0, 3.0], CONSTANT),
        ([0.0, 1.0, 255.0], UINT8),
        ([0.0, -1.0, 300.0], INT16),
        ([0.0, -1.0, 40_000.0], INT32),
        ([0.5, 0.25, 1.0], FLOAT32),
        ([0.1, 0.2, 0.3], FLOAT64),
        ([0.0, -0.0, 1.0], FLOAT32),  # an integer would lose the sign
        ([0.0, 1.0, np.nan], FLOAT32),
        ([0.0, 1.0, 2.0**40], FLOAT32),
        ([0.0, 1.0, 2.0**40 + 1.0], FLOAT64),
    ],
)
def test_the_smallest_format_that_is_exact_is_chosen(values, code):
    codes, _, again = round_trip(np.array(values)[:, None], [1])
    assert codes.tolist() == [code]
    np.testing.assert_array_equal(again[:, 0], values)


def test_an_exception_far_down_the_column_is_seen():
    column = np.zeros((5000, 1))
    column[4999] = 0.1
    codes, _, again = round_trip(column, [1])
    assert codes.tolist() == [FLOAT64]
    np.testing.assert_array_equal(again, column)


def test_a_column_that_equals_an_earlier_one_costs_nothing():
    rng = np.random.default_rng(0)
    first, other = rng.normal(size=(50, 3)), rng.normal(size=(50, 1))
    numbers = np.concatenate([first, other, first, first], axis=1)
    codes, data, again = round_trip(numbers, [3, 1, 3, 3])
    assert codes.tolist() == [FLOAT64, FLOAT64, SAME_AS + 1, SAME_AS]
    assert len(data) == 8 * 50 * 4
    np.testing.assert_array_equal(again, numbers)


def test_columns_of_one_sum_are_not_taken_for_equal():
    numbers = np.array([[1.5, 2.5], [2.5, 1.5]])
    codes, _, again = round_trip(numbers, [1, 1])
    assert codes.max() < SAME_AS
    np.testing.assert_array_equal(again, numbers)


def test_an_equal_column_too_far_back_is_stored_again():
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(3, 300))
    numbers[:, 299] = numbers[:, 0]
    numbers[:, 200] = numbers[:, 0]
    codes, _, again = round_trip(numbers, [1] * 300)
    assert codes[200] == SAME_AS + 199 and codes[299] == SAME_AS + 98
    np.testing.assert_array_equal(again, numbers)


def test_a_requested_format_is_used_where_the_column_is_wider():
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(100, 3))
    numbers[:, 2] = np.arange(100.0)
    codes, _, again = round_trip(numbers, [1, 1, 1], {0: FLOAT32, 1: FLOAT16, 2: FLOAT32})
    assert codes.tolist() == [FLOAT32, FLOAT16, UINT8]
    np.testing.assert_array_equal(again[:, 0], numbers[:, 0].astype(np.float32))
    np.testing.assert_array_equal(again[:, 1], numbers[:, 1].astype(np.float16))


def test_a_number_too_large_for_the_requested_format_is_an_error():
    with pytest.raises(StorageError, match=r"here: the number 100000.* too large for float16"):
        round_trip(np.array([[0.1], [1e5 + 0.5]]), [1], {0: FLOAT16})
