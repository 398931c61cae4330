"""Times this library on one core, beside the peer and the bare machine, in one run.

    python benchmarks/run.py                    everything (minutes); the result is kept in build/benchmarks.json
    python benchmarks/run.py --quick            a quarter of the work and two repeats, for a first look
    python benchmarks/run.py --only "GUM prior" the works whose name contains this; ``--only memory`` likewise
    python benchmarks/run.py --write            puts the figures of the last result into README.md; measures nothing

Repeats alternate: ours, the floor, the peer, ours, ... Where the peer cannot be installed the output says so, and
compares with ``peer/recorded.json``. The exit status is 1 if an engine gave a wrong answer, however fast, or if a work
was too short beside what a call takes to start for its rate to be told.
"""

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import machine
import memory
import report
from peer import install
from workers import CACHE, Worker

RESULT = Path(__file__).resolve().parents[1] / "build" / "benchmarks.json"
ALLOWED = 5.0  # Monte Carlo standard errors between a mean and the exact one
FIRST_SEED = 1


class Work(NamedTuple):
    """One thing that is timed: ``number`` executions a repeat, ``peer_number`` of the peer."""

    program: str
    engine: str
    backend: str
    number: int
    peer_number: int = 0

    @property
    def name(self) -> str:
        return f"{self.program} {self.engine} {self.backend}"


WORKS = (
    Work("GUM", "prior", "host", 40_000, 2000),
    Work("GUM", "importance_sampling", "host", 40_000, 2000),
    Work("GUM", "random_walk_mh", "host", 20_000, 2000),
    Work("GUM", "lightweight_mh", "host", 20_000, 2000),
    Work("GUM-M", "prior", "host", 20_000, 1000),
    Work("GUM-M", "importance_sampling", "host", 20_000, 1000),
    Work("GUM-M", "random_walk_mh", "host", 20_000, 1000),
    Work("GUM-M", "lightweight_mh", "host", 20_000, 1000),
    Work("HMM", "prior", "host", 4000, 300),
    Work("HMM", "importance_sampling", "host", 8000, 300),
    Work("HMM", "smc", "host", 1000),
    Work("GUM", "prior", "jax", 4_000_000),
    Work("GUM", "importance_sampling", "jax", 4_000_000),
    Work("GUM", "nuts", "jax", 400_000),
)
EMPTY_CALLS = 1_000_000
HELD = 1_000_000  # traces of the posterior whose memory is measured
QUICK = 4  # how many times less work a quick look does; still less could not tell right answers from wrong
RECORDED_NAMES = {"HMM": "hidden Markov, 16 steps"}


def time_work(work: Work, repeats: int, ours: Worker, floors: Worker, peer: Worker | None) -> dict[str, Any]:
    """The figures of one work, the median of several repeats."""
    # The first calls import, allocate, fill memo tables, and compile: for JAX, the very program that is timed.
    first = ours.ask(work.name, work.number if work.backend == "jax" else work.number // 10, 0)
    floors.ask(work.name, work.number // 10, 0)
    if peer is not None and work.peer_number:
        peer.ask(work.name, work.peer_number // 10, 0)
    answers, floor_seconds, peer_answers = [], [], []
    for seed in range(FIRST_SEED, FIRST_SEED + repeats):
        answers.append(ours.ask(work.name, work.number, seed))
        floor = floors.ask(work.name, work.number, seed)
        floor_seconds += [floor["seconds"]] if floor else []
        if peer is not None and work.peer_number:
            peer_answers.append(peer.ask(work.name, work.peer_number, seed))
    figure: dict[str, Any] = {**work._asdict(), "unit": _unit(work)}
    rates = [resolved_rate(work.number, answer["seconds"], answer["start"]) for answer in answers]
    figure["resolved"] = None not in rates
    figure |= _spread([rate for rate in rates if rate is not None] if figure["resolved"] else [])
    figure["floor"] = work.number / statistics.median(floor_seconds) if floor_seconds else None
    figure["core_share"] = sum(answer["cpu"] for answer in answers) / sum(answer["seconds"] for answer in answers)
    figure["first_start"] = first["start"]
    figure["start"] = statistics.median(answer["start"] for answer in answers)
    ess_rates = [resolved_rate(a["ess"], a["seconds"], a["start"]) for a in answers]
    figure["ess_per_second"] = statistics.median(r for r in ess_rates if r is not None) if figure["resolved"] else None
    figure["answers"] = [{key: answer[key] for key in ("mean", "exact", "standard_error")} for answer in answers]
    figure["deviation"] = max(abs(a["mean"] - a["exact"]) / a["standard_error"] for a in answers)
    figure["correct"] = figure["deviation"] < ALLOWED
    figure["peer"] = None
    if peer_answers:
        figure["peer"] = _spread([work.peer_number / answer["seconds"] for answer in peer_answers])
        figure["peer"]["means"] = [answer["mean"] for answer in peer_answers]
    elif peer is None and work.backend == "host":
        found = install.recorded()["figures"][RECORDED_NAMES.get(work.program, work.program)].get(work.engine)
        figure["peer"] = found and {"median": found["median"]}
    figure["ratio"] = figure["median"] / figure["peer"]["median"] if figure["peer"] and figure["resolved"] else None
    return figure


def resolved_rate(number: float, seconds: float, start: float) -> float | None:
    """``number`` per second of what a call takes beyond starting; None where that is less than starting takes.

    The time of starting is measured by another call and varies by tenths: what is left of a shorter call is noise, and
    may even be negative.
    """
    return number / (seconds - start) if seconds - start >= start else None


def _unit(work: Work) -> str:
    return "steps/s" if work.engine.endswith("mh") or work.engine == "nuts" else "traces/s"


def _spread(rates: list[float]) -> dict[str, Any]:
    if not rates:
        return {"median": None, "low": None, "high": None}
    return {"median": statistics.median(rates), "low": min(rates), "high": max(rates)}


def time_works(names: list[Work], repeats: int, peer_python: Path | None) -> tuple[list[dict[str, Any]], float | None]:
    """Figures of all works, and the seconds of one empty function call."""
    if not names:
        return [], None
    figures = []
    shutil.rmtree(CACHE, ignore_errors=True)
    with ExitStack() as stack:
        ours, floors = (stack.enter_context(Worker(sys.executable, module)) for module in ("engines", "floors"))
        peer = stack.enter_context(Worker(peer_python, "peer.models")) if peer_python else None
        for work in names:
            with _said(work.name):
                figures.append(time_work(work, repeats, ours, floors, peer))
        calls = [floors.ask("empty call", EMPTY_CALLS, seed) for seed in range(repeats)]
    return figures, statistics.median(call["seconds"] for call in calls if call) / EMPTY_CALLS


def measure_memory(number: int, only: str) -> list[dict[str, Any]]:
    """Memory of posteriors in memory and on disk, made by the host and by JAX."""
    found = []
    for on_disk in (False, True):
        for backend in ("host", "jax"):
            name = f"memory {'on disk' if on_disk else 'in memory'} {backend}"
            if only in name:
                with _said(name):
                    found.append(memory.measure(number, backend, on_disk))
    return found


@contextmanager
def _said(name: str) -> Iterator[None]:
    """Says on standard error what is being measured: standard output holds only the result."""
    print(f"bench: {name}", file=sys.stderr, flush=True)
    yield


def peer_environment(wanted: bool) -> tuple[Path | None, str]:
    """The peer's Python and what it is, or None and why there is none."""
    if not wanted:
        return None, f"not timed in this run (--no-peer); {report.origin(install.recorded())}"
    try:
        python = install.install()
    except install.CannotInstall as reason:
        return None, f"cannot be installed here ({reason}); {report.origin(install.recorded())}"
    with Worker(python, "peer.models") as peer:
        versions = peer.ask("versions", 0, 0)
    return python, ", ".join(f"{name} {version}" for name, version in (versions or {}).items()) + ", timed in this run"


def measure(quick: bool, only: str, repeats: int, with_peer: bool) -> dict[str, Any]:
    """The whole result, as it is kept in JSON."""
    works = [work for work in WORKS if only in work.name]
    if quick:
        works = [work._replace(number=work.number // QUICK, peer_number=work.peer_number // QUICK) for work in works]
    has_peer = any(work.peer_number for work in works)
    python, peer = peer_environment(with_peer) if has_peer else (None, "has no part in these works")
    figures, empty_call = time_works(works, repeats, python)
    return {
        "machine": machine.description(),
        "settings": {"quick": quick, "only": only, "repeats": repeats},
        "peer": peer,
        "works": figures,
        "empty_call": empty_call,
        "memory": measure_memory(HELD // QUICK if quick else HELD, only),
    }


def main() -> int:
    """Command line: see ``--help``."""
    parser = argparse.ArgumentParser(description="Times this library on one core, beside the peer.")
    parser.add_argument("--quick", action="store_true", help="a quarter of the work, 2 repeats, for a first look")
    parser.add_argument("--only", default="", metavar="NAME", help="only works whose name contains NAME")
    parser.add_argument("--repeats", type=int, help="repeats of which the median is taken (default 5)")
    parser.add_argument("--json", type=Path, default=RESULT, help="where the result is kept (build/benchmarks.json)")
    parser.add_argument("--no-peer", action="store_true", help="compare with the recorded figures of the peer")
    parser.add_argument("--write", action="store_true", help="put the figures kept in --json into README.md, and stop")
    arguments = parser.parse_args()
    if arguments.write:
        report.write_readme(json.loads(arguments.json.read_text()))
        return 0
    repeats = arguments.repeats or (2 if arguments.quick else 5)
    result = measure(arguments.quick, arguments.only, repeats, not arguments.no_peer)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(report.text(result))
    return 0 if all(figure["correct"] and figure["resolved"] for figure in result["works"]) else 1


if __name__ == "__main__":
    sys.exit(main())
