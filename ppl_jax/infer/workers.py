"""Running numbered tasks in forked processes and reading their traces back in order.

Task ``k`` runs in process ``k mod n`` and its answer is read when it is its turn, so the outcome is that of one
process. Processes are forked, because a model is often a closure, which nothing but a fork can hand on without pickle;
they run host code only and leave by ``os._exit``. Traces come back as the bytes of their table.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO

import numpy as np

from ppl_jax.errors import PPLError, StorageError
from ppl_jax.storage import RowLayout, TraceTable

Traces = tuple[TraceTable, np.ndarray]  # a table and its log weights

_HEAD = struct.Struct("<BQQQQ")  # status, bytes of layouts and of objects, number of traces, numbers in the heap
_DONE, _FAILED, _OBJECTS = range(3)


class WorkerDied(PPLError, RuntimeError):
    """A worker process ended without an answer."""


def in_order(task: Callable[[int], Traces], count: int, num_workers: int) -> Iterator[Traces]:
    """Yields ``task(0) ... task(count - 1)``, computed by ``num_workers`` processes.

    A task that raises in its process is run again in this one, so that its exception is the genuine one.

    Raises:
      WorkerDied: a process was killed.
      StorageError: a trace holds an object that cannot travel between processes.
    """
    num_workers = min(num_workers, count)
    if num_workers <= 1:
        yield from map(task, range(count))
        return
    yield from in_background(task, range(count), num_workers)


def in_background(task: Callable[[int], Traces], numbers: range, num_workers: int) -> Iterator[Traces]:
    """Yields the tasks of ``numbers`` (a range of step 1) in order, computed by processes even if there is only one.

    Each process is at most one answer ahead of what was taken. They end when the iterator is closed. See ``in_order``.
    """
    processes: list[tuple[int, BinaryIO]] = []
    try:
        for first in range(num_workers):
            processes.append(_fork(task, numbers[first::num_workers]))
        for k in numbers:
            pid, pipe = processes[(k - numbers.start) % num_workers]
            answer = _read(pipe, pid)
            yield task(k) if answer is None else answer
    finally:
        for pid, pipe in processes:
            pipe.close()
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _fork(task: Callable[[int], Traces], numbers: range) -> tuple[int, BinaryIO]:
    """Starts a process that answers the given task numbers into the pipe that is returned."""
    receive, send = os.pipe()
    with warnings.catch_warnings():
        # The child uses neither JAX nor threads of the parent, which is what these two warn of.
        warnings.filterwarnings("ignore", message=".*fork.*", category=RuntimeWarning)
        warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
        pid = os.fork()
    if pid:
        os.close(send)
        return pid, open(receive, "rb")
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interruption means
        os.close(receive)
        with open(send, "wb") as pipe:
            for k in numbers:
                _write(pipe, task, k)
        status = 0
    finally:
        os._exit(status)


def _write(pipe: BinaryIO, task: Callable[[int], Traces], k: int) -> None:
    try:
        table, log_weights = task(k)
    except Exception:
        pipe.write(_HEAD.pack(_FAILED, 0, 0, 0, 0))
        pipe.flush()
        return
    if any(type(kept) not in (str, int) for kept in table.objects):
        pipe.write(_HEAD.pack(_OBJECTS, 0, 0, 0, 0))
        pipe.flush()
        return
    layouts = json.dumps([layout.to_json() for layout in table.layouts]).encode()
    objects = json.dumps(table.objects).encode()
    pipe.write(_HEAD.pack(_DONE, len(layouts), len(objects), len(table), len(table.heap)))
    pipe.write(layouts + objects)
    for numbers, kind in ((table.starts, "<i8"), (table.kinds, "<i4"), (log_weights, "<f8"), (table.heap, "<f8")):
        pipe.write(np.ascontiguousarray(numbers, kind).data)
    pipe.flush()


def _read(pipe: BinaryIO, pid: int) -> Traces | None:
    status, num_bytes, object_bytes, num_traces, num_heap = _HEAD.unpack(_exactly(pipe, _HEAD.size, pid))
    if status == _FAILED:
        return None
    if status == _OBJECTS:
        raise StorageError(
            "A result or tag of the model is neither a number, an array, a string, nor a tuple, list or dict of these, "
            "so it cannot travel between processes. Return such values, or use num_workers=1."
        )
    layouts = [RowLayout.from_json(layout) for layout in json.loads(_exactly(pipe, num_bytes, pid))]
    objects = json.loads(_exactly(pipe, object_bytes, pid))
    starts = np.frombuffer(_exactly(pipe, 8 * num_traces, pid), "<i8")
    kinds = np.frombuffer(_exactly(pipe, 4 * num_traces, pid), "<i4")
    log_weights = np.frombuffer(_exactly(pipe, 8 * num_traces, pid), "<f8")
    heap = np.frombuffer(_exactly(pipe, 8 * num_heap, pid), "<f8")
    return TraceTable(layouts, heap, starts, kinds, objects), log_weights


def _exactly(pipe: BinaryIO, size: int, pid: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        _, status = os.waitpid(pid, 0)
        how = f"by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"with status {os.WEXITSTATUS(status)}"
        raise WorkerDied(
            f"Worker process {pid} ended {how} in the middle of its work. If it was killed for memory, use fewer "
            "workers or write to disk with path=...; a model that calls compiled code may have crashed."
        )
    return data
