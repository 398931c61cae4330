"""How much memory a posterior takes: in memory, and while it is written to disk.

``measure`` starts this file as a process that computes a GUM posterior by importance sampling and holds it, and reads
that process's resident set from outside, from Linux's /proc: of the whole process, interpreter and libraries included,
and once before the work began. On disk, what counts is that the private memory does not grow with the number of traces;
the memory-mapped files themselves are the system's cache, which it takes back when it needs the room.
"""

import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import workers

SCRATCH = Path(__file__).resolve().parents[1] / "build"
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)  # of the running time, at which the memory is reported
FLAT_FROM = 0.25  # the share from which memory must not grow: buffers have their full size by then
READINGS_PER_SECOND = 50


def hold(number: int, backend: str, path: str | None) -> None:
    """Computes the posterior and holds it until standard input is closed; says when it starts and when it is done."""
    import programs

    import ppl_jax as ppl

    def posterior(count: int, folder: str | None) -> ppl.Empirical:
        return ppl.importance_sampling(
            programs.gum, programs.GUM_DATA, count, seed=1, backend=backend, path=folder, progress=False
        )

    posterior(1000, None)  # libraries are loaded, and their first allocations made
    print("ready", flush=True)
    sys.stdin.readline()
    held = posterior(number, path)
    print("done", flush=True)
    sys.stdin.readline()
    mean = held.results.mean
    print(mean, flush=True)


def measure(number: int, backend: str, on_disk: bool) -> dict[str, Any]:
    """Memory in bytes of one such process.

    Returns:
      "before", "holding" and "peak": resident set before the work, while the posterior is held, and at most;
      "private": [share of the running time, private resident bytes] over the run; "growth": private bytes per trace
      between a quarter of the time and the end; "seconds"; "mean" of the posterior; "disk", the bytes of the folder.
    """
    SCRATCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="posterior-", dir=SCRATCH) as scratch:
        folder = Path(scratch) / "posterior"
        arguments = [str(number), backend, *([str(folder)] if on_disk else [])]
        process = workers.start(
            sys.executable, "memory", *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1
        )
        assert process.stdin is not None and process.stdout is not None
        _expect(process, "ready")
        before = _memory(process.pid)
        print(file=process.stdin, flush=True)
        readings, begin = _watch(process)
        seconds = time.monotonic() - begin
        _expect(process, "done")
        holding = _memory(process.pid)
        print(file=process.stdin, flush=True)
        mean = float(process.stdout.readline())
        process.wait()
        disk = sum(file.stat().st_size for file in folder.iterdir()) if on_disk else None
    private = [[share, _at(readings, share * seconds)] for share in SHARES]
    return {
        "traces": number,
        "backend": backend,
        "on_disk": on_disk,
        "before": before["VmRSS"],
        "holding": holding["VmRSS"],
        "peak": holding["VmHWM"],
        "private": private,
        "growth": (private[-1][1] - dict(map(tuple, private))[FLAT_FROM]) / number / (1.0 - FLAT_FROM),
        "seconds": seconds,
        "mean": mean,
        "disk": disk,
    }


def _expect(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    if process.stdout.readline().strip() != word:
        raise RuntimeError(f"the process whose memory was measured ended with status {process.wait()}")


def _watch(process: subprocess.Popen[str]) -> tuple[list[tuple[float, int]], float]:
    """Private memory, read until the process says something: (seconds since the start, bytes); and when it started."""
    begin, readings = time.monotonic(), []
    while not select.select([process.stdout], [], [], 1.0 / READINGS_PER_SECOND)[0]:
        readings.append((time.monotonic() - begin, _memory(process.pid)["RssAnon"]))
    return readings, begin


def _at(readings: list[tuple[float, int]], moment: float) -> int:
    """The most that was read up to ``moment``, so that a momentary dip hides no growth."""
    return max(memory for seconds, memory in readings if seconds <= moment or seconds == readings[0][0])


def _memory(pid: int) -> dict[str, int]:
    """The memory lines of /proc/pid/status, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines if line.endswith(" kB")}


if __name__ == "__main__":
    hold(int(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None)
