"""What goes into a table comes out of it: values, types and shapes."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from stored_programs import assert_same_value

from ppl_jax.errors import StorageError
from ppl_jax.storage.templates import flatten, object_places, size, unflatten

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | hnp.arrays(st.sampled_from([np.float64, np.float32, np.int64, np.uint8, np.uint64, np.bool_]),
                 hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3))
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


def round_trip(value):
    leaves, objects = [], []

    def keep(kept):
        objects.append(kept)
        return len(objects) - 1

    template = flatten(value, leaves, keep)
    assert hash(template) is not None and size(template) == len(leaves)
    assert [int(leaves[place]) for place in object_places(template)] == list(range(len(objects)))
    return unflatten(template, np.array(leaves), objects)


@given(VALUES)
def test_values_survive(value):
    assert_same_value(round_trip(value), value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(2.5), 2.5),
        (np.float32(0.5), 0.5),
        (np.int32(7), 7),
        (np.bool_(True), True),
        (np.array(3.0), 3.0),
        (np.array(True), True),
        (np.str_("text"), "text"),
        (np.uint64(2**64 - 1), 2**64 - 1),
    ],
)
def test_numpy_scalars_become_python_values(value, expected):
    assert_same_value(round_trip(value), expected)


def test_jax_arrays_become_numpy():
    import jax.numpy as jnp

    assert_same_value(round_trip(jnp.float32(1.5)), 1.5)
    assert_same_value(round_trip(jnp.arange(3, dtype=jnp.int32)), np.arange(3, dtype=np.int32))


def test_foreign_objects_are_kept_or_refused():
    thing = object()
    assert round_trip((1.0, thing))[1] is thing

    def refuse(value):
        raise StorageError("no")

    with pytest.raises(StorageError):
        flatten(thing, [], refuse)
