"""Running numbered tasks in forked processes and reading their traces back in order.

Task ``k`` runs in process ``k mod n`` and its answer is read when it is its turn, so the outcome is that of one
process. Processes are forked, because a model is often a closure, which nothing but a fork can hand on without pickle;
they run host code only and leave by ``os._exit``. Traces come back as the bytes of their table.

Ctrl-C reaches this process only; it asks the others to stop, and reads what they have finished.
"""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO

import numpy as np

from ppl_jax.errors import StorageError, WorkerDied
from ppl_jax.storage import RowLayout, TraceTable, TraceWriter

Traces = tuple[TraceTable, np.ndarray]  # a table and its log weights
Task = Callable[[int], Traces]

_HEAD = struct.Struct("<BQQQ")  # status, bytes of layouts and objects, number of traces, numbers in the heap
_DONE, _FAILED, _OBJECTS = range(3)
_PER_TRACE = 8 + 4 + 8  # bytes of start, kind and log weight
_CHUNK = 1 << 20
_PATIENCE = 500  # ms
_STOP = signal.SIGUSR1  # asks a worker to answer with what it has, and to leave


def run_in_order(
    task: Task,
    count: int,
    num_workers: int,
    receive: Callable[[TraceTable, np.ndarray], None],
    waiting: Callable[[], None] = lambda: None,
) -> None:
    """Calls ``receive`` with the traces of ``task(0) ... task(count - 1)``, computed by ``num_workers`` processes.

    While there is nothing to receive, ``waiting`` is called now and then.

    A task that raises in its process is run again in this one, so that its exception is the genuine one. A task in a
    worker that gets KeyboardInterrupt returns the traces it has finished.

    Raises:
      KeyboardInterrupt: Ctrl-C was pressed; what the workers had finished was received before.
      WorkerDied: a process was killed.
      StorageError: a trace holds an object that cannot travel between processes.
    """
    num_workers = min(num_workers, count)
    if num_workers <= 1:
        for k in range(count):
            receive(*task(k))
        return
    workers = [_Worker(task, range(first, count, num_workers)) for first in range(num_workers)]
    try:
        for k in range(count):
            answer = workers[k % num_workers].next_answer(waiting)
            receive(*(task(k) if answer is None else answer))
    except KeyboardInterrupt:
        answers: dict[int, Traces] = {}
        try:
            for worker in workers:
                worker.ask_to_stop()
            for worker in workers:
                answers.update(worker.last_answers())
        finally:  # a second Ctrl-C leaves the slowest workers behind
            for k in sorted(answers):
                receive(*answers[k])
        raise
    finally:
        for worker in workers:
            worker.end()


def worked(work: Callable[[TraceWriter], None], here: int, writer: TraceWriter) -> Traces:
    """The answer of a task: what ``work`` writes; if it is interrupted, what it had finished.

    In the process ``here``, where failed tasks are repeated, that goes to ``writer``, and the error on.
    """
    part = TraceWriter()
    try:
        work(part)
    except BaseException as error:
        if os.getpid() == here:
            writer.extend(*part.finish())
            raise
        if not isinstance(error, KeyboardInterrupt):
            raise
    return part.finish()


def in_background(task: Task, numbers: range, num_workers: int) -> Iterator[Traces]:
    """Yields the traces of the tasks ``numbers`` in order, computed by processes even if there is only one.

    Each process is at most one answer ahead of what was taken. They end when the iterator is closed.

    Raises:
      WorkerDied, StorageError, and what a task raises: see :func:`run_in_order`.
    """
    workers: list[_Worker] = []
    try:
        for first in range(num_workers):
            workers.append(_Worker(task, numbers[first::num_workers]))
        for place, k in enumerate(numbers):
            answer = workers[place % num_workers].next_answer()
            yield task(k) if answer is None else answer
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process that answers the given tasks one after the other."""

    def __init__(self, task: Task, numbers: range):
        receive, send = os.pipe()
        with warnings.catch_warnings():
            # The child uses neither JAX nor threads of the parent, which is what these two warn of.
            warnings.filterwarnings("ignore", message=".*fork.*", category=RuntimeWarning)
            warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
            self._pid = os.fork()
        if not self._pid:
            _serve(task, numbers, receive, send)
        os.close(send)
        self._pipe = receive
        self._numbers = iter(numbers)
        self._buffer = bytearray()
        self._torn = False  # whether Ctrl-C came where bytes may have been lost
        self._readable = select.poll()
        self._readable.register(receive, select.POLLIN)

    def next_answer(self, waiting: Callable[[], None] = lambda: None) -> Traces | None:
        """The answer to its next task; None if that raised.

        Raises:
          WorkerDied, StorageError: see :func:`run_in_order`.
        """
        head = self._have(_HEAD.size, waiting)
        size = _frame_size(head)
        frame = self._have(size)
        del self._buffer[:size]
        next(self._numbers)
        return _decode(frame)

    def ask_to_stop(self) -> None:
        """Tells the process to answer with what it has, and to leave."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, _STOP)

    def last_answers(self) -> Iterator[tuple[int, Traces]]:
        """The answers that are still to come from a process that was asked to stop, with their tasks."""
        while not self._torn:
            try:
                number = next(self._numbers, None)
                size = _frame_size(self._have(_HEAD.size))
                answer = _decode(self._have(size))
                del self._buffer[:size]
            except (WorkerDied, StorageError):  # it left; or its traces cannot travel, as the whole run would have said
                return
            if answer is None or number is None:
                return
            yield number, answer

    def end(self) -> None:
        """Kills the process if it is still there."""
        os.close(self._pipe)
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def _have(self, size: int, waiting: Callable[[], None] = lambda: None) -> bytes:
        """The first ``size`` bytes that were not consumed yet."""
        while len(self._buffer) < size:
            while not self._readable.poll(_PATIENCE):  # Ctrl-C mostly comes here, where nothing is lost
                waiting()
            self._torn = True
            data = os.read(self._pipe, _CHUNK)
            self._buffer += data
            self._torn = False
            if not data:
                raise self._death()
        return bytes(memoryview(self._buffer)[:size])

    def _death(self) -> WorkerDied:
        _, status = os.waitpid(self._pid, 0)
        how = f"by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"with status {os.WEXITSTATUS(status)}"
        return WorkerDied(
            f"Worker process {self._pid} ended {how} in the middle of its work. If it was killed for memory, use fewer "
            "workers or write to disk with path=...; a model that calls compiled code may have crashed."
        )


# -- in the worker -----------------------------------------------------------------------------------------------------


class _Stopping:
    """Whether this process was asked to stop; interrupts the task it is at."""

    def __init__(self) -> None:
        self.asked = False
        self.at_work = False
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interruption means
        signal.signal(_STOP, self._interrupt)

    def _interrupt(self, number: int, frame: object) -> None:
        self.asked = True
        if self.at_work:
            self.at_work = False
            raise KeyboardInterrupt


def _serve(task: Task, numbers: range, receive: int, send: int) -> None:
    """Answers the tasks, and ends the process."""
    status = 1
    try:
        stopping = _Stopping()
        os.close(receive)
        with open(send, "wb") as pipe:
            for k in numbers:
                if stopping.asked:
                    break
                try:
                    stopping.at_work = True
                    answer: Traces | None = task(k)
                    stopping.at_work = False
                except KeyboardInterrupt:  # after the task's last trace: it has nothing to say
                    break
                except Exception:
                    stopping.at_work = False
                    answer = None
                _write(pipe, answer)
        status = 0
    finally:
        os._exit(status)


def _write(pipe: BinaryIO, answer: Traces | None) -> None:
    if answer is None:
        pipe.write(_HEAD.pack(_FAILED, 0, 0, 0))
    elif any(type(kept) not in (str, int) for kept in answer[0].objects):
        pipe.write(_HEAD.pack(_OBJECTS, 0, 0, 0))
    else:
        table, log_weights = answer
        described = json.dumps([[layout.to_json() for layout in table.layouts], table.objects]).encode()
        pipe.write(_HEAD.pack(_DONE, len(described), len(table), len(table.heap)))
        pipe.write(described)
        for numbers, kind in ((table.starts, "<i8"), (table.kinds, "<i4"), (log_weights, "<f8"), (table.heap, "<f8")):
            pipe.write(np.ascontiguousarray(numbers, kind).data)
    pipe.flush()


# -- back in this process ----------------------------------------------------------------------------------------------


def _frame_size(head: bytes) -> int:
    _, num_bytes, num_traces, num_heap = _HEAD.unpack(head)
    return _HEAD.size + num_bytes + _PER_TRACE * num_traces + 8 * num_heap


def _decode(frame: bytes) -> Traces | None:
    status, num_bytes, num_traces, num_heap = _HEAD.unpack_from(frame)
    if status == _FAILED:
        return None
    if status == _OBJECTS:
        raise StorageError(
            "A result or tag of the model is neither a number, an array, a string, nor a tuple, list or dict of these, "
            "so it cannot travel between processes. Return such values, or use num_workers=1."
        )
    position = _HEAD.size + num_bytes
    layouts, objects = json.loads(frame[_HEAD.size : position])
    columns = []
    for kind, count in (("<i8", num_traces), ("<i4", num_traces), ("<f8", num_traces), ("<f8", num_heap)):
        columns.append(np.frombuffer(frame, kind, count, position))
        position += columns[-1].nbytes
    starts, kinds, log_weights, heap = columns
    return TraceTable([RowLayout.from_json(layout) for layout in layouts], heap, starts, kinds, objects), log_weights
