"""Times inference compilation beside the peer: training, its steps, guided inference, the time to an effective size.

    python benchmarks/ic.py              # on one core, the peer's too (about ten minutes)
    python benchmarks/ic.py --cores 2    # ours on more
    python benchmarks/ic.py --quick      # less of everything; take no figure from it
    python benchmarks/ic.py --no-peer    # the peer's recorded figures
    python benchmarks/ic.py --write      # puts the figures of the last result into README.md; measures nothing

The peer is timed in the same run where build/peer-venv holds it or it can be installed; otherwise the recorded figures
of ``peer/recorded.json`` stand in, and the output says so. Every posterior's mean is held against the exact one. The
result goes to the terminal and, as JSON, to ``build/ic.json``.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine
import programs
import workers
from peer import install

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "benchmarks" / "README.md"
RESULT = ROOT / "build" / "ic.json"
BEGIN, END = "<!-- figures of ic.py: written by ic.py --write -->", "<!-- end of the figures of ic.py -->"
WIDTH = 512
PROGRAMS = {"GUM": programs.gum, "GUM-M": programs.gum_marsaglia}
EXACT_MEAN = programs.GUM_MEANS["posterior"]
CORES = {"lstm": "LSTM 512", "ff": "feed-forward"}
TO_ESS = {"LSTM 64": 64, "LSTM 512": 512}
PEER_TRAINING = {("GUM", "lstm"): 4096, ("GUM", "ff"): 4096, ("GUM-M", "lstm"): 8192, ("GUM-M", "ff"): 8192}
PEER_GUIDED = {("GUM", "lstm"): 500, ("GUM", "ff"): 500, ("GUM-M", "lstm"): 1500, ("GUM-M", "ff"): 2500}


# -- ours --------------------------------------------------------------------------------------------------------------


def trainer_for(name: str, core: Any, batch_size: int) -> Any:
    """A training that has not begun."""
    from ppl_jax.training.trainer import Settings, prepare

    return prepare(
        PROGRAMS[name], Settings(10**9, batch_size, 0, schedule="constant"), observe_embeddings=None, core=core,
        mixture_components=10, prior_share=0.02, validation_traces=1000, network=None, num_workers=1, backend="host",
    )  # fmt: skip


def training(name: str, core: Any, batch_size: int, seconds: float) -> tuple[dict[str, Any], Any]:
    """Traces/s of online training, from simulating to the new parameters, compiling apart; and the training."""
    import jax

    trainer = trainer_for(name, core, batch_size)
    tables = trainer.source.tables(batch_size, 0, 10**6, 10**9)
    begin = time.perf_counter()
    while trainer.step < 3:
        jax.block_until_ready(trainer.advance(next(tables)))
    first = time.perf_counter() - begin
    took: list[float] = []
    while sum(took) < seconds:
        compiled, begin = trainer.num_compilations, time.perf_counter()
        jax.block_until_ready(trainer.advance(next(tables)))
        if trainer.num_compilations == compiled:
            took.append(time.perf_counter() - begin)
        else:
            first += time.perf_counter() - begin
    figures = {
        "traces_per_second": batch_size / statistics.mean(took),
        "step_ms": 1e3 * statistics.median(took),
        "steps": len(took),
        "compilations": trainer.num_compilations,
        "first_steps_seconds": first,
    }
    return figures, trainer


def step_share(trainer: Any, repeats: int) -> dict[str, float]:
    """The compiled step alone, beside the machine's matrix products; measured in turn, the best of each."""
    import jax
    import numpy as np
    import products

    table = next(trainer.source.tables(trainer.settings.batch_size, 0, 1, 10**9))
    batch = jax.device_put(trainer._batch(*trainer.encoder.encode(table)))
    step, _ = trainer._functions()
    rate = np.float32(0.0)
    done = products.found_in(jax.make_jaxpr(step)(trainer.state, batch, rate).jaxpr)
    state, took, alone, limit = trainer.state, [], [], []
    for _ in range(repeats):
        for _ in range(4):
            begin = time.perf_counter()
            state, outcome = step(state, batch, rate)
            jax.block_until_ready((state, outcome))
            took.append(time.perf_counter() - begin)
        limit.append(products.limit(trainer.settings.batch_size, WIDTH))
        alone.append(products.seconds_alone(done))
    trainer.state = state
    gflop, best = products.gflop(done), min(took)
    return {
        "step_ms": 1e3 * best,
        "gflop": gflop,
        "gflops": gflop / best,
        "limit_gflops": max(limit),
        "share": gflop / best / max(limit),
        "products_alone_ms": 1e3 * min(alone),
        "share_of_own_products": min(alone) / best,
        "cells": float(np.size(batch.site)),
        "draws": float(np.sum(batch.mask)),
    }


def guided(name: str, network: Any, number: int) -> dict[str, Any]:
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


def chains(name: str, network: Any, number: int) -> dict[str, Any]:
    """Steps/s of 32 chains of Metropolis-Hastings, and effective values/s: a random walk, and the network beside it."""
    import numpy as np

    import ppl_jax as ppl

    figures: dict[str, Any] = {}
    for label, proposal in (("random walk", None), ("random walk and network", network)):
        for steps, burn_in in ((64, 32), (number, number // 10)):  # the first compiles
            begin = time.perf_counter()
            posterior = ppl.metropolis_hastings(
                PROGRAMS[name], programs.GUM_DATA, steps, proposal=proposal, num_chains=32, burn_in=burn_in, seed=1,
                progress=False,
            )  # fmt: skip
            took = time.perf_counter() - begin
        results = posterior.results
        effective = float(np.var(np.asarray(results.values, float))) / results.standard_error**2
        figures[label] = {
            "steps_per_second": (number + 32 * burn_in) / took,
            "effective_per_second": effective / took,
            "standard_errors_off": abs(results.mean - EXACT_MEAN) / results.standard_error,
        }
    return figures


def time_to_ess(width: int, training_traces: int, wanted: float) -> dict[str, Any]:
    """Seconds from the start of a process to an effective sample size on GUM-M: with nothing compiled, and again."""
    answers = {}
    with tempfile.TemporaryDirectory() as cache:
        kept = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        for state in ("cold", "warm"):
            begin = time.perf_counter()
            command = [sys.executable, "-W", "ignore", "time_to_ess.py", str(width), str(training_traces), str(wanted)]
            done = subprocess.run(
                command, cwd=README.parent, env={**os.environ, **kept}, stdout=subprocess.PIPE, text=True, check=True
            )
            answers[state] = {**json.loads(done.stdout), "seconds": time.perf_counter() - begin}
    return {**answers["cold"], "seconds_warm": answers["warm"]["seconds"], "training_traces": training_traces}


# -- the peer ----------------------------------------------------------------------------------------------------------


def peer_live(python: Path, share: float) -> dict[str, Any]:
    """The peer's figures of this run: traces/s of training and of guided inference, and seconds to an ESS on GUM-M.

    It trains on 8,192 traces and then draws guided traces for half a minute. That their effective sample size would
    grow in proportion is assumed, in its favour.
    """
    figures: dict[str, Any] = {}
    with workers.Worker(python, "peer.guided") as peer:
        for (name, core), number in PEER_TRAINING.items():
            number, guided_number = max(512, int(share * number)), max(50, int(share * PEER_GUIDED[name, core]))
            begin = time.perf_counter()
            _answer(peer, f"{name} train {core} 256", number // 2, 1)
            took = _answer(peer, f"{name} train {core} 256", number // 2, 2)["seconds"]  # its layers are made by now
            spent = time.perf_counter() - begin
            drawn = _answer(peer, f"{name} infer {core}", guided_number, 3)
            figures[f"{name} train {core}"] = number // 2 / took
            figures[f"{name} infer {core}"] = guided_number / drawn["seconds"]
            figures[f"{name} ess {core}"] = {
                "training_traces": number,
                "training_seconds": spent,
                "traces": guided_number,
                "ess": drawn["ess"],
                "ess_per_second": drawn["ess"] / drawn["seconds"],
            }
    return figures


def _answer(peer: workers.Worker, task: str, number: int, seed: int) -> dict[str, Any]:
    print(f"peer: {task}", file=sys.stderr, flush=True)
    answer = peer.ask(task, number, seed)
    assert answer is not None
    return answer


def peer_recorded() -> dict[str, Any]:
    """The same figures from ``peer/recorded.json``."""
    kept = install.recorded()
    figures: dict[str, Any] = {}
    for name in PROGRAMS:
        for core in CORES:
            figures[f"{name} train {core}"] = kept["figures"][name][f"train_{core}_256"]["median"]
            figures[f"{name} infer {core}"] = kept["figures"][name][f"infer_{core}"]["median"]
    for run in kept["ess_of_5000_traces_at_8_9"]:
        if run["proposal"] in CORES:
            rate = figures[f"{run['model']} infer {run['proposal']}"]
            figures[f"{run['model']} ess {run['proposal']}"] = {
                "training_traces": run["train_traces"],
                "training_seconds": run["train_seconds"],
                "traces": 5000,
                "ess": run["ess"],
                "ess_per_second": run["ess"] / 5000 * rate,
            }
    return figures


def peer_seconds_to(figures: dict[str, Any], wanted: float) -> tuple[str, float]:
    """Which of the peer's networks would reach an effective sample size on GUM-M first, and in how many seconds."""
    runs = {core: figures[f"GUM-M ess {core}"] for core in CORES}
    seconds = {core: run["training_seconds"] + wanted / run["ess_per_second"] for core, run in runs.items()}
    core = min(seconds, key=seconds.__getitem__)
    return core, seconds[core]


# -- the result --------------------------------------------------------------------------------------------------------


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole result, as it is kept in JSON."""
    result: dict[str, Any] = {"machine": machine.description(), "cores": arguments.cores, "quick": arguments.quick}
    python = None
    if not arguments.no_peer:
        try:
            python = install.install()
        except install.CannotInstall as reason:
            print(f"peer: cannot be installed here ({reason})", file=sys.stderr)
    peer = peer_live(python, 0.15 if arguments.quick else 1.0) if python else peer_recorded()
    kept = install.recorded()
    result["peer"] = "pyprob 1.5.0, timed in this run" if python else f"recorded, {kept['date']}, {kept['conditions']}"
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-arguments.cores :])
    os.environ.setdefault("JAX_PLATFORMS", "cpu")

    from ppl_jax.nn import LSTM, FeedForward

    seconds, number = (3.0, 1000) if arguments.quick else (12.0, 10_000)
    cores = {"lstm": LSTM(WIDTH), "ff": FeedForward(WIDTH, 2)}
    for name in PROGRAMS:
        for label, batch_size in (("lstm", 256), ("lstm", 1024), ("ff", 256)):
            print(f"ours: {name} {label} {batch_size}", file=sys.stderr, flush=True)
            figures, trainer = training(name, cores[label], batch_size, seconds)
            result[f"{name} train {label} {batch_size}"] = figures
            if batch_size == 1024:
                result[f"{name} step"] = step_share(trainer, 2 if arguments.quick else 6)
            else:
                result[f"{name} infer {label}"] = guided(name, trainer.network(), number)
            if batch_size == 256 and label == "lstm":
                result |= {f"{name} chains {kind}": f for kind, f in chains(name, trainer.network(), number).items()}
    wanted = 200.0 if arguments.quick else 1000.0
    for label, width in TO_ESS.items():
        print(f"ours: time to an effective sample size, {label}", file=sys.stderr, flush=True)
        result[f"to ESS {label}"] = time_to_ess(width, 10_000 if arguments.quick else 20_000, wanted)
    core, needed = peer_seconds_to(peer, wanted)
    result |= {"peer figures": peer, "wanted": wanted, "peer to ESS": {"core": core, "seconds": needed}}
    return result


def table(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the result."""
    peer = result["peer figures"]
    heads = ["", "GUM", "GUM-M"]
    rows = []
    for core, said in CORES.items():
        for batch_size in (256, 1024) if core == "lstm" else (256,):
            row = [f"online training, {said}, batch {batch_size}, traces/s"]
            rows.append(row + _beside(result, f"train {core} {batch_size}", f"train {core}", peer))
    for core, said in CORES.items():
        row = [f"guided inference, {said}, traces/s"]
        rows.append(row + _beside(result, f"infer {core}", f"infer {core}", peer))
    row = ["a step at batch 1024, LSTM 512"]
    for name in PROGRAMS:
        step = result[f"{name} step"]
        speeds = f"{step['gflops']:.0f} of {step['limit_gflops']:.0f} GFLOP/s"
        row.append(f"{step['step_ms']:.0f} ms, {speeds}: {step['share']:.0%}")
    rows.append(row)
    needed = result["peer to ESS"]
    for label in TO_ESS:
        own = result[f"to ESS {label}"]
        ratio = needed["seconds"] / own["seconds"]
        said = f"{own['seconds']:.0f} s, peer {needed['seconds']:,.0f} s: {ratio:.0f} times"
        rows.append([f"from nothing to an ESS of {result['wanted']:,.0f}, {label}", "", said])
    return heads, rows


def _beside(result: dict[str, Any], key: str, theirs: str, peer: dict[str, Any]) -> list[str]:
    cells = []
    for name in PROGRAMS:
        own, other = result[f"{name} {key}"]["traces_per_second"], peer[f"{name} {theirs}"]
        cells.append(f"{own:,.0f}, peer {other:,.0f}: {own / other:.0f} times")
    return cells


def remarks(result: dict[str, Any]) -> list[str]:
    """What the table cannot hold."""
    about = result["machine"]
    said = [
        f"{about['date']}, {about['cpu']}, {result['cores']} core(s), load {about['load']} when the run began; Python "
        f"{about['python']}, jax {about['jax']}. Peer: {result['peer']}, at batch 256."
        + (" A quick look: take no figure from it." if result["quick"] else "")
    ]
    for name in PROGRAMS:
        step, trained = result[f"{name} step"], result[f"{name} train lstm 256"]
        said.append(
            f"{name}, a step at batch 1024: {step['gflop']:.2f} GFLOP of matrix products ({step['draws']:,.0f} draws "
            f"in {step['cells']:,.0f} cells); the limit is the LSTM's product, 1024 x 512 x 2048, in float32, alone. "
            f"The step's own products take {step['products_alone_ms']:.0f} ms one by one, which is "
            f"{step['share_of_own_products']:.0%} of the step."
        )
        said.append(
            f"{name}, LSTM 512, batch 256: {trained['compilations']} compilation(s) of the step, "
            f"{trained['first_steps_seconds']:.0f} s for the first three steps."
        )
    for label in TO_ESS:
        own = result[f"to ESS {label}"]
        said.append(
            f"Time to an ESS, {label}: {own['training_traces']:,} training traces, then {own['traces']:,} guided ones "
            f"to an ESS of {own['ess']:,.0f}. The seconds run from the start of the process, with nothing compiled; "
            f"{own['seconds_warm']:.0f} s where JAX's cache has the programs. Mean {own['standard_errors_off']:.1f} "
            "standard errors off."
        )
    for name in PROGRAMS:
        for label in ("random walk", "random walk and network"):
            own = result[f"{name} chains {label}"]
            said.append(
                f"{name}, 32 chains of Metropolis-Hastings, {label}: {own['steps_per_second']:,.0f} steps/s, "
                f"{own['effective_per_second']:,.0f} effective values/s (Geyer), mean "
                f"{own['standard_errors_off']:.1f} standard errors off."
            )
    core = result["peer to ESS"]["core"]
    run = result["peer figures"][f"GUM-M ess {core}"]
    said.append(
        f"The peer's time to an ESS is extrapolated: after {run['training_traces']:,} training traces "
        f"({run['training_seconds']:.0f} s) its {CORES[core]} network, the better one, had an ESS of {run['ess']:.1f} "
        f"from {run['traces']:,} guided traces, {run['ess_per_second']:.2f} a second."
    )
    said.append(
        "GUM-M is simulated so fast that importance sampling without a network gets there before any training ends: "
        "0.7 % of its traces count, which is 150,000 of them for an ESS of 1,000. The comparison is of networks."
    )
    return said


def markdown(result: dict[str, Any]) -> str:
    """The table and the remarks for README.md."""
    heads, rows = table(result)
    lines = ["| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads), *rows)]
    return "\n".join([*lines, "", *(f"- {sentence}" for sentence in remarks(result))])


def is_right(result: dict[str, Any]) -> bool:
    """Whether every posterior mean is within 5 standard errors of the exact one."""
    errors = [figures["standard_errors_off"] for figures in result.values() if _has_errors(figures)]
    return max(errors) < 5.0


def _has_errors(figures: Any) -> bool:
    return isinstance(figures, dict) and "standard_errors_off" in figures


def main() -> int:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description="Times inference compilation, beside the peer.")
    parser.add_argument("--cores", type=int, default=1, help="cores to use (default 1, as the peer)")
    parser.add_argument("--quick", action="store_true", help="less of everything, for a first look")
    parser.add_argument("--no-peer", action="store_true", help="compare with the recorded figures of the peer")
    parser.add_argument("--json", type=Path, default=RESULT, help="where the result is kept")
    parser.add_argument("--write", action="store_true", help="put the figures kept in --json into README.md, and stop")
    arguments = parser.parse_args()
    if arguments.write:
        before, rest = README.read_text().split(BEGIN)
        result = json.loads(arguments.json.read_text())
        README.write_text(f"{before}{BEGIN}\n\n{markdown(result)}\n\n{END}{rest.split(END)[1]}")
        return 0
    result = measure(arguments)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(markdown(result))
    return 0 if is_right(result) else 1


if __name__ == "__main__":
    sys.exit(main())
