"""Times datasets on one core: writing from arrays, reading minibatches, bytes per latent, memory; GUM-M and many types.

    python benchmarks/data/dataset.py                 1,000,000 traces each (about a minute)
    python benchmarks/data/dataset.py --traces 100000

The figures stand beside the bars that are to be met, and the peer's recorded ones. Each program is written and read by
a process of its own, pinned to one core, that reads its memory from /proc: the whole resident set, and the private
part, which is what the system cannot take back.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import machine
import tables
import workers
from peer.install import recorded

from ppl_jax.data import ShardWriter, open_dataset
from ppl_jax.storage import TraceTable

BUILD = Path(__file__).resolve().parents[2] / "build"
MADE_TOGETHER, BATCH, TYPES = 1 << 16, 256, 10_000
MIB = 2**20


def memory() -> dict[str, int]:
    """Resident and private bytes of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines if line.endswith(" kB")}
    return {"resident": found["VmRSS"], "private": found["RssAnon"]}


def made(program: str, count: int) -> Any:
    """Tables of traces as arrays."""
    if program == "GUM-M":
        yield from tables.gum_marsaglia_tables(count, MADE_TOGETHER)
        return
    layouts, rng = tables.many_types_layouts(TYPES), np.random.default_rng(0)
    for low in range(0, count, MADE_TOGETHER):
        yield tables.many_types_table(min(MADE_TOGETHER, count - low), rng, layouts)


def write(program: str, folder: Path, count: int) -> dict[str, Any]:
    """Writes traces; only the writing is timed."""
    seconds, readings = 0.0, []
    begin = time.perf_counter()
    with ShardWriter(folder) as writer:
        for table in made(program, count):
            seconds += timed_write(writer, table)
            readings.append(memory())
        begin = time.perf_counter()
    seconds += time.perf_counter() - begin
    return {"write": count / seconds, "write memory": shares(readings)}


def timed_write(writer: ShardWriter, table: TraceTable) -> float:
    """Seconds that it takes to append a table."""
    begin = time.perf_counter()
    writer.extend(table, np.zeros(len(table)))
    return time.perf_counter() - begin


def read(folder: Path) -> dict[str, Any]:
    """Reads all that training reads, in type-grouped minibatches, for two epochs; then mixed, and one by one."""
    begin = time.perf_counter()
    dataset = open_dataset(folder)
    figures: dict[str, Any] = {"open": time.perf_counter() - begin, "traces": len(dataset)}
    readings, rates = [memory()], []
    every = max(1, dataset.num_minibatches(BATCH) // 20)
    for epoch in range(2):
        begin, read_traces, apart = time.perf_counter(), 0, 0.0
        for number, minibatch in enumerate(dataset.minibatches(BATCH, epoch=epoch)):
            for latent in range(len(minibatch.type.latents)):
                minibatch.values(latent), minibatch.numbers(latent)
            minibatch.observation("obs0"), minibatch.observation("obs1")
            read_traces += len(minibatch)
            if number % every == 0:
                paused = time.perf_counter()
                readings.append(memory())
                apart += time.perf_counter() - paused
        rates.append(read_traces / (time.perf_counter() - begin - apart))
    figures |= {"first epoch": rates[0], "read": rates[1], "read memory": shares(readings)}
    figures["whole"] = rate(lambda: whole(dataset))
    figures["mixed"] = rate(lambda: mixed(dataset))
    figures["one by one"] = rate(lambda: one_by_one(dataset))
    info = dataset.info()
    figures |= {"bytes per trace": info.bytes / info.traces, "bytes per latent": info.bytes / info.latents}
    figures |= {"types": len(info.types), "bytes": info.bytes}
    return figures


def rate(work: Any) -> float:
    """Traces a second of ``work()``, which gives how many it read."""
    begin = time.perf_counter()
    return work() / (time.perf_counter() - begin)


def whole(dataset: Any) -> int:
    """All traces in order, for at most five seconds."""
    begin, count = time.perf_counter(), 0
    for table in dataset.tables():
        count += len(table)
        if time.perf_counter() - begin > 5.0:
            break
    return count


def mixed(dataset: Any) -> int:
    """Values of minibatches of any types, for at most five seconds."""
    begin, count = time.perf_counter(), 0
    for group in dataset.mixed_minibatches(BATCH):
        for minibatch in group:
            minibatch.values(0)
            count += len(minibatch)
        if time.perf_counter() - begin > 5.0:
            break
    return count


def one_by_one(dataset: Any) -> int:
    """Single traces at random, for at most two seconds."""
    begin, count, rng = time.perf_counter(), 0, np.random.default_rng(0)
    while time.perf_counter() - begin < 2.0:
        dataset[int(rng.integers(len(dataset)))]
        count += 1
    return count


def shares(readings: list[dict[str, int]]) -> dict[str, list[int]]:
    """The most memory up to a quarter, a half and the whole of the work."""
    ends = [max(1, len(readings) * part // 4) for part in (1, 2, 4)]
    return {kind: [max(found[kind] for found in readings[:end]) for end in ends] for kind in ("resident", "private")}


def measured(action: str, program: str, folder: Path, count: int) -> dict[str, Any]:
    """The figures of one action, from a process of its own on one core."""
    with workers.start(
        sys.executable, "data.dataset", "--action", action, "--program", program, "--folder", str(folder),
        "--traces", str(count), stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        answer = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"the process that was to {action} {program} ended with status {process.returncode}")
    figures: dict[str, Any] = json.loads(answer)
    return figures


def report(program: str, figures: dict[str, Any], peer: dict[str, Any]) -> str:
    """The figures of a program as text."""
    own = figures["traces"]
    lines = [f"{program}: {own:,} traces of {figures['types']:,} types, minibatches of {BATCH}"]
    with_peer = [
        ("written from arrays", "write", "traces/s", peer["write_traces_per_s"]),
        ("read by type, second epoch", "read", "traces/s", peer["read_traces_per_s"]),
        ("a latent", "bytes per latent", "bytes", None),
    ]
    for text, key, unit, other in with_peer:
        against = f"; peer {other:,}, {figures[key] / other:,.0f} times" if other and program == "GUM-M" else ""
        lines.append(f"  {text:28} {figures[key]:12,.1f} {unit:9}{against}")
    against = f"peer {peer['bytes_per_trace']}" if program == "GUM-M" else ""
    lines.append(f"  {'a trace':28} {figures['bytes per trace']:12,.1f} bytes     {against}")
    for text, key in (
        ("read by type, first epoch", "first epoch"), ("read whole, in order", "whole"),
        ("read mixed", "mixed"), ("read one by one, at random", "one by one"),
    ):  # fmt: skip
        lines.append(f"  {text:28} {figures[key]:12,.1f} traces/s")
    lines.append(f"  {'opened in':28} {1e3 * figures['open']:12,.1f} ms")
    for text, key in (("memory while writing", "write memory"), ("memory while reading", "read memory")):
        for kind in ("private", "resident"):
            parts = ", ".join(f"{reading / MIB:,.0f}" for reading in figures[key][kind])
            lines.append(f"  {text + ', ' + kind:32} {parts} MiB after a quarter, a half, all")
    return "\n".join(lines)


def main() -> None:
    """Command line: see ``--help``."""
    parser = argparse.ArgumentParser(description="Times datasets on one core.")
    parser.add_argument("--traces", type=int, default=1_000_000, help="traces of each program")
    parser.add_argument("--action", choices=["write", "read"], help=argparse.SUPPRESS)
    parser.add_argument("--program", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.action == "write":
        print(json.dumps(write(arguments.program, arguments.folder, arguments.traces)))
        return
    if arguments.action == "read":
        print(json.dumps(read(arguments.folder)))
        return
    peer = recorded()["datasets"]
    print(", ".join(f"{key} {value}" for key, value in machine.description().items()))
    BUILD.mkdir(exist_ok=True)
    for program in ("GUM-M", f"{TYPES:,} types"):
        with tempfile.TemporaryDirectory(prefix="dataset-", dir=BUILD) as scratch:
            folder = Path(scratch) / "set"
            figures = measured("write", program, folder, arguments.traces)
            figures |= measured("read", program, folder, arguments.traces)
        print(report(program, figures, peer), flush=True)


if __name__ == "__main__":
    main()
