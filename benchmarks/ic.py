"""Times inference compilation: training, steps against the machine's matrix products, guided inference, time to an ESS.

    python benchmarks/ic.py              # on one core, as the peer's figures were taken
    python benchmarks/ic.py --cores 2    # on more
    python benchmarks/ic.py --quick      # less of everything

The peer's figures are the recorded ones of ``peer/recorded.json``. Every posterior is held against the exact answer.
The result goes to the terminal and, as JSON, to ``build/ic.json``.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import machine
import programs

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 512
PROGRAMS = {"GUM": programs.gum, "GUM-M": programs.gum_marsaglia}
EXACT_MEAN = programs.GUM_MEANS["posterior"]


def trainer_for(name: str, core: Any, batch_size: int) -> Any:
    """A training that has not begun."""
    from ppl_jax.trainer import Settings, prepare

    return prepare(
        PROGRAMS[name], Settings(10**9, batch_size, 0, schedule="constant"), observe_embeddings=None, core=core,
        mixture_components=10, prior_share=0.02, validation_traces=1000, network=None, num_workers=1, backend="host",
    )  # fmt: skip


def training(name: str, core: Any, batch_size: int, seconds: float) -> dict[str, Any]:
    """Traces per second of online training, from simulating to the new parameters, compiling apart."""
    import jax

    trainer = trainer_for(name, core, batch_size)
    tables = trainer.source.tables(batch_size, 0, 10**6, 10**9)
    begin = time.perf_counter()
    while trainer.step < 3 or time.perf_counter() - begin < 0.2 * seconds:  # until the usual shapes are compiled
        jax.block_until_ready(trainer.advance(next(tables)))
    first = time.perf_counter() - begin
    took: list[float] = []
    loss = None
    while sum(took) < seconds:
        compiled, begin = trainer.num_compilations, time.perf_counter()
        loss = jax.block_until_ready(trainer.advance(next(tables)))
        if trainer.num_compilations == compiled:
            took.append(time.perf_counter() - begin)
        else:
            first += time.perf_counter() - begin
    return {
        "traces_per_second": batch_size / statistics.mean(took),
        "step_ms": 1e3 * statistics.median(took),
        "steps": len(took),
        "compilations": trainer.num_compilations,
        "warm_up_seconds": first,
        "loss": float(loss),
        "trainer": trainer,
    }


def matmul_limit(rows: int, width: int) -> float:
    """GFLOP/s of the machine's matrix product of the LSTM's shape, the best of several."""
    import jax
    import numpy as np

    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=shape).astype(np.float32) for shape in ((rows, width), (width, 4 * width)))
    product = jax.jit(lambda a, b: a @ b)
    a, b = jax.device_put(a), jax.device_put(b)
    jax.block_until_ready(product(a, b))
    took = []
    for _ in range(15):
        begin = time.perf_counter()
        jax.block_until_ready(product(a, b))
        took.append(time.perf_counter() - begin)
    return 2e-9 * rows * width * 4 * width / min(took)


def step_efficiency(trainer: Any, repeats: int) -> dict[str, float]:
    """The compiled step alone: its matrix products per second, beside the limit, measured in turn."""
    import jax
    import numpy as np

    table = next(trainer.source.tables(trainer.settings.batch_size, 0, 1, 10**9))
    batch = trainer._batch(*trainer.encoder.encode(table), trainer.shapes)
    step, _ = trainer._functions()
    shapes = {name: leaf.shape for name, leaf in _named_shapes(trainer.network().params)}
    multiplied = sum(math.prod(shape) for name, shape in shapes.items() if len(shape) == 2 and "kernel" in name)
    multiplied -= sum(math.prod(shape) for name, shape in shapes.items() if "observer" in name and len(shape) == 2)
    multiplied += math.prod(shapes["heads"][1:])
    rows, length = batch.site.shape
    if length > 1 and "core/recurrent" in shapes:
        multiplied += math.prod(shapes["core/recurrent"])
    tokens, cells = float(batch.mask.sum()), rows * length
    flops = 6e-9 * multiplied  # forward, and both factors of every product backward
    state = trainer.state
    best, limit = math.inf, 0.0
    for _ in range(repeats):
        limit = max(limit, matmul_limit(trainer.settings.batch_size, WIDTH))
        begin = time.perf_counter()
        state, loss = step(trainer.scaling, state, batch, np.float32(0.0))
        jax.block_until_ready((state, loss))
        best = min(best, time.perf_counter() - begin)
    trainer.state = state
    return {
        "step_ms": 1e3 * best,
        "gflops": flops * cells / best,
        "limit_gflops": limit,
        "share": flops * cells / best / limit,
        "share_without_padding": flops * tokens / best / limit,
        "multiplications_per_token": multiplied,
    }


def _named_shapes(tree: Any) -> Any:
    from ppl_jax.nn.files import flatten

    return flatten(tree).items()


def inference(name: str, network: Any, number: int) -> dict[str, Any]:
    """Traces per second of guided inference, after a first call that compiles."""
    import ppl_jax as ppl

    def run(count: int, seed: int) -> Any:
        return ppl.importance_sampling(
            PROGRAMS[name], programs.GUM_DATA, count, proposal=network, seed=seed, progress=False
        )

    run(100, 0)
    rates = []
    for seed in (1, 2, 3):
        begin = time.perf_counter()
        posterior = run(number, seed)
        rates.append(number / (time.perf_counter() - begin))
    return {
        "traces_per_second": statistics.median(rates),
        "ess_fraction": posterior.effective_sample_size / number,
        "standard_errors_off": abs(posterior.results.mean - EXACT_MEAN) / posterior.results.standard_error,
    }


def time_to_ess(wanted: float, num_traces: int) -> dict[str, Any]:
    """Seconds from nothing to an effective sample size on GUM-M, training and compiling included."""
    import numpy as np

    import ppl_jax as ppl

    begin = time.perf_counter()
    network = ppl.train(
        programs.gum_marsaglia, num_traces, core=ppl.nn.LSTM(64), learning_rate=3e-3, seed=0, progress=False
    )
    trained = time.perf_counter() - begin
    log_weights, results, number, ess = np.empty(0), np.empty(0), 0, 0.0
    while ess < wanted and number < 200:
        part = ppl.importance_sampling(
            programs.gum_marsaglia, programs.GUM_DATA, 2000, proposal=network, seed=100 + number, progress=False
        )
        log_weights = np.concatenate([log_weights, part.log_weights])
        results = np.concatenate([results, part.results.values])
        weights = np.exp(log_weights - log_weights.max())
        ess, number = float(weights.sum() ** 2 / np.square(weights).sum()), number + 1
    took = time.perf_counter() - begin
    mean = float(weights @ results / weights.sum())
    return {
        "seconds": took,
        "training_seconds": trained,
        "ess": ess,
        "traces": 2000 * number,
        "training_traces": num_traces,
        "standard_errors_off": abs(mean - EXACT_MEAN) / (0.9129 / math.sqrt(ess)),
    }


def recorded() -> dict[str, Any]:
    """The peer's figures."""
    return json.loads((ROOT / "benchmarks" / "peer" / "recorded.json").read_text())


def peer_time_to_ess(peer: dict[str, Any], wanted: float) -> float:
    """Seconds in which the peer's best recorded network on GUM-M reaches an effective sample size."""
    rate = {"ff": "infer_ff", "lstm": "infer_lstm"}
    return min(
        run["train_seconds"]
        + 5000 * wanted / run["ess"] / peer["figures"]["GUM-M"][rate[run["proposal"]]]["median"]
        for run in peer["ess_of_5000_traces_at_8_9"]
        if run["model"] == "GUM-M" and run["proposal"] in rate
    )


def main() -> int:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description="Times inference compilation.")
    parser.add_argument("--cores", type=int, default=1, help="cores to use (default 1, as the peer's figures)")
    parser.add_argument("--quick", action="store_true", help="less of everything, for a first look")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "ic.json", help="where the result is kept")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-arguments.cores :])
    os.environ.setdefault("JAX_PLATFORMS", "cpu")

    from ppl_jax.nn import LSTM, FeedForward

    seconds, number = (3.0, 1000) if arguments.quick else (20.0, 10_000)
    peer = recorded()
    result: dict[str, Any] = {"machine": machine.description(), "cores": arguments.cores, "peer": peer["peer"]}
    ok = True
    print(f"{result['machine']}\n{arguments.cores} core(s)")
    print(f"peer: recorded figures, {peer['date']}, {peer['conditions']}")
    for name in PROGRAMS:
        for label, core, batch_size in (
            ("lstm", LSTM(WIDTH), 256), ("lstm", LSTM(WIDTH), 1024), ("ff", FeedForward(WIDTH, 2), 256),
        ):  # fmt: skip
            figures = training(name, core, batch_size, seconds)
            trainer = figures.pop("trainer")
            theirs = peer["figures"][name][f"train_{label}_256"]
            figures["peer"], figures["ratio"] = theirs["median"], figures["traces_per_second"] / theirs["median"]
            key = f"{name} train {label} {batch_size}"
            result[key] = figures
            print(
                f"{key}: {figures['traces_per_second']:,.0f} traces/s, step {figures['step_ms']:.0f} ms, "
                f"{figures['compilations']} compilations, first steps {figures['warm_up_seconds']:.0f} s; "
                f"peer {theirs['median']} (batch 256): {figures['ratio']:.1f} times"
            )
            if batch_size == 1024:
                result[f"{name} step"] = step = step_efficiency(trainer, 5 if arguments.quick else 20)
                print(
                    f"{name} step lstm 1024: {step['step_ms']:.0f} ms, {step['gflops']:.1f} GFLOP/s of matrix "
                    f"products; limit {step['limit_gflops']:.1f} GFLOP/s: {step['share']:.0%} "
                    f"({step['share_without_padding']:.0%} without padding)"
                )
            if batch_size == 256:
                figures = inference(name, trainer.network(), number)
                theirs = peer["figures"][name][f"infer_{label}"]
                figures["peer"], figures["ratio"] = theirs["median"], figures["traces_per_second"] / theirs["median"]
                key = f"{name} infer {label}"
                result[key] = figures
                ok &= figures["standard_errors_off"] < 5.0
                print(
                    f"{key}: {figures['traces_per_second']:,.0f} traces/s; peer {theirs['median']}: "
                    f"{figures['ratio']:.0f} times; ESS fraction at (8, 9) after this training "
                    f"{figures['ess_fraction']:.2f}, mean {figures['standard_errors_off']:.1f} s.e. off"
                )
    figures = time_to_ess(200.0 if arguments.quick else 1000.0, 10_000 if arguments.quick else 30_000)
    figures["peer"] = peer_time_to_ess(peer, 200.0 if arguments.quick else 1000.0)
    result["time to ESS"] = figures
    ok &= figures["standard_errors_off"] < 5.0
    print(
        f"GUM-M, from nothing to ESS {figures['ess']:.0f}: {figures['seconds']:.0f} s, of which training "
        f"{figures['training_seconds']:.0f} s ({figures['training_traces']:,} traces); peer {figures['peer']:,.0f} s "
        f"(from its recorded figures): {figures['peer'] / figures['seconds']:.0f} times; mean "
        f"{figures['standard_errors_off']:.1f} s.e. off"
    )
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
