"""Writing a shard: traces are held back until they make a block, which is written at once."""

from __future__ import annotations

import os
import secrets
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np

from ppl_jax.data.blocks import Run, Vocabulary, pack
from ppl_jax.data.encoding import check_dtypes
from ppl_jax.data.folder import add_to_manifest, create, entry_of, new_shard, read_manifest, settle_folder
from ppl_jax.data.frames import closing, frame, opening, scan
from ppl_jax.errors import StorageError
from ppl_jax.language.trace import Trace
from ppl_jax.storage import TraceTable, TraceWriter

BLOCK_TRACES = 1 << 16
BLOCK_BYTES = 1 << 25  # of rows in memory
WRITE_AFTER = 10.0  # seconds that a finished trace of a slow simulator may be held back


class ShardWriter:
    """Appends traces to a dataset, in a shard of its own; any number of processes may each have one.

    A context manager. A block that is written stays, whatever happens to the process.

    Args:
      folder: the dataset; it is made if there is none.
      dtypes: name of a site -> "float32" or "float16": stores its values and the numbers of its distribution in that
        format although it does not hold all of them exactly. Default: every number is stored exactly.
      block_traces: traces of a block.
    """

    def __init__(
        self, folder: str | Path, *, dtypes: Mapping[str, str] | None = None, block_traces: int = BLOCK_TRACES
    ):
        if not 1 <= block_traces <= 1 << 31:
            raise ValueError(f"block_traces must be between 1 and 2**31, got {block_traces!r}.")
        self._vocabulary = Vocabulary(check_dtypes(dtypes))
        self._folder = Path(folder)
        self._block_traces = block_traces
        self._identity = secrets.token_bytes(16)
        self._descriptor: int | None = None
        self._path = self._folder
        self._end, self._blocks, self._traces = 0, 0, 0
        self._held = TraceWriter()
        self._run: Run | None = None
        self._written_at = time.monotonic()
        create(self._folder)
        self._dataset = bytes.fromhex(read_manifest(self._folder).id)

    @property
    def path(self) -> Path:
        """The shard; the folder, as long as nothing was written."""
        return self._path

    def append(self, trace: Trace, log_weight: float, run: Run | None = None) -> None:
        """Appends a trace, and if ``run`` is given, says of which run it is which execution.

        Raises:
          StorageError: it holds what cannot be stored without pickle, or the disk is full.
        """
        self._continue(run)
        self._held.append(trace, log_weight)
        if self._is_due():
            self.flush()

    def extend(self, table: TraceTable, log_weights: np.ndarray, run: Run | None = None) -> None:
        """Appends all traces of a table, with log weights float64 (n,); ``run`` is that of the first."""
        if len(table) != len(log_weights):
            raise StorageError(
                f"{len(table)} traces must be appended with as many log weights, got {len(log_weights)}."
            )
        position = 0
        while position < len(table):
            here = None if run is None else run._replace(start=run.start + position)
            self._continue(here)
            count = min(self._room(), len(table) - position, self._fitting(table))
            part, weights = table[position : position + count], log_weights[position : position + count]
            if len(self._held) == 0 and (count == self._room() or position + count < len(table)):
                self._write(part, weights, here)
            else:
                self._held.extend(part, weights)
                if self._is_due():
                    self.flush()
            position += count

    def flush(self) -> None:
        """Writes the traces that are held back as a block."""
        if len(self._held):
            self._write(*self._held.finish(), self._run)

    def close(self) -> None:
        """Writes what is held back, closes the shard and lists it in the manifest. Without traces there is no shard."""
        if self._descriptor is None and len(self._held) == 0:
            return
        self.flush()
        assert self._descriptor is not None
        self._put(closing(self._identity, self._blocks, self._traces))
        self._close()
        self._descriptor = None
        add_to_manifest(self._folder, [entry_of(self._folder, self._path.resolve(), scan(self._path))])

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- blocks ----------------------------------------------------------------------------------------------------

    def _continue(self, run: Run | None) -> None:
        """Begins a new block unless ``run`` goes on with what is held back."""
        if len(self._held) == 0:
            self._run = run
        elif run != (self._run and self._run._replace(start=self._run.start + len(self._held))):
            self.flush()
            self._run = run

    def _room(self) -> int:
        """How many traces are still to come in the block; of a run, blocks end at multiples of their size."""
        begun = len(self._held)
        if self._run is not None:
            begun += self._run.start % self._block_traces
        return self._block_traces - begun % self._block_traces

    def _fitting(self, table: TraceTable) -> int:
        """How many rows of a table a block may hold."""
        widest = max((layout.width for layout in table.layouts), default=1)
        return max(1, BLOCK_BYTES // (8 * widest))

    def _is_due(self) -> bool:
        return (
            self._room() == self._block_traces
            or self._held.nbytes >= BLOCK_BYTES
            or time.monotonic() - self._written_at > WRITE_AFTER
        )

    def _write(self, table: TraceTable, log_weights: np.ndarray, run: Run | None) -> None:
        place = f"{self._path}, block {self._blocks}"
        directory, payload = pack(table, log_weights, self._vocabulary, run, place)
        data = frame(self._identity, self._blocks, len(table), directory, payload)
        try:
            if self._descriptor is None:
                self._path, self._descriptor = new_shard(self._folder)
                self._close = weakref.finalize(self, os.close, self._descriptor)
                settle_folder(self._folder)
            if self._end == 0:
                self._end = self._put(opening(self._identity, self._dataset))
            end = self._put(data)
        except OSError as error:
            raise StorageError(
                f"{place} cannot be written: {error}. The blocks before it are kept; make room, and go on."
            ) from error
        held, traces, now = TraceWriter(), self._traces + len(table), time.monotonic()
        blocks, vocabulary, written = self._blocks + 1, self._vocabulary, self._vocabulary.size
        # Ctrl-C before this line writes the block again at the same place; the assignments have no call between them.
        self._end, self._blocks, self._traces, self._held, self._run = end, blocks, traces, held, None
        vocabulary.written, self._written_at = written, now

    def _put(self, data: bytes) -> int:
        """Writes behind what is whole, and gives where it ends."""
        assert self._descriptor is not None
        view, position = memoryview(data), self._end
        while view:
            done = os.pwrite(self._descriptor, view, position)
            view, position = view[done:], position + done
        os.fdatasync(self._descriptor)
        return position
