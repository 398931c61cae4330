"""Running a model into a dataset: executions that are not there yet, by several processes, each into its own shard."""

from __future__ import annotations

import fcntl
import os
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppl_jax.data.blocks import Run
from ppl_jax.data.dataset import Dataset, open_dataset
from ppl_jax.data.folder import create
from ppl_jax.data.writer import BLOCK_TRACES, ShardWriter
from ppl_jax.errors import InterruptedRunWarning, PPLError, StorageError
from ppl_jax.running.background import block_executions
from ppl_jax.running.execution import Execution, execute, handlers_in_force
from ppl_jax.running.forked import run_forked
from ppl_jax.running.services import TableAndWeights, check_workers
from ppl_jax.storage import TraceTable, TraceWriter
from ppl_jax.streams import check_seed, streams
from ppx.streams import BATCH

HOST, DEVICE = "host", "jax"
_DEVICE_BLOCK = 1 << 16
_EVERY = BATCH  # executions between two reports of progress
_ROUNDING = 2e-3  # relative, of numbers that were stored in a format asked for
_SMALLEST = 2.0**-24  # the smallest number of half precision; below half of it there is only zero


class Source(NamedTuple):
    """What makes the traces of a run."""

    name: str
    model: Callable[[], Any]
    ambient: tuple
    seed: int
    batch_model: Any
    dtypes: Mapping[str, str] | None
    block_traces: int


def save_dataset(
    model: Callable[[], Any],
    path: str | Path,
    num_traces: int = 1000,
    *,
    seed: int | None = 0,
    start: int = 0,
    backend: str = "auto",
    num_workers: int = 1,
    dtypes: Mapping[str, str] | None = None,
    block_traces: int = BLOCK_TRACES,
    progress: bool = True,
) -> Dataset:
    """Runs the model forward and keeps the traces on disk: executions ``start ... start + num_traces - 1`` of a seed.

    Executions that the dataset already holds are not run again: to go on after an interruption, or to have more
    traces, call it once more. What is in a finished block is never lost; a block is finished when it is full, ten
    seconds old, or the run ends, breaks off or is interrupted.

    Args:
      model: a callable without arguments.
      path: folder of the dataset; made if there is none. Other processes may write to it at the same time.
      num_traces: how many executions the dataset is to hold.
      seed: integer in [0, 2**64); None for a fresh one. Execution i depends on (seed, i) alone.
      start: number of the first execution; gives each of several computers its part.
      backend: "host", "jax" or "auto", see :func:`ppl_jax.prior`; "auto" goes on with what the seed was begun with.
      num_workers: processes among which host executions are divided; does not change the traces or their order.
      dtypes: name of a site -> "float32" or "float16", the format its numbers are stored in. Default: exactly.
      block_traces: most traces of a block.
      progress: whether to show a progress bar.

    Returns:
      The dataset. Ctrl-C returns what was finished, with an InterruptedRunWarning.

    Raises:
      ModelError: the model raised; ``finished`` is the dataset with the traces before.
      StorageError: the folder holds something else, or traces of another model or another version of this one; another
        process is writing the same executions; a trace holds what cannot be stored without pickle.
      UntraceableModelError: ``backend="jax"``, and JAX cannot trace the model.
    """
    from ppl_jax.running.checks import check_count, check_model
    from ppl_jax.running.progress import Progress  # engines read datasets, so this room must not need theirs

    path, seed = Path(path), check_seed(seed)
    count, first = check_count("num_traces", num_traces), check_count("start", start, 0)
    workers = check_count("num_workers", num_workers)
    model = check_model(model)
    check_workers(model, workers)
    create(path)
    with _reserved(path, seed, first, count):
        present = open_dataset(path)
        name, batch_model = _choose(backend, model, seed, count, present)
        source = Source(name, model, handlers_in_force(), seed, batch_model, dtypes, block_traces)
        _check_model(source, present)
        ranges = _missing(present, name, seed, first, first + count)
        with Progress(count, "trace", progress) as bar:
            bar.advance(count - sum(stop - low for low, stop in ranges))
            _produce(source, path, ranges, workers, bar.advance)
    dataset = open_dataset(path)
    for unmet in sorted(set(dtypes or ()) - set(dataset.names)):
        warnings.warn(
            f"dtypes has '{unmet}', but no site is named so: the names are {list(dataset.names)}. What was meant "
            "by it is stored exactly.",
            UserWarning,
            stacklevel=2,
        )
    return dataset


def _produce(
    source: Source, path: Path, ranges: list[tuple[int, int]], num_workers: int, report: Callable[[int], None]
) -> None:
    try:
        if num_workers == 1 or source.name == DEVICE or sum(stop - low for low, stop in ranges) < 2:
            _write(source, path, ranges, report)
        else:
            parts = _divide(ranges, num_workers)
            failed = run_forked([partial(_write, source, path, part) for part in parts], report)
            # What raised there raises here again, so that the exception is the genuine one.
            for part in parts[failed[0] :] + parts[: failed[0]] if failed else ():
                present = open_dataset(path)
                rest = [gap for low, stop in part for gap in _missing(present, source.name, source.seed, low, stop)]
                _write(source, path, rest, report)
    except KeyboardInterrupt:
        finished = open_dataset(path)
        if len(finished) == 0:
            raise
        warnings.warn(
            f"Interrupted: {path} holds the {len(finished)} traces that were finished. Call save_dataset again to go "
            "on.",
            InterruptedRunWarning,
            stacklevel=3,
        )
    except PPLError as error:
        with suppress(StorageError):
            error.finished = open_dataset(path)
        raise


def _write(source: Source, path: Path, ranges: list[tuple[int, int]], report: Callable[[int], None]) -> None:
    """Runs the executions of some ranges and writes them to one shard; what is finished is kept whatever happens."""
    with ShardWriter(path, dtypes=source.dtypes, block_traces=source.block_traces) as writer:
        for first, stop in ranges:
            blocks = _blocks(source, first, stop)
            if blocks is not None:
                position = first
                with closing(blocks):
                    for table, log_weights in blocks:
                        writer.extend(table, log_weights, Run(source.name, source.seed, position))
                        position += len(table)
                        report(len(table))
                continue
            for low in range(first, stop, _EVERY):
                for rng in streams(source.seed, low, min(low + _EVERY, stop)):
                    execution = Execution(rng)
                    trace = execute(execution, source.model, source.ambient)
                    writer.append(trace, execution.log_weight, Run(HOST, source.seed, rng.index))
                report(min(_EVERY, stop - low))


def _blocks(source: Source, first: int, stop: int) -> Generator[TableAndWeights, None, None] | None:
    """Executions first ... stop - 1 in blocks, where the device or the model itself performs them; else None."""
    if source.name == DEVICE:
        return (
            source.batch_model.run(source.seed, low, min(low + _DEVICE_BLOCK, stop))
            for low in range(first, stop, _DEVICE_BLOCK)
        )
    return block_executions(source.model, source.ambient, source.seed, first, stop)


def _execute(source: Source, index: int, writer: TraceWriter) -> TraceTable:
    """One execution by itself."""
    blocks = _blocks(source, index, index + 1)
    if blocks is not None:
        with closing(blocks):
            return next(blocks)[0]
    execution = Execution(next(streams(source.seed, index, index + 1)))
    writer.append(execute(execution, source.model, source.ambient), execution.log_weight)
    return writer.finish()[0]


# -- which executions --------------------------------------------------------------------------------------------------


def _missing(present: Dataset, name: str, seed: int, first: int, stop: int) -> list[tuple[int, int]]:
    """The parts of a range of executions that a dataset does not hold."""
    missing = []
    for low, high in present.ranges(name, seed):
        if low >= stop:
            break
        if high > first:
            if low > first:
                missing.append((first, low))
            first = high
    if first < stop:
        missing.append((first, stop))
    return missing


def _divide(ranges: list[tuple[int, int]], parts: int) -> list[list[tuple[int, int]]]:
    """The same executions in so many parts of equal size, each of neighbouring ones; none is empty."""
    total = sum(stop - low for low, stop in ranges)
    bounds = [total * number // parts for number in range(parts + 1)]
    divided: list[list[tuple[int, int]]] = []
    for begin, end in pairwise(bounds):
        part, position = [], 0
        for low, stop in ranges:
            first, last = max(low, low + begin - position), min(stop, low + end - position)
            if first < last:
                part.append((first, last))
            position += stop - low
        if part:
            divided.append(part)
    return divided


@contextmanager
def _reserved(path: Path, seed: int, first: int, count: int) -> Iterator[None]:
    """Nobody else writes these executions: the bytes of their numbers are locked in a file that stays empty.

    Raises:
      StorageError: another process has some of them.
    """
    with open(path / f".seed-{seed}.lock", "ab") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, count, first, os.SEEK_SET)
        except OSError as error:
            raise StorageError(
                f"Another process is writing executions of seed {seed} between {first} and {first + count - 1} to "
                f"{path}. Wait for it, give each process its own range with start=..., or its own seed."
            ) from error
        yield


# -- is it the same model ----------------------------------------------------------------------------------------------


def _choose(backend: str, model: Callable[[], Any], seed: int, count: int, present: Dataset) -> tuple[str, Any]:
    """The name of the backend and, for the device, the compiled model."""
    from ppl_jax.running.backends import choose_backend
    from ppl_jax.running.host import Job

    begun = {name for name in (HOST, DEVICE) if present.ranges(name, seed)}
    if backend == "auto" and len(begun) == 1:
        backend = begun.pop()
    job = Job(model, {}, False, 1.0, handlers_in_force(), seed)
    batch_model = choose_backend(backend, job, count)
    return (HOST, None) if batch_model is None else (DEVICE, batch_model)


def _check_model(source: Source, present: Dataset) -> None:
    """Runs one execution that the dataset holds again: it must give the same trace.

    Raises:
      StorageError: it does not.
    """
    for place, run in present.run_starts():
        if run.source != source.name:
            continue
        table = present.take([place])
        again = _execute(source._replace(seed=run.seed), run.start, TraceWriter())
        if not _is_same(table, again, exact=not source.dtypes):
            raise StorageError(
                f"{present.path} was made with another model, or another version of it: execution {run.start} of seed "
                f"{run.seed} is {table[0]!r} there, but {again[0]!r} now. Give a new folder. (If the model was not "
                "changed, it draws random numbers that ppl_jax knows nothing of.)"
            )
        return


def _is_same(first: TraceTable, second: TraceTable, exact: bool) -> bool:
    one, other = (table.layouts[int(table.kinds[0])] for table in (first, second))
    if one.key != other.key:
        return False
    numbers, others = (
        np.delete(table.heap[int(table.starts[0]) :][: one.width], one.object_places) for table in (first, second)
    )
    rtol, atol = (0.0, 0.0) if exact else (_ROUNDING, _SMALLEST)
    return bool(np.allclose(numbers, others, rtol=rtol, atol=atol, equal_nan=True))
