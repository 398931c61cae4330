"""Where a training takes its traces from: a model that is run, or traces that are kept.

A source gives the minibatch of step k as a function of its seed and k alone, so that a training that was interrupted
goes on with the traces it would have met.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any, Protocol

import numpy as np
from greenlet import getcurrent, greenlet

from ppl_jax.empirical import Empirical
from ppl_jax.running.backends import choose_backend
from ppl_jax.running.checks import callers_level, check_count, check_model
from ppl_jax.running.execution import handlers_in_force
from ppl_jax.running.host import Job, write_execution
from ppl_jax.running.progress import Progress
from ppl_jax.running.services import Request, check_workers
from ppl_jax.running.workers import run_in_order
from ppl_jax.storage import TraceTable, TraceWriter
from ppl_jax.streams import streams

_PART = 64  # traces held out that are made before they are reported


class Source(Protocol):
    """What a training needs of its traces."""

    def look(self, number: int) -> TraceTable:
        """A few of the traces, before training."""

    def tables(self, size: int, first: int, stop: int, total: int) -> Iterator[TraceTable]:
        """The minibatches of steps ``first`` ... ``stop - 1``: ``size`` traces each, ``total`` in all steps."""


class ModelSource:
    """Traces from running a model: step k has executions k * size ... (k + 1) * size - 1 of a seed.

    Args:
      job: what to run.
      num_workers: processes that run it, ahead of the training.
      batch_model: the model compiled by JAX, None to run it on the host.
    """

    def __init__(self, job: Job, num_workers: int = 1, batch_model: Any = None):
        self._job = job
        self._num_workers = num_workers
        self._batch_model = batch_model

    def look(self, number: int) -> TraceTable:
        """The first ``number`` executions."""
        return next(self.tables(number, 0, 1, number))

    def tables(self, size: int, first: int, stop: int, total: int) -> Iterator[TraceTable]:
        """See Source."""
        start, end = first * size, min(stop * size, total)
        job = self._job
        offered = None if self._batch_model is not None else getattr(job.model, "executions", None)
        blocks = None
        if offered is not None and not job.ambient:  # a simulator that performs whole executions by itself
            blocks = offered(Request(job.seed, {}, score=False), start, end)
        if blocks is not None:
            with closing(blocks):
                yield from _divided(blocks, size)
            return

        def task(k: int) -> tuple[TraceTable, np.ndarray]:
            return self._run((first + k) * size, min((first + k + 1) * size, end))

        workers = self._num_workers if self._batch_model is None else 1
        yield from _as_iterator(partial(run_in_order, task, -(-(end - start) // size), workers))

    def _run(self, start: int, stop: int) -> tuple[TraceTable, np.ndarray]:
        if self._batch_model is not None:
            return self._batch_model.run(self._job.seed, start, stop)
        writer = TraceWriter()
        for rng in streams(self._job.seed, start, stop):
            write_execution(self._job, rng, writer)
        return writer.finish()


def _as_iterator(run: Callable[[Callable[..., None]], None]) -> Iterator[TraceTable]:
    """The tables that ``run(receive)`` hands to ``receive``, one at a time: between two of them it waits."""
    here = getcurrent()
    runner = greenlet(run)
    try:
        table = runner.switch(lambda table, log_weights: here.switch(table))
        while not runner.dead:
            yield table
            table = runner.switch()
    finally:
        if not runner.dead:
            runner.throw()


def _divided(blocks: Iterator[tuple[TraceTable, np.ndarray]], size: int) -> Iterator[TraceTable]:
    """Tables of ``size`` traces from blocks of any size, in order; the last may be smaller."""
    writer = TraceWriter()
    for table, log_weights in blocks:
        low = 0
        while low < len(table):
            high = min(len(table), low + size - len(writer))
            writer.extend(table[low:high], log_weights[low:high])
            low = high
            if len(writer) == size:
                yield writer.finish()[0]
                writer = TraceWriter()
    if len(writer):
        yield writer.finish()[0]


class TableSource:
    """Traces that are kept, in an order that is random in every round.

    Args:
      traces: has a length, and gives a TraceTable for an array of integers.
      seed: of the order.
    """

    def __init__(self, traces: Any, seed: int):
        self._traces = traces
        self._seed = seed

    def look(self, number: int) -> TraceTable:
        """Some of the traces, at random."""
        return self._traces[np.sort(self._order(0)[:number])]

    def tables(self, size: int, first: int, stop: int, total: int) -> Iterator[TraceTable]:
        """See Source."""
        count = len(self._traces)
        orders: dict[int, np.ndarray] = {}
        for step in range(first, stop):
            places = np.arange(step * size, min((step + 1) * size, total))
            rounds = places // count
            orders = {number: orders.get(number) for number in np.unique(rounds).tolist()}  # type: ignore[misc]
            index = np.empty(len(places), np.int64)
            for number in orders:
                if orders[number] is None:
                    orders[number] = self._order(number)
                inside = rounds == number
                index[inside] = orders[number][places[inside] % count]
            yield self._traces[index]

    def _order(self, number: int) -> np.ndarray:
        return np.random.Generator(np.random.Philox(key=self._seed, counter=number << 128)).permutation(
            len(self._traces)
        )


def source_of(
    model: Any,
    seed: int,
    validation_seed: int,
    num_validation: int,
    num_workers: int,
    backend: str,
    progress: bool = False,
) -> tuple[Source, TraceTable | None]:
    """The source of a training, and the traces held out.

    Args:
      model: a callable without arguments; or an Empirical, a TraceTable or a dataset, whose last traces (a tenth at
        most) are held out.
      seed, validation_seed: of the traces to train on, of those held out.
      num_validation: how many to hold out; 0 for none.
      num_workers, backend: see :func:`ppl_jax.train`.
      progress: whether to show how many of those held out are there, while they are made.

    Raises:
      TypeError: neither a model nor traces.
      ValueError: there are no traces.
    """
    num_validation = check_count("validation_traces", num_validation, 0)
    if isinstance(model, Empirical):
        model = _traces_of(model)
    if not callable(model) and hasattr(model, "__len__") and hasattr(model, "__getitem__"):
        count = len(model)
        if count == 0:
            raise ValueError("Training needs traces, and there are none here. Give a model, or traces of one.")
        held_out = min(num_validation, count // 10)
        kept = model if held_out == 0 else _Part(model, count - held_out)
        validation = model[np.arange(count - held_out, count)] if held_out else None
        return TableSource(kept, seed), validation
    if not callable(model):
        raise TypeError(
            f"train needs a callable model without arguments, a dataset, an Empirical or a TraceTable, got {model!r}."
        )
    job = Job(check_model(model), {}, False, 1.0, handlers_in_force(), seed)
    batch_model = choose_backend("host" if backend == "auto" else backend, job, math.inf)
    check_workers(job.model, check_count("num_workers", num_workers))
    source = ModelSource(job, num_workers, batch_model)
    if num_validation == 0:
        return source, None
    apart = ModelSource(job._replace(seed=validation_seed), 1, batch_model)
    if batch_model is not None:
        return source, apart.look(num_validation)
    with Progress(num_validation, "trace", progress) as bar:
        bar.say("traces to be held out")
        writer = TraceWriter()
        for table in apart.tables(_PART, 0, -(-num_validation // _PART), num_validation):
            writer.extend(table, np.zeros(len(table)))
            bar.advance(len(table))
        return source, writer.finish()[0]


def _traces_of(run: Empirical) -> TraceTable:
    """The traces of a run.

    Raises:
      TypeError: it holds something else.
    """
    if not isinstance(run.values, TraceTable):
        raise TypeError(
            f"train needs traces, but the values of {run!r} are something else. Give what an engine returned."
        )
    if run.has_log_evidence:
        warnings.warn(
            "These traces are weighted: they explain one set of data, and training takes each of them once, whatever "
            "its weight. A network learns from what the model simulates: train on the model, or on traces of prior.",
            UserWarning,
            stacklevel=callers_level(),
        )
    return run.values


class _Part:
    """The first traces of a collection."""

    def __init__(self, traces: Any, count: int):
        self._traces, self._count = traces, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        return self._traces[index]
