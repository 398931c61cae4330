"""Traces made while they are consumed, by processes in the background: training data that never repeats."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, nullcontext
from types import TracebackType
from typing import Any

import numpy as np

from ppl_jax.running.execution import Execution, execute, handlers_in_force
from ppl_jax.running.services import Request, TableAndWeights, check_workers, innermost
from ppl_jax.storage import TraceTable, TraceWriter
from ppl_jax.streams import check_seed, streams

BLOCK = 4096


def block_executions(
    model: Any, ambient: tuple, seed: int, first: int, stop: int
) -> Generator[TableAndWeights, None, None] | None:
    """Executions first ... stop - 1 of a prior run in blocks, if the model performs them by itself; else None."""
    offered = getattr(model, "executions", None)
    if offered is None or ambient:
        return None
    blocks: Generator[TableAndWeights, None, None] | None = offered(Request(seed, {}, score=False), first, stop)
    return blocks


class OnlineTraces(Iterator[TraceTable]):
    """An endless iterator of tables of traces of the joint distribution of latents and simulated data.

    Table k holds executions k * block_size ... (k + 1) * block_size - 1 of the seed, whatever the number of workers,
    and comes k-th. Workers are processes that start with the first table; each is at most one table ahead. A context
    manager: they end when it is left, or by ``close()``, and with this process.

    Args:
      model: a callable without arguments; one with processes of its own, such as a RemoteModel, has no other workers,
        and makes each table when it is asked for.
      seed: integer in [0, 2**64); None for a fresh one.
      num_workers: processes.
      block_size: traces of a table.
      start: number of the first table to give.

    Raises:
      ModelError: the model raised. The tables before come first; nothing comes after.

    Attributes:
      seed: the seed.
      position: number of the next table; to go on later, give it as ``start``.
    """

    def __init__(
        self,
        model: Callable[[], Any],
        *,
        seed: int | None = 0,
        num_workers: int = 1,
        block_size: int = BLOCK,
        start: int = 0,
    ):
        from ppl_jax.running.checks import (  # engines read datasets: this room must not need theirs
            check_count,
            check_model,
        )

        num_workers = check_count("num_workers", num_workers)
        self._size = check_count("block_size", block_size)
        self.position = check_count("start", start, 0)
        self._model, self._ambient = check_model(model), handlers_in_force()
        check_workers(self._model, num_workers)
        self.seed = check_seed(seed)
        self._tables = self._run(num_workers)

    def _run(self, num_workers: int) -> Iterator[TraceTable]:
        from ppl_jax.running.workers import in_background  # engines read datasets, so this room must not need theirs

        numbers = range(self.position, sys.maxsize)
        forkable = getattr(innermost(self._model), "forkable", True)
        blocks: Any = in_background(self._block, numbers, num_workers) if forkable else map(self._block, numbers)
        with closing(blocks) if forkable else nullcontext():
            for table, _ in blocks:
                self.position += 1
                yield table

    def _block(self, number: int) -> tuple[TraceTable, np.ndarray]:
        writer = TraceWriter()
        first, stop = number * self._size, (number + 1) * self._size
        blocks = block_executions(self._model, self._ambient, self.seed, first, stop)
        if blocks is not None:
            with closing(blocks):
                for table, log_weights in blocks:
                    writer.extend(table, log_weights)
            return writer.finish()
        for rng in streams(self.seed, first, stop):
            execution = Execution(rng)
            trace = execute(execution, self._model, self._ambient)
            writer.append(trace, execution.log_weight)
        return writer.finish()

    def __next__(self) -> TraceTable:
        return next(self._tables)

    def close(self) -> None:
        """Ends the workers; traces that were not taken are lost, and made again when another iterator goes on."""
        self._tables.close()  # type: ignore[attr-defined]

    def __enter__(self) -> OnlineTraces:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
