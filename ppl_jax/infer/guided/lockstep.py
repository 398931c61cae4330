"""Importance sampling under a network: executions in greenlets, side by side, whose draws are answered together."""

from __future__ import annotations

from collections import deque

import numpy as np

from ppl_jax.infer.guided.amortized_rejection import Loops, Steered
from ppl_jax.infer.guided.coverage import ENOUGH
from ppl_jax.infer.guided.evaluator import Evaluator
from ppl_jax.infer.guided.tasks import Task
from ppl_jax.language.trace import Trace
from ppl_jax.nn.network import Network
from ppl_jax.running.broken import FORGIVABLE, Broken, check_number
from ppl_jax.running.host import Job
from ppl_jax.running.progress import Progress
from ppl_jax.running.services import shares_stream
from ppl_jax.storage import TraceWriter
from ppl_jax.streams import counted_streams, streams


class Lockstep:
    """Runs executions side by side and answers their draws.

    Args:
      job: what to run.
      network: proposes.
      num_traces: executions 0 ... num_traces - 1.
      width: how many are on their way at once.
      loops: how rejection scopes are treated.
      broken: counts the executions that proposed values broke.
    """

    def __init__(self, job: Job, network: Network, num_traces: int, width: int, loops: Loops, broken: Broken):
        self._broken = broken
        self._job, self._network, self._loops = job, network, loops
        self._waiting = iter((counted_streams if shares_stream(job.model) else streams)(job.seed, 0, num_traces))
        self._width = min(width, num_traces)
        self._evaluator = Evaluator(network, job.observations, self._width)
        self._able: deque[Task[Steered]] = deque()  # those that can go on
        self._pending: list[Task[Steered]] = []  # those that wait for a proposal
        self._finished: dict[int, tuple[Trace, float] | None] = {}  # None where proposed values broke the execution
        self._written = 0
        self._unreported: list[float] = []  # log weights of traces that were written

    def run(self, writer: TraceWriter, progress: Progress) -> None:
        """All executions, written in their order."""
        try:
            for slot in range(self._width):
                self._begin(slot)
            self._advance_all(writer)
            self._report(progress)
            while self._pending:
                self._evaluator.answer([task.execution.asking for task in self._pending])
                self._able.extend(self._pending)
                self._pending.clear()
                self._advance_all(writer)
                self._report(progress)
            self._evaluator.coverage.conclude(self._written)
        finally:
            for task in (*self._pending, *self._able):
                task.end()
            for index in sorted(self._finished):  # an interrupted run keeps what was finished out of turn
                found = self._finished.pop(index)
                if found is not None:
                    writer.append(*found)

    def _begin(self, slot: int) -> None:
        """Begins the next execution, if there is one left, in a slot."""
        rng = next(self._waiting, None)
        if rng is None:
            return
        execution = Steered(rng, self._job, self._network, slot, self._evaluator, self._loops)
        self._able.append(Task(execution, execution.run))

    def _advance_all(self, writer: TraceWriter) -> None:
        """Runs all executions to their next pending draws, or to their ends."""
        while self._able:
            self._advance(self._able[0], writer)

    def _advance(self, task: Task[Steered], writer: TraceWriter) -> None:
        """Lets the first execution go on; at its end it is written, if it is its turn, and another takes its place.

        If it waits for another process it goes to the end of the queue, so that many processes compute together.
        """
        execution, failed = task.execution, False
        try:
            task.go_on()
            if task.done:
                check_number(execution.log_weight, execution)
        except FORGIVABLE as error:
            self._broken.forgive(error, execution, self._written - self._broken.number)
            failed = True
        self._able.popleft()
        if task.done:
            self._finished[execution.own.index] = None if failed else (task.result, execution.log_weight)
            self._write(writer)
            if self._written == ENOUGH:
                self._evaluator.coverage.check()
            self._begin(execution.slot)
        elif task.waits:
            self._able.append(task)
        else:
            self._pending.append(task)

    def _write(self, writer: TraceWriter) -> None:
        """Writes what is finished and has its turn, as soon as it has: a trace is thousands of objects, a row is none.

        The objects of many executions together would live until Python's garbage collector looks at them again and
        again, and at all others of the process.
        """
        while self._written in self._finished:
            found = self._finished.pop(self._written)
            self._written += 1
            if found is None:
                continue
            trace, log_weight = found
            writer.append(trace, log_weight)
            self._unreported.append(log_weight)

    def _report(self, progress: Progress) -> None:
        """Shows what was written."""
        if self._unreported:
            progress.advance_weighted(np.array(self._unreported))
            self._unreported.clear()


def run_guided(
    job: Job,
    network: Network,
    num_traces: int,
    lockstep: int,
    loops: Loops,
    broken: Broken,
    writer: TraceWriter,
    progress: Progress,
) -> None:
    """Executions 0 ... num_traces - 1 of a job under a network's proposals, written in order.

    Raises:
      NetworkError: the network was trained on other observations, or on another program.
      ModelError, ParameterError: the model failed, and not only at values that were proposed.
    """
    Lockstep(job, network, num_traces, lockstep, loops, broken).run(writer, progress)
