"""Reading tables: selections and columns."""

import numpy as np
import pytest
from stored_programs import assert_same_value, everything, gum, traces_of

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.storage import TraceWriter

OBSERVED = {"y": 0.25}


def table_of(traces, path=None):
    writer = TraceWriter(path)
    for trace in traces:
        writer.append(trace, 0.0)
    return writer.finish()[0]


@pytest.fixture(scope="module", params=["memory", "disk"])
def table(request, tmp_path_factory):
    path = None if request.param == "memory" else tmp_path_factory.mktemp("tables") / "table"
    return table_of(traces_of(everything, 60, OBSERVED), path)


@pytest.mark.parametrize(
    "index",
    [slice(5, 20), slice(None, None, -2), slice(50, 100), [3, -1, 3], [], np.arange(60) % 7 == 0, [True] * 60],
)
def test_selections_are_those_of_a_list(table, index):
    positions = np.arange(60)[index] if isinstance(index, slice) or len(index) else np.arange(0)
    expected = [table[k]["x"] for k in positions.tolist()]
    assert [trace["x"] for trace in table[index]] == expected


def test_negative_and_impossible_indices(table):
    assert table[-1]["x"] == table[59]["x"] and table[np.int64(-60)]["x"] == table[0]["x"]
    for index in (60, -61):
        with pytest.raises(IndexError):
            table[index]
    with pytest.raises(IndexError):
        table[[True, False]]


@pytest.mark.parametrize(
    ("name", "dtype", "shape"),
    [("count", np.int64, ()), ("coins", np.int64, (2, 2)), ("kind", np.int64, ()), ("x", np.float64, ()),
     ("twice", np.float64, ()), ("many", np.bool_, ()), ("y", np.float64, ())],
)  # fmt: skip
def test_columns_are_what_the_traces_hold(table, name, dtype, shape):
    assert len(table.layouts) > 1
    column = table.column(name)
    assert column.dtype == dtype and column.shape == (60, *shape)
    np.testing.assert_array_equal(column, [trace[name] for trace in table])
    np.testing.assert_array_equal(table[::-3].column(name), column[::-3])


def test_columns_of_occurrences(table):
    twice = table[table.having(("step", 2))]
    assert 0 < len(twice) < 60
    for key in ("step", ("step", 1), ("step", 2)):
        np.testing.assert_array_equal(twice.column(key), [trace[key] for trace in twice])
    assert twice.column("where")[0]["label"].startswith("step ")


def test_a_name_that_some_traces_lack(table):
    with pytest.raises(KeyError, match=r"of 60 traces have no site named 'step'\. Choose among .* occur: \['coins'"):
        table.column("step")
    assert not table.having("never").any()


def test_factors_have_no_values(table):
    assert table.column("pull") == [None] * 60


def test_results_that_are_no_numbers_are_a_list(table):
    assert_same_value(table.results()[7], table[7].result)


def test_results_of_one_shape_are_an_array():
    def model():
        x = ppl.sample(dist.Normal(np.zeros(2), 1.0))
        return np.outer(x, x)

    traces = traces_of(model, 20)
    np.testing.assert_array_equal(table_of(traces).results(), [trace.result for trace in traces])


def test_results_of_several_shapes_are_a_list():
    def model():
        return np.zeros(ppl.sample(dist.Poisson(2.0)))

    found = table_of(traces_of(model, 20)).results()
    assert isinstance(found, list) and len({len(result) for result in found}) > 1


def test_columns_of_mixed_types_are_promoted():
    def model():
        x = ppl.sample(dist.Bernoulli(0.5))
        ppl.tag(x if x else 0.5, name="tagged")

    column = table_of(traces_of(model, 20)).column("tagged")
    assert column.dtype == np.float64 and set(column) == {0.5, 1.0}


def test_a_discrete_site_given_a_fraction_keeps_it():
    def model():
        ppl.observe(dist.Poisson(2.0), name="n")
        ppl.observe(dist.Poisson(np.array([2.0, 3.0])), name="m")

    table = table_of(traces_of(model, 2, {"n": 1.5, "m": np.array([0.5, 1.0])}))
    assert table.column("n").tolist() == [1.5, 1.5] and table[0]["n"] == 1.5
    assert table.column("m").tolist() == [[0.5, 1.0]] * 2 and table[0]["m"].tolist() == [0.5, 1.0]


def test_memory_of_a_million_traces():
    """A row of the three-site program is 11 floats, an entry 20 bytes: 108 MB a million; held here to 10^5."""
    writer = TraceWriter()
    table, log_weights = table_of(traces_of(gum, 100)), np.zeros(100)
    for _ in range(1000):
        writer.extend(table, log_weights)
    table, log_weights = writer.finish()
    assert len(table) == 100_000
    assert table.heap.nbytes + table.starts.nbytes + table.kinds.nbytes + log_weights.nbytes == 100_000 * 108
    assert table.column("mu").shape == (100_000,)
