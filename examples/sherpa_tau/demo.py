"""What made this shower? The Sherpa event generator, inverted: from a calorimeter's image to the decay of a tau lepton.

    python examples/sherpa_tau/demo.py [--events 80000] [--hours 0.15] [--output build/demo]    (or: make demo)

The simulator is the program ``tau`` (see README.md): Sherpa decays a tau lepton, unmodified but for its random numbers,
which are taken over through PPX; a calorimeter of voxels measures the visible particles, with noise. A network learns
from simulated decays to propose how an image came about; it is tried on a hundred events of known truth, and on one of
them it is compared, at length, with random-walk Metropolis-Hastings, which knows no network. The outcome is a page,
``index.html``, that holds all pictures and figures.
"""

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import figures
import network
import numpy as np
import simulator as sherpa
from comparison import shares
from inference import CHAINS, Tests, compiled, metropolis, test
from posterior import MOMENTUM, Summary, quantities, truth_of
from report import compare, describe, page

import ppl_jax as ppl

SIMULATING = 2  # processes that make the dataset
PRIOR_EVENTS = 2000  # of the dataset, for the prior in the pictures
SEEDS = {"dataset": 1, "training": 2, "held out": 11, "tests": 1000, "compiled": 5, "metropolis": 6}


@dataclass(frozen=True)
class Plan:
    """How much of everything; ``scaled`` gives one for a number of hours on two cores.

    Attributes:
      training: traces that the network sees.
      tests: events of known truth.
      traces: executions for each of them.
      shown: executions for the event that is shown.
      steps: of Metropolis-Hastings for that event, all chains together.
    """

    training: int
    tests: int
    traces: int
    shown: int
    steps: int

    @classmethod
    def scaled(cls, hours: float, tests: int) -> "Plan":
        """What takes about so many hours on two cores, simulating the dataset not included."""
        traces = max(50, int(4000 * hours))
        return cls(int(3_000_000 * hours), tests, traces, int(40_000 * hours), int(500_000 * hours))


def main() -> None:
    """Command line: see ``--help``."""
    arguments = parse()
    plan = Plan.scaled(arguments.hours, arguments.tests)
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    clock = Clock()
    channels = sherpa.channels(arguments.program)
    flags = sherpa.flags(vars(arguments))
    with sherpa.start(arguments.program, flags, SIMULATING) as tau:
        with clock("simulating", f"{arguments.generator} simulates {arguments.events:,} decays"):
            folder = output / f"events-{sherpa.fingerprint(arguments.program, flags)}"
            events = sherpa.simulate(tau, folder, arguments.events, SEEDS["dataset"])
        print(f"  {len(events):,} decays, {events.info().bytes / 1e6:.0f} MB", flush=True)
        unseen = sherpa.held_out(tau, plan.tests, SEEDS["held out"])
    truths = [truth_of(trace) for trace in unseen]
    images = [np.asarray(trace["calorimeter"]) for trace in unseen]
    with clock("training", f"a network learns from them, {plan.training:,} traces"):
        guide = network.train(events, plan.training, SEEDS["training"], folder / f"training-{plan.training}")
    with sherpa.start(arguments.program, flags, arguments.processes) as tau:
        with clock("testing", f"{plan.tests} events of known truth are inferred, {plan.traces} traces each"):
            pairs = zip(images, truths, strict=True)
            tests = test(tau, guide, pairs, plan.traces, channels.ratios, SEEDS["tests"])
        chosen = choose(truths) if arguments.event is None else arguments.event
        truth, image = truths[chosen], images[chosen]
        print(f"the event shown is number {chosen}: {describe(truth, channels.names)}", flush=True)
        posteriors = {}
        with clock(figures.IC, f"{figures.IC}, {plan.shown:,} traces"):
            posteriors[figures.IC] = compiled(tau, guide, image, plan.shown, SEEDS["compiled"])
        with clock(figures.MH, f"{figures.MH}, {CHAINS} chains, {plan.steps:,} steps in all"):
            posteriors[figures.MH] = metropolis(tau, image, plan.steps, SEEDS["metropolis"])
    prior = quantities(ppl.Empirical(events.take(slice(0, PRIOR_EVENTS))))
    comparison = compare(prior, channels, truth, posteriors, tests)
    print("\n" + "\n".join(comparison.lines()), flush=True)
    draw(output, prior, channels, truth, image, posteriors, tests, guide.history)
    seconds = clock.stopped()
    page(output, comparison, seconds, describe(truth, channels.names), vars(arguments) | vars(plan))
    results = comparison.as_dict() | {"wall times": seconds}
    (output / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"\n{seconds['in all']:.0f} s in all; everything is in {output / 'index.html'}")


class Clock:
    """Says what is done and how long it took; ``stopped()`` gives all seconds by name."""

    def __init__(self) -> None:
        self._begin = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str, doing: str) -> Iterator[None]:
        """The time of a with statement's body."""
        print(f"{doing} ...", flush=True)
        start = time.perf_counter()
        yield
        self._seconds[name] = time.perf_counter() - start
        print(f"  {self._seconds[name]:.1f} s", flush=True)

    def stopped(self) -> dict[str, float]:
        """All times, and the time since the beginning as "in all"."""
        return self._seconds | {"in all": time.perf_counter() - self._begin}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Infers how a tau lepton decayed in an event generator from an image.")
    parser.add_argument("--events", type=int, default=80_000, help="decays to simulate for training")
    parser.add_argument("--hours", type=float, default=0.15, help="for training and inference, on two cores")
    parser.add_argument("--tests", type=int, default=100, help="events of known truth that are inferred")
    parser.add_argument("--event", type=int, help="which of them is shown (default: the first like most)")
    for name, (default, meaning) in sherpa.DETECTOR.items():
        parser.add_argument(f"--{name}", default=default, help=f"{meaning} (default {default})")
    parser.add_argument("--processes", type=int, default=32, help="of the simulator, side by side under the network")
    parser.add_argument("--program", type=Path, default=sherpa.PROGRAM, help="the simulator")
    parser.add_argument("--generator", default="Sherpa", help="what the event generator in it is called")
    parser.add_argument("--output", type=Path, default=Path("build/demo"), help="folder for the page and all else")
    arguments = parser.parse_args()
    try:
        sherpa.flags(vars(arguments))
    except ValueError:
        parser.error("--grid must be three numbers of voxels, as 3,12,12, and --noise a number of GeV")
    if arguments.events < 1000 or arguments.hours <= 0.0 or arguments.tests < 2:
        parser.error("at least 1,000 events, 2 tests and more than 0 hours are needed")
    if arguments.event is not None and not 0 <= arguments.event < arguments.tests:
        parser.error(f"--event must be a number of a test event, 0 to {arguments.tests - 1}")
    return arguments


def choose(truths: list[Summary]) -> int:
    """The first event like most: an image that says something, of 40 to 80 per cent of the energy."""
    for number, truth in enumerate(truths):
        visible, missing = (truth.values[name][0] for name in ("visible", "missing"))
        if 0.4 < visible / (visible + missing) < 0.8:
            return number
    return 0


def draw(
    output: Path,
    prior: dict[str, np.ndarray],
    channels: sherpa.Channels,
    truth: Summary,
    image: np.ndarray,
    posteriors: dict[str, Summary],
    tests: Tests,
    history: Any,
) -> None:
    """All pictures."""
    found = {name: shares(one.channels, one.weights, len(channels.names)) for name, one in posteriors.items()}
    figures.draw_calorimeter(output / "calorimeter.png", image, truth, posteriors)
    figures.draw_momentum(output / "momentum.png", prior, truth, posteriors)
    figures.draw_channels(output / "channels.png", channels.names, channels.ratios, int(truth.channels[0]), found)
    figures.draw_energies(output / "energies.png", prior, truth, posteriors)
    prior_means = [float(prior[name].mean()) for name in MOMENTUM]
    figures.draw_coverage(output / "coverage.png", tests.truths, tests.intervals, tests.means, prior_means)
    figures.draw_training(output / "training.png", history)
    figures.draw_chains(output / "chains.png", truth, posteriors[figures.MH])


if __name__ == "__main__":
    main()
