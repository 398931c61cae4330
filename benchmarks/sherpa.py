"""Times the tau decays of Sherpa, or of Pythia: the bare simulator, and with every latent recorded, in turns.

    python benchmarks/sherpa.py            prints a table; the result is kept in build/benchmarks-sherpa.json
    python benchmarks/sherpa.py --quick    a quarter of the work and two repeats, for a first look
    python benchmarks/sherpa.py --program build/pythia_tau/tau --json build/benchmarks-pythia.json

Bare: the program by itself; the hook draws from a Mersenne Twister, and voxels get their noise from one too.
Recorded: traces from the prior, drawn by the simulator in one process, sent and kept here, every latent in them.
The generator's loops are rejection scopes, of which a trace has the accepted pass; with --rejected the draws of all
passes are sites, and nearly every trace has a layout of its own, which costs the inference side much. Both are run in
turns, so that what else the machine does befalls them alike; a run begins after start-up. Processor time is that of the
simulator and that of the inference side, which run side by side. The exit status is 1 if less than 30 per cent of the
bare rate is reached, the run with --rejected apart.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import machine

import ppl_jax as ppl

ROOT = Path(__file__).resolve().parents[1]
TAU = ROOT / "build" / "sherpa_tau" / "tau"
RESULT = ROOT / "build" / "benchmarks-sherpa.json"
# Options -> events in a run: of the default grid a trace has 400 kB.
CASES = {
    "--grid 20,35,35": 1000,
    "--grid 10,17,17": 4000,
    "--grid 1,1,1": 8000,
    "--grid 1,1,1 --rejected": 2000,
}
TICK = 1.0 / os.sysconf("SC_CLK_TCK")  # s


def bare(program: Path, options: list[str], events: int, seed: int) -> float:
    """Events per second without PPX, as the program measures them."""
    command = [program, "--bare", str(events), *options, "--seed", str(seed)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def processor_time(pid: int) -> float:
    """Seconds that a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def recorded(simulator: ppl.RemoteModel, events: int, seed: int) -> dict[str, float]:
    """Traces per second from the prior, and processor time for each, microseconds."""
    (pid,) = simulator.process_ids
    begin, simulators, own = time.perf_counter(), processor_time(pid), time.process_time()
    prior = ppl.prior(simulator, events, seed=seed, progress=False)
    taken = time.perf_counter() - begin
    assert len(prior) == events
    return {
        "rate": events / taken,
        "simulator_us": 1e6 * (processor_time(pid) - simulators) / events,
        "inference_us": 1e6 * (time.process_time() - own) / events,
    }


def compare(program: Path, options: list[str], events: int, repeats: int) -> dict[str, Any]:
    """Medians over repeats of both, in turns."""
    with ppl.RemoteModel(command=[str(program), *options, "{endpoint}"]) as simulator:
        ppl.prior(simulator, events // 10, seed=0, progress=False)  # not counted: the first meeting of every site
        rates, runs = [], []
        for repeat in range(1, repeats + 1):
            rates.append(bare(program, options, events, repeat))
            runs.append(recorded(simulator, events, repeat))
    figures = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    shares = [run["rate"] / rate for run, rate in zip(runs, rates, strict=True)]
    return {
        "events": events,
        "bare": statistics.median(rates),
        **figures,
        "share": statistics.median(shares),
        "shares": shares,
    }


def text(result: dict[str, Any]) -> str:
    """The result as a table."""
    heads = "bare/s", "recorded/s", "share", "simulator us", "inference us"
    lines = [" " * 28 + "".join(f"{head:>14s}" for head in heads)]
    for options, found in result["cases"].items():
        lines.append(
            f"{options:28s}{found['bare']:14,.0f}{found['rate']:14,.0f}{found['share']:14.0%}"
            f"{found['simulator_us']:14.0f}{found['inference_us']:14.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Command line: see ``--help``."""
    parser = argparse.ArgumentParser(description="Times a generator's tau decays with and without PPX.")
    parser.add_argument("--quick", action="store_true", help="a quarter of the work, 2 repeats, for a first look")
    parser.add_argument("--repeats", type=int, help="repeats of which the median is taken (default 5)")
    parser.add_argument("--program", type=Path, default=TAU, help="the simulator (default that with Sherpa)")
    parser.add_argument("--json", type=Path, default=RESULT, help="where the result is kept")
    arguments = parser.parse_args()
    if not arguments.program.exists():
        sys.exit(f"there is no {arguments.program}: run make sherpa, or make pythia")
    repeats = arguments.repeats or (2 if arguments.quick else 5)
    scale = 4 if arguments.quick else 1
    result = {
        "machine": machine.description(),
        "repeats": repeats,
        "cases": {
            options: compare(arguments.program, options.split(), events // scale, repeats)
            for options, events in CASES.items()
        },
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(text(result))


if __name__ == "__main__":
    main()
