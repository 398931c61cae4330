"""Times training on a dataset of 10,000 trace types beside one of 10: as many traces, all of one length.

    python benchmarks/data/many_types.py            100,000 traces each; on one core
    python benchmarks/data/many_types.py --quick    30,000

The traces have eight uniforms, each at one of ten call sites, so that types are drawn from 10 ** 8 sequences of 80 call
sites. The steps of the two trainings alternate. What is printed: traces a second of whole training steps, reading from
disk included; compilations; and how much of a step is reading and making arrays, which is what types cost.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import tables

BATCH, MANY, FEW = 256, 10_000, 10


def written(folder: Path, types: int, count: int) -> Any:
    """A dataset of so many traces, each of a type drawn at random."""
    from ppl_jax.data import ShardWriter, open_dataset

    rng, layouts = np.random.default_rng(0), tables.many_types_layouts(types)
    with ShardWriter(folder) as writer:
        for start in range(0, count, 1 << 15):
            table = tables.many_types_table(min(1 << 15, count - start), rng, layouts)
            writer.extend(table, np.zeros(len(table)))
    return open_dataset(folder)


class Timed:
    """A training whose steps are timed."""

    def __init__(self, dataset: Any, core: Any):
        from ppl_jax.training.trainer import Settings, prepare

        self.trainer = prepare(
            dataset, Settings(10**9, BATCH, 0, schedule="constant"), observe_embeddings=None, core=core,
            mixture_components=10, prior_share=0.02, validation_traces=1000, network=None, num_workers=1,
            backend="host",
        )  # fmt: skip
        self._tables = self.trainer.source.tables(BATCH, 0, 10**6, 10**9)
        self.whole: list[float] = []
        self.reading: list[float] = []

    def step(self) -> None:
        """One step; its time is kept unless it compiled."""
        import jax

        compiled, begin = self.trainer.num_compilations, time.perf_counter()
        table = next(self._tables)
        read = time.perf_counter() - begin
        jax.block_until_ready(self.trainer.advance(table))
        if self.trainer.num_compilations == compiled:
            self.whole.append(time.perf_counter() - begin)
            self.reading.append(read)

    def figures(self) -> dict[str, Any]:
        """What was measured; the first quarter of the steps, in which every type is new, apart."""
        first = len(self.whole) // 4
        return {
            "types_met": self.trainer.encoder.num_trace_types,
            "traces_per_second": BATCH / statistics.mean(self.whole[first:]),
            "traces_per_second_at_first": BATCH / statistics.mean(self.whole[: max(1, first)]),
            "reading_ms": 1e3 * statistics.mean(self.reading[first:]),
            "compilations": self.trainer.num_compilations,
            "shapes": len(self.trainer.shapes.known),
        }


def measure(count: int, core: Any) -> dict[str, Any]:
    """Figures of both trainings over one round of their datasets, and the ratio of their speeds."""
    with tempfile.TemporaryDirectory() as folder:
        both = {number: Timed(written(Path(folder) / str(number), number, count), core) for number in (FEW, MANY)}
        for _ in range(count // BATCH):
            for training in both.values():
                training.step()
        result: dict[str, Any] = {f"{number:,} types": training.figures() for number, training in both.items()}
    few, many = result.values()
    result["slower"] = few["traces_per_second"] / many["traces_per_second"]
    return result


def lines(result: dict[str, Any]) -> list[str]:
    """The result as sentences."""
    said = [
        f"{name}: {figures['traces_per_second']:,.0f} traces/s ({figures['traces_per_second_at_first']:,.0f} in the "
        f"first quarter), reading {figures['reading_ms']:.1f} ms a step, {figures['types_met']:,} types met, "
        f"{figures['compilations']} compilations for {figures['shapes']} shapes"
        for name, figures in result.items()
        if isinstance(figures, dict)
    ]
    said.append("A compiled step serves both, so that the training that comes second compiles nothing.")
    return [*said, f"10,000 types are {result['slower']:.2f} times slower than 10."]


def main() -> int:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description="Times training on many trace types.")
    parser.add_argument("--quick", action="store_true", help="fewer traces, for a first look")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from ppl_jax.nn import LSTM

    for label, core in (("LSTM 512", LSTM(512)), ("LSTM 64", LSTM(64))):
        result = measure(30_000 if arguments.quick else 100_000, core)
        print(label, *lines(result), sep="\n  ", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
