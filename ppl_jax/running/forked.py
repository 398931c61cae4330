"""Work divided among forked processes that keep their results on disk themselves; the parent counts and waits.

Processes are forked because a model is often a closure, which nothing else can hand on without pickle. They run host
code only and leave by ``os._exit``. Each tells through a pipe how far it is; SIGTERM, or a parent that is gone, makes
it finish what it has and end.
"""

from __future__ import annotations

import os
import selectors
import signal
import struct
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import NamedTuple

from ppl_jax.errors import WorkerDied

_MESSAGE = struct.Struct("<Bq")
_PROGRESS, _FAILED, _DONE = range(3)
Task = Callable[[Callable[[int], None]], None]


class _Stop(BaseException):
    """SIGTERM has come."""


class _Worker(NamedTuple):
    pid: int
    pipe: int
    number: int


def run_forked(tasks: Sequence[Task], report: Callable[[int], None]) -> list[int]:
    """Runs every task in a process of its own; a task is given the function with which it tells how much it has done.

    If a task raises, or this process is interrupted, the others finish what they have, and end.

    Returns:
      The numbers of the tasks that raised.

    Raises:
      WorkerDied: a process was killed.
      KeyboardInterrupt: after all processes have ended.
    """
    workers: dict[int, _Worker] = {}
    failed: list[int] = []
    died: list[str] = []
    interrupted = False
    with selectors.DefaultSelector() as selector:
        try:
            for number, task in enumerate(tasks):
                worker = _fork(task, number)
                workers[worker.pid] = worker
                selector.register(worker.pipe, selectors.EVENT_READ, worker)
            while workers:
                try:
                    for key, _ in selector.select():
                        ended = _listen(key.data, report, failed)
                        if ended:
                            selector.unregister(key.data.pipe)
                            problem = _bury(workers.pop(key.data.pid), finished=ended == _DONE or bool(failed))
                            died += [problem] if problem else []
                            if failed or died:
                                _stop(workers)
                except KeyboardInterrupt:
                    if interrupted:
                        raise
                    interrupted = True
                    _stop(workers)
        finally:
            for worker in workers.values():
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)
                _bury(worker, finished=True)
    if interrupted:
        raise KeyboardInterrupt
    if died:
        raise WorkerDied(died[0])
    return failed


def _listen(worker: _Worker, report: Callable[[int], None], failed: list[int]) -> int:
    """Takes what a worker says; _DONE or _FAILED when it ends (_FAILED also without a word), else 0."""
    data = os.read(worker.pipe, 512 * _MESSAGE.size)
    if not data:
        return _FAILED
    for kind, count in _MESSAGE.iter_unpack(data):
        if kind == _PROGRESS:
            report(count)
        elif kind == _FAILED:
            failed.append(worker.number)
            return _FAILED
        else:
            return _DONE
    return 0


def _stop(workers: dict[int, _Worker]) -> None:
    for pid in workers:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def _bury(worker: _Worker, finished: bool) -> str | None:
    """Waits for a process to end; says what is wrong if it had not finished."""
    os.close(worker.pipe)
    _, status = os.waitpid(worker.pid, 0)
    if finished or status == 0:
        return None
    how = f"by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"with status {os.WEXITSTATUS(status)}"
    return (
        f"Worker process {worker.pid} ended {how} in the middle of its work. What it had written is kept: call again "
        "to go on. If it was killed for memory, use fewer workers; a model that calls compiled code may have crashed."
    )


def _fork(task: Task, number: int) -> _Worker:
    receive, send = os.pipe()
    with warnings.catch_warnings():
        # The child uses neither JAX nor threads of the parent, which is what these two warn of.
        warnings.filterwarnings("ignore", message=".*fork.*", category=RuntimeWarning)
        warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
        pid = os.fork()
    if pid:
        os.close(send)
        return _Worker(pid, receive, number)
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interruption means
        signal.signal(signal.SIGTERM, _raise_stop)
        os.close(receive)
        status = _work(task, send)
    finally:
        os._exit(status)


def _raise_stop(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise _Stop


def _work(task: Task, send: int) -> int:
    """Does the task in the child; the exit status."""

    def tell(count: int) -> None:
        os.write(send, _MESSAGE.pack(_PROGRESS, count))

    try:
        task(tell)
        kind = _DONE
    except _Stop:
        return 0
    except OSError:  # the parent is gone
        return 1
    except Exception:
        kind = _FAILED
    os.write(send, _MESSAGE.pack(kind, 0))
    return 0
