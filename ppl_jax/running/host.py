"""Blocks of independent executions on the host, in this process or in several."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np

from ppl_jax.running.broken import FORGIVABLE, Broken, check_number
from ppl_jax.running.checks import LOOK_EARLY, warn_of_unmet_names
from ppl_jax.running.execution import Execution, execute
from ppl_jax.running.progress import Due, Progress, Tally
from ppl_jax.running.services import Request, TableAndWeights, check_workers, executions
from ppl_jax.running.workers import run_in_order, worked
from ppl_jax.storage import TraceTable, TraceWriter
from ppl_jax.streams import streams
from ppx.streams import BATCH

PER_TASK = 4 * BATCH  # executions that one process does before another takes over, at the most
TASK_SECONDS = 1.0  # for which it does, of a slow model: so long the others may wait at the end


class Job(NamedTuple):
    """Everything an independent execution depends on, its number apart."""

    model: Callable[[], Any]
    observations: Mapping[str, Any]
    score: bool
    likelihood_importance: float
    ambient: tuple
    seed: int


def run_on_host(
    job: Job, num_traces: int, num_workers: int, writer: TraceWriter, progress: Progress, broken: Broken | None = None
) -> None:
    """Executions 0 ... num_traces - 1 of a job, written in order; ``broken``, if given, forgives some their errors."""
    check_workers(job.model, num_workers)
    request = Request(job.seed, job.observations, job.score, job.likelihood_importance)
    blocks = executions(job.model, job.ambient, request, num_traces)
    if blocks is not None:
        _write_blocks(job, blocks, writer, progress)
        return
    first = time.monotonic()
    early = _write_early(job, num_traces, num_workers, writer, progress, broken)
    each = (time.monotonic() - first) / max(1, early)
    if num_workers == 1:
        _write_each(job, early, num_traces, writer, progress, broken)
        return

    here, tally = os.getpid(), Tally(num_workers, progress)
    per_task = max(1, min(PER_TASK, int(TASK_SECONDS / max(each, 1e-9))))

    def task(k: int) -> tuple[TraceTable, np.ndarray]:
        start = early + k * per_task
        # What fails in another process is done again in this one, where what is to be forgiven is counted.
        forgiving = broken if os.getpid() == here else None

        def work(part: TraceWriter) -> None:
            for rng in streams(job.seed, start, min(start + per_task, num_traces)):
                write_execution(job, rng, part, False, forgiving)
                if os.getpid() != here:
                    tally.count(k % num_workers, 1)

        return worked(work, here, writer)

    def receive(table: TraceTable, log_weights: np.ndarray) -> None:
        writer.extend(table, log_weights)
        tally.show(progress.weighed(log_weights))

    run_in_order(task, -(-(num_traces - early) // per_task), num_workers, receive, tally.show)


def _write_early(
    job: Job, num_traces: int, num_workers: int, writer: TraceWriter, progress: Progress, broken: Broken | None
) -> int:
    """The first executions, from which it is seen whether the data's names are met and how long one takes.

    Returns:
      How many: ``LOOK_EARLY`` where there are data and more executions than that, fewer of a slow model with workers.
    """
    early = LOOK_EARLY if job.observations and num_traces > LOOK_EARLY else min(1, num_traces) if num_workers > 1 else 0
    names: list[set[str]] = []
    begun = time.monotonic()
    for rng in streams(job.seed, 0, early):
        names.append(write_execution(job, rng, writer, True, broken))
        progress.advance(1)
        if num_workers > 1 and time.monotonic() - begun > TASK_SECONDS:
            break
    if job.observations and num_traces > LOOK_EARLY:
        warn_of_unmet_names(job.observations, names)
    return len(names)


def _write_each(
    job: Job, start: int, stop: int, writer: TraceWriter, progress: Progress, broken: Broken | None
) -> None:
    """Executions start ... stop - 1 in this process."""
    done: list[float] = []
    due = Due()
    for low in range(start, stop, BATCH):
        for rng in streams(job.seed, low, min(low + BATCH, stop)):
            done.append(write_execution(job, rng, writer, False, broken))
            if due():
                progress.advance_weighted(np.array(done))
                done.clear()
    progress.advance_weighted(np.array(done))


def _write_blocks(job: Job, blocks: Iterator[TableAndWeights], writer: TraceWriter, progress: Progress) -> None:
    """Writes executions that the model performs by itself."""
    names: list[set[str]] = []
    wanted = LOOK_EARLY if job.observations else 0
    with closing(blocks):  # type: ignore[type-var]
        for table, log_weights in blocks:
            writer.extend(table, log_weights)
            progress.advance_weighted(log_weights)
            if len(names) < wanted:
                layouts = [{site.name for site in layout.sites if site.name} for layout in table.layouts]
                names += [layouts[kind] for kind in table.kinds[: wanted - len(names)].tolist()]
                if len(names) == wanted:
                    warn_of_unmet_names(job.observations, names)


def write_execution(job: Job, rng: Any, writer: TraceWriter, named: bool = False, broken: Broken | None = None) -> Any:
    """Runs the model once and stores the trace; returns its log weight, or with ``named`` the names it met.

    One that a proposed value broke has weight zero, and is not stored, where ``broken`` counts them.
    """
    execution = Execution(rng, job.observations, job.score, job.likelihood_importance)
    log_weight = -math.inf
    try:
        trace = execute(execution, job.model, job.ambient)
        if broken is not None:
            check_number(execution.log_weight, execution)
        log_weight = execution.log_weight
        writer.append(trace, log_weight)
    except FORGIVABLE as error:
        if broken is None:
            raise
        broken.forgive(error, execution, rng.index - broken.number)
    return {site.name for site in execution.sites if site.name} if named else log_weight
