"""Timed work runs in processes of its own, pinned to one core, that wait for the next request while another works.

One process holds our engines, one the hand-written floors, one (the peer's own Python) the peer. ``run.py`` asks them
in turn, so that ours, the floor and the peer meet the same moods of the machine. This file is both ends of the pipe; it
uses the standard library only, because the peer's Python runs it too.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

# Variables that would let a library use more than one thread; the pinned core would only make its threads queue.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")


# JAX keeps what it compiled from one call to the next, so that a rate, from which the time of a call of ten is taken
# off, is not drowned in the compiler's moods. ``run.py`` empties the folder first, and so sees the compiler's time too.
CACHE = HERE.parent / "build" / "benchmarks-jax-cache"
ONE_COMPILATION = {
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(CACHE),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}


def core() -> int:
    """The core that all timed work is pinned to: the last one that this process may use."""
    return max(os.sched_getaffinity(0))


def start(python: str | Path, module: str, *arguments: str, **streams: Any) -> subprocess.Popen[str]:
    """Starts ``python -m module arguments`` in this folder, pinned to one core."""
    environment = {**os.environ, **ONE_THREAD, **ONE_COMPILATION}
    environment.pop("PYTHONPATH", None)
    return subprocess.Popen(
        [str(python), "-W", "ignore", "-m", module, *arguments],
        cwd=HERE, env=environment, text=True, **streams, preexec_fn=_pin,
    )  # fmt: skip


def _pin() -> None:
    os.sched_setaffinity(0, {core()})


class Worker:
    """A process that answers requests by ``serve``; a context manager."""

    def __init__(self, python: str | Path, module: str):
        self._process = start(python, module, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def ask(self, task: str, number: int, seed: int) -> dict[str, Any] | None:
        """What ``task(number, seed)`` answers in that process; None where it has no such task.

        Raises RuntimeError if the process died; its complaint is on standard error.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([task, number, seed]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process that timed {task} ended with status {self._process.wait()}")
        return json.loads(answer)


def serve(tasks: Mapping[str, Callable[[int, int], dict[str, Any]]]) -> None:
    """Answers requests [task, number, seed] from standard input, one JSON line each, until it is closed."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints must not reach the pipe
    for line in sys.stdin:
        name, number, seed = json.loads(line)
        answer = tasks[name](number, seed) if name in tasks else None
        print(json.dumps(answer), file=answers, flush=True)


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What ``work()`` returns, and {"seconds", "cpu"}: what it took by the clock, and of the core."""
    begin, cpu = time.perf_counter(), time.process_time()
    outcome = work()
    return outcome, {"seconds": time.perf_counter() - begin, "cpu": time.process_time() - cpu}
