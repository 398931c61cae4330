"""Traces written to a table, in memory and on disk, and read back."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from stored_programs import DATA, assert_same_trace, everything, gum, trace_of, traces_of

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.errors import StorageError
from ppl_jax.storage import TraceWriter, open_table, writer
from ppl_jax.storage.densities import log_joint

OBSERVED = {"y": 0.25}


@pytest.fixture(params=["memory", "disk"])
def path(request, tmp_path):
    return None if request.param == "memory" else tmp_path / "table"


def write(traces, path=None):
    written = TraceWriter(path)
    for k, trace in enumerate(traces):
        written.append(trace, -float(k))
    assert len(written) == len(traces)
    return written.finish()


def test_traces_survive(path):
    traces = traces_of(everything, 60, OBSERVED)
    table, log_weights = write(traces, path)
    np.testing.assert_array_equal(log_weights, -np.arange(60.0))
    assert len(table) == 60
    for found, expected in zip(table, traces, strict=True):
        assert_same_trace(found, expected)
        assert found["twice"] == expected["twice"] and found["many"] == expected["many"]
        if "where" in expected:
            assert found["where", 1] == expected["where", 1] == {"step": 0, "label": "step 0"}
        assert ("where" in found) == ("where" in expected)


def test_strings_make_no_layouts_of_their_own(path):
    def model():
        x = ppl.sample(dist.Normal(0.0, 1.0))
        return f"drew {x}"

    table, _ = write(traces_of(model, 50), path)
    assert len(table.layouts) == 1
    assert len(set(table.results())) == 50


def test_structures_that_were_forgotten_are_recognised(path, monkeypatch):
    traces = traces_of(everything, 60, OBSERVED)
    expected = [layout.key for layout in write(traces)[0].layouts]
    monkeypatch.setattr(writer, "_KNOWN_TOKENS", 1)
    table, _ = write(traces, path)
    assert len(expected) > 2 and [layout.key for layout in table.layouts] == expected


def test_proposals_and_conditioned_sites_survive(path):
    trace = trace_of(gum)
    trace.sites[0].proposal = dist.Normal(7.0, 1.0)
    conditioned = trace_of(gum, data={**DATA, "mu": 7.5})
    table, _ = write([trace, conditioned, trace_of(gum)], path)
    assert table[0].sites[0].proposal == dist.Normal(7.0, 1.0)
    assert table[1].sites[0].observed and not table[2].sites[0].observed
    assert len(table.layouts) == 3


VALUES = [
    (np.float64(1.5), 1.5), (np.float32(1.5), 1.5), (np.array(1.5), 1.5), (3, 3.0), (True, 1.0), (np.int64(2), 2.0),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), VALUES)
def test_drawn_values_that_are_no_floats(value, expected, path):
    trace = trace_of(gum)
    trace.sites[0].value = value
    table, _ = write([trace], path)
    assert table[0]["mu"] == expected and type(table[0]["mu"]) is float
    assert table[0].sites[1].value == 8.0


def test_drawn_jax_value(path):
    import jax.numpy as jnp

    trace = trace_of(gum)
    trace.sites[0].value = jnp.float32(1.5)
    assert write([trace], path)[0].column("mu")[0] == 1.5


@pytest.mark.parametrize("data", [np.array([1, 0, 1]), np.array([True, False, True]), [1.0, 0.0, 1.0]])
def test_observed_arrays_of_integers_and_booleans(data, path):
    def model():
        ppl.observe(dist.Bernoulli(np.full(3, 0.5)), name="y")
        ppl.observe(dist.Normal(np.zeros(0), 1.0), np.zeros(0), name="nothing")

    table, _ = write(traces_of(model, 2, {"y": data}), path)
    found = table[0]["y"]
    assert found.dtype == np.int64 and found.tolist() == [1, 0, 1]
    assert table[0]["nothing"].shape == (0,)
    assert table.column("nothing").shape == (2, 0)


def test_a_value_whose_shape_is_not_the_distributions(path):
    trace = trace_of(gum)
    trace.sites[0].value = np.array([1.0, 2.0])
    table, _ = write([trace, trace_of(gum, 1)], path)
    assert table[0]["mu"].tolist() == [1.0, 2.0] and table[0]["obs0"] == 8.0 and table[1]["obs1"] == 9.0


def test_a_drawn_value_that_is_no_number_is_refused(path):
    trace = trace_of(gum)
    for value in ("text", 1j, np.array([1j])):
        trace.sites[0].value = value
        with pytest.raises(StorageError, match="sample site 'mu'"):
            TraceWriter(path and path / str(type(value))).append(trace, 0.0)


def test_a_distribution_of_an_unknown_family_is_refused(path):
    class Mine(dist.Normal):
        pass

    trace = trace_of(gum)
    trace.sites[0].distribution = Mine(0.0, 1.0)
    with pytest.raises(StorageError, match="family 'Mine'"):
        TraceWriter(path).append(trace, 0.0)


def test_objects_stay_in_memory_and_are_refused_on_disk(tmp_path):
    def model():
        return [ppl.sample(dist.Normal(0.0, 1.0)), thing]

    thing = object()
    table, log_weights = write(traces_of(model, 3))
    assert table[2].result[1] is thing
    with pytest.raises(StorageError, match="object cannot be stored on disk without pickle"):
        table.check_storable()
    with pytest.raises(StorageError, match="object cannot be stored on disk without pickle"):
        write(traces_of(model, 1), tmp_path / "appended")
    with pytest.raises(StorageError, match="object cannot be stored on disk without pickle"):
        TraceWriter(tmp_path / "extended").extend(table, log_weights)
    writer = TraceWriter()
    writer.append(trace_of(lambda: "other"), 0.0)
    writer.extend(table[::-1], log_weights)
    joined, _ = writer.finish()
    assert joined[0].result == "other" and joined[3].result[1] is thing
    assert joined[1].result[0] == table[2].result[0]


def test_nothing_written(path):
    table, log_weights = TraceWriter(path).finish()
    assert len(table) == len(log_weights) == len(list(table)) == 0
    assert len(table.results()) == 0


# -- repeat and extend -----------------------------------------------------------------------------------------------


def test_repeated_traces_share_a_row(path):
    writer = TraceWriter(path)
    for k, trace in enumerate(traces_of(gum, 3)):
        writer.append(trace, float(k))
        writer.repeat(float(k))
    table, log_weights = writer.finish()
    assert log_weights.tolist() == [0, 0, 1, 1, 2, 2]
    assert len(table.heap) == 3 * table.layouts[0].width
    assert table[0]["mu"] == table[1]["mu"] != table[2]["mu"]


@pytest.mark.parametrize("source", ["memory", "disk"])
@pytest.mark.parametrize("selection", [slice(None), slice(None, None, -1), slice(3, 40, 3), [5, 5, 0, 7, 5]])
def test_extend(path, tmp_path, source, selection):
    traces = traces_of(everything, 50, OBSERVED)
    table, log_weights = write(traces, tmp_path / "source" if source == "disk" else None)
    own = trace_of(gum)
    writer = TraceWriter(path)
    writer.append(own, 1.0)
    writer.extend(table[selection], log_weights[selection])
    writer.repeat(2.0)
    writer.append(own, 3.0)
    joined, joined_weights = writer.finish()
    expected = [traces[k] for k in np.arange(50)[selection]]
    assert_same_trace(joined[0], own)
    assert_same_trace(joined[-1], own)
    assert len(joined) == len(expected) + 3
    for found, trace in zip(joined[1:-1], [*expected, expected[-1]], strict=True):
        assert_same_trace(found, trace)
    assert joined_weights.tolist() == [1.0, *log_weights[selection], 2.0, 3.0]
    assert len({layout.key for layout in joined.layouts}) == len(joined.layouts)


def test_extend_copies_shared_rows_once():
    writer = TraceWriter()
    for trace in traces_of(gum, 2):
        writer.append(trace, 0.0)
        writer.repeat(0.0)
    table, log_weights = writer.finish()
    target = TraceWriter()
    target.extend(table, log_weights)
    target.extend(table[:0], log_weights[:0])
    joined, _ = target.finish()
    assert len(joined.heap) == len(table.heap) and len(joined) == 4


def test_extend_wants_one_weight_per_trace():
    table, log_weights = write(traces_of(gum, 3))
    with pytest.raises(StorageError, match="3 traces must be appended with as many log weights, got 2"):
        TraceWriter().extend(table, log_weights[:2])


# -- what a run leaves behind that was stopped -----------------------------------------------------------------------


def test_traces_of_a_slow_simulator_are_on_disk_before_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("ppl_jax.storage.writer._FLUSH_AFTER", 0.0)
    writer = TraceWriter(tmp_path / "table")
    for k, trace in enumerate(traces_of(everything, 5, OBSERVED)):
        writer.append(trace, 0.0)
        assert len(open_table(tmp_path / "table")[0]) == k + 1


def test_a_write_that_was_interrupted_is_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr("ppl_jax.storage.writer._FLUSH_AT", 100)
    writer, traces = TraceWriter(tmp_path / "table"), traces_of(everything, 40, OBSERVED)
    index_file, write_index = writer._folder._index, writer._folder._index.write

    def interrupted(position, data):
        monkeypatch.setattr(index_file, "write", write_index)
        raise KeyboardInterrupt

    for k, trace in enumerate(traces):
        if k == 17:
            monkeypatch.setattr(index_file, "write", interrupted)
        try:
            writer.append(trace, 0.0)
        except KeyboardInterrupt:
            assert k >= 17
    table, _ = writer.finish()
    assert len(table) == 40
    for found, expected in zip(table, traces, strict=True):
        assert_same_trace(found, expected)


def test_an_append_that_failed_leaves_the_others_whole(path):
    traces = traces_of(gum, 3)
    broken = trace_of(gum)
    broken.sites[2].value = "text"
    writer = TraceWriter(path)
    writer.append(traces[0], 0.0)
    with pytest.raises(StorageError):
        writer.append(broken, 0.0)
    writer.append(traces[1], 0.0)
    table, _ = writer.finish()
    assert_same_trace(table[0], traces[0])
    assert_same_trace(table[1], traces[1])


# -- densities, threads ----------------------------------------------------------------------------------------------


def test_log_joint_is_that_of_the_traces(path):
    traces = traces_of(everything, 40, OBSERVED) + traces_of(gum, 10)
    table, _ = write(traces, path)
    np.testing.assert_allclose(log_joint(table), [trace.log_joint for trace in traces], rtol=1e-12)


def test_threads_read_one_table():
    traces = traces_of(everything, 100, OBSERVED)
    table, _ = write(traces)
    expected = sum(trace["x"] for trace in traces)
    with ThreadPoolExecutor(8) as pool:
        totals = list(pool.map(lambda _: sum(trace["x"] + 0 * len(trace.sites) for trace in table), range(16)))
    assert totals == pytest.approx([expected] * 16)


def interrupt_at(line_number):
    """A trace function that presses Ctrl-C before the given line of ``_add_entry``, counted from 0."""
    count = 0

    def lines(frame, event, argument):
        nonlocal count
        if event == "line":
            count += 1
            if count == line_number + 1:
                sys.settrace(None)
                raise KeyboardInterrupt
        return lines

    return lambda frame, event, argument: lines if frame.f_code.co_name == "_add_entry" else None


@pytest.mark.parametrize("line", range(6))
def test_an_entry_that_ctrl_c_left_unfinished_shifts_no_other(line, path):
    """What is appended afterwards keeps its own row and weight."""
    traces = traces_of(gum, 4)
    written = TraceWriter(path)
    written.append(traces[0], 0.0)
    before = sys.gettrace()
    sys.settrace(interrupt_at(line))
    try:
        with pytest.raises(KeyboardInterrupt):
            written.append(traces[1], 1.0)
    finally:
        sys.settrace(before)
    written.append(traces[2], 2.0)
    written.append(traces[3], 3.0)
    table, log_weights = written.finish()
    assert log_weights.tolist() == [0.0, 2.0, 3.0]
    for found, expected in zip(table, [traces[0], traces[2], traces[3]], strict=True):
        assert_same_trace(found, expected)
