"""Times simulators in other processes: messages, whole batches, steps with and without replay, many processes.

    python benchmarks/ppx/remote.py            prints a table; the result is kept in build/benchmarks-ppx.json
    python benchmarks/ppx/remote.py --quick    a fifth of the work and two repeats, for a first look
    python benchmarks/ppx/remote.py --write    puts the figures of the last result into README.md; measures nothing

The simulators are in C++ and are built first: the examples and the programs of the tests. One process of a simulator,
one of inference, each free to use any core. A message is a request with its answer. The floor of a message is the same
round trip between two Python processes that do nothing else. Last, many processes of one simulator: what it takes to
start 64 that compute for a quarter of a second and fill 50 MB before they serve, each by itself and as copies of one
start; and executions of `examples/track` under a network, in 8 processes and in 64 copies. The exit status is 1 if an
answer was wrong.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zmq

import ppl_jax as ppl
from ppx.mailbox import Mailbox, attach, create

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))
import machine  # noqa: E402 - it is beside this folder

RESULT = ROOT / "build" / "benchmarks-ppx.json"
README = ROOT / "benchmarks" / "README.md"
BEGIN, END = "<!-- figures of PPX: written by ppx/remote.py --write -->", "<!-- end of the figures of PPX -->"
GUM_DATA = {"obs0": 8.0, "obs1": 9.0}
HITS = {f"hit {plane}": 3.0 * plane for plane in range(8)}  # mm, of a track in examples/track
MANY = 64  # processes
ALLOWED = 5.0  # Monte Carlo standard errors between a mean and the exact one


def build() -> dict[str, Path]:
    """The simulators, built."""
    tests, examples = ROOT / "build" / "tests-ppx-cpp" / "release", ROOT / "build" / "examples"
    tests.mkdir(parents=True, exist_ok=True)
    for command in (
        ["cmake", "-S", str(ROOT / "tests" / "ppx" / "cpp"), "-B", str(tests), "-DCMAKE_BUILD_TYPE=Release"],
        ["cmake", "--build", str(tests), "--target", "programs", "forks", "gum", "gum_marsaglia", "track"],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    folder = tests / "examples" if (tests / "examples" / "gum").is_file() else examples
    mine = {name: tests / name for name in ("programs", "forks")}
    return {**mine, **{name: folder / name for name in ("gum", "gum_marsaglia", "track")}}


def rate(number: float, work: Callable[[], Any], repeats: int) -> dict[str, float]:
    """``number`` per second: median, least and greatest of several repeats, after one that is not counted."""
    work()
    found = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        found.append(number / (time.perf_counter() - begin))
    return {"median": statistics.median(found), "low": min(found), "high": max(found)}


# -- floors ------------------------------------------------------------------------------------------------------------


def zeromq_echo(endpoint: str) -> None:
    """Sends back what comes, until an empty message."""
    socket = zmq.Context().socket(zmq.REP)
    socket.bind(endpoint)
    while message := socket.recv():
        socket.send(message)


def zeromq_floor(number: int, repeats: int) -> dict[str, float]:
    """Round trips of 100 bytes by ZeroMQ."""
    with tempfile.TemporaryDirectory() as folder:
        endpoint = f"ipc://{folder}/echo.ipc"
        process = multiprocessing.get_context("spawn").Process(target=zeromq_echo, args=(endpoint,))
        process.start()
        socket = zmq.Context.instance().socket(zmq.REQ)
        socket.connect(endpoint)

        def work() -> None:
            for _ in range(number):
                socket.send(b"x" * 100)
                socket.recv()

        found = rate(number, work, repeats)
        socket.send(b"")
        process.join()
        socket.close(linger=0)
        return found


def mailbox_echo(shared: Any) -> None:
    """Sends back what comes, until an empty message."""
    mailbox = attach(shared)
    assert mailbox is not None
    with mailbox:
        while (message := mailbox.receive()) is not None and len(message):
            mailbox.send(bytes(message))


def mailbox_floor(number: int, repeats: int) -> dict[str, float] | None:
    """Round trips of 100 bytes through shared memory."""
    made = create()
    if made is None:
        return None
    mailbox: Mailbox = made[0]
    process = multiprocessing.get_context("spawn").Process(target=mailbox_echo, args=(made[1],))
    process.start()

    def work() -> None:
        for _ in range(number):
            mailbox.send(b"x" * 100)
            mailbox.receive()

    with mailbox:
        found = rate(number, work, repeats)
        mailbox.send(b"")
        process.join()
    return found


# -- works -------------------------------------------------------------------------------------------------------------


def draw_by_draw(simulator: ppl.RemoteModel, executions: int, repeats: int) -> dict[str, float]:
    """Messages that importance sampling with a proposal handles: one for each of 1,000 draws, one for the end."""
    return rate(
        1001 * executions,
        lambda: ppl.importance_sampling(
            simulator, {"y": 3.0}, executions, proposal=lambda site: None, seed=1, progress=False
        ),
        repeats,
    )


def by_itself(path: Path, traces: int, repeats: int) -> dict[str, Any]:
    """Traces of a prior that the simulator draws by itself, addresses and parameters recorded; the exact mean is 1."""
    runs = []
    with ppl.RemoteModel(command=[str(path), "{endpoint}"]) as simulator:
        found: dict[str, Any] = rate(
            traces, lambda: runs.append(ppl.prior(simulator, traces, seed=len(runs), progress=False)), repeats
        )
    means = [run.map(_result).mean for run in runs]
    found["deviation"] = float(max(abs(mean - 1.0) / np.sqrt(5.0 / traces) for mean in means))
    return found


def _result(trace: Any) -> float:
    return trace.result


def chain(model: Callable[[], Any], steps: int, repeats: int) -> dict[str, float]:
    """Steps of random-walk Metropolis-Hastings over 1,000 latents."""
    return rate(
        steps,
        lambda: ppl.metropolis_hastings(model, {"y": 3.0}, steps, burn_in=0, seed=1, progress=False),
        repeats,
    )


def start_many(path: Path, number: int, fork: bool, repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds until all processes have served an execution, and the memory that all take together, MB."""
    seconds, megabytes = [], []
    for _ in range(repeats):
        begin = time.perf_counter()
        with ppl.RemoteModel(
            command=[str(path), "{endpoint}", "heavy"], num_processes=number, fork=fork, start_timeout=600.0
        ) as simulator:
            ppl.prior(simulator, 64 * number, seed=1, progress=False)
            seconds.append(time.perf_counter() - begin)
            pids = psutil.Process().children(recursive=True)
            megabytes.append(sum(process.memory_full_info().pss for process in pids) / 1e6)
    return _median(seconds), _median(megabytes)


def _median(numbers: list[float]) -> dict[str, float]:
    return {"median": statistics.median(numbers), "low": min(numbers), "high": max(numbers)}


def guided(path: Path, network: Any, traces: int, repeats: int, **options: Any) -> dict[str, float]:
    """Traces of importance sampling under a network."""
    with ppl.RemoteModel(command=[str(path), "{endpoint}"], **options) as simulator:
        return rate(
            traces,
            lambda: ppl.importance_sampling(simulator, HITS, traces, proposal=network, seed=1, progress=False),
            repeats,
        )


def measure(quick: bool, repeats: int) -> dict[str, Any]:
    """All figures, as they are kept in JSON."""
    paths, less = build(), 5 if quick else 1
    figures: dict[str, Any] = {}

    def said(name: str, unit: str, found: dict[str, Any] | None, floor: str = "") -> None:
        if found is not None:
            figures[name] = {**found, "unit": unit, "floor": figures[floor]["median"] if floor in figures else None}
            print(f"bench: {name}: {found['median']:,.0f} {unit}", file=sys.stderr, flush=True)

    said("raw round trip, ZeroMQ", "messages/s", zeromq_floor(5000 // less, repeats))
    said("raw round trip, shared memory", "messages/s", mailbox_floor(50_000 // less, repeats))
    thousand = [str(paths["programs"]), "{endpoint}", "thousand"]
    for name, shared in (("ZeroMQ", False), ("shared memory", True)):
        with ppl.RemoteModel(command=thousand, shared_memory=shared) as simulator:
            work = (100 if shared else 20) // less
            floor = f"raw round trip, {name}"
            said(f"draw by draw, {name}", "messages/s", draw_by_draw(simulator, work, repeats), floor)
            said(f"chain with replay, {name}", "steps/s", chain(simulator, 1000 // less, repeats))
            without = chain(lambda simulator=simulator: simulator(), (100 if shared else 20) // less, repeats)
            said(f"chain without replay, {name}", "steps/s", without)
        ratio = figures[f"chain with replay, {name}"]["median"] / without["median"]
        figures[f"replay / none, {name}"] = {"median": ratio, "low": None, "high": None, "unit": "times", "floor": None}
    for name, path in (("GUM", paths["gum"]), ("GUM-M", paths["gum_marsaglia"])):
        said(f"{name} prior, by itself", "traces/s", by_itself(path, 500_000 // less, repeats))
    for fork, how in ((False, "plain"), (True, "forked")):
        number = MANY // less
        seconds, megabytes = start_many(paths["forks"], number, fork, 1 if quick else 3)
        said(f"start of {number} processes, {how}", "s", seconds)
        said(f"memory of {number} processes, {how}", "MB", megabytes)
    with ppl.RemoteModel(command=[str(paths["track"]), "{endpoint}"]) as simulator:
        network = ppl.train(simulator, 20_000 // less, core="feedforward", seed=1, progress=False)
    for number, fork, shared in ((8, False, True), (MANY, True, True), (8, False, False), (MANY, True, False)):
        name = f"guided, {number} processes {'forked' if fork else 'plain'}, {'shared memory' if shared else 'ZeroMQ'}"
        options = {"num_processes": number, "fork": fork, "shared_memory": shared}
        said(name, "traces/s", guided(paths["track"], network, 2000 // less, repeats, **options))
    return {"machine": machine.description(), "settings": {"quick": quick, "repeats": repeats}, "figures": figures}


# -- the table ---------------------------------------------------------------------------------------------------------


def table(result: dict[str, Any]) -> list[list[str]]:
    """Heads, then a row for each figure."""
    rows = [["one simulator in C++, ipc", "median", "(low to high)", "of the floor"]]
    for name, figure in result["figures"].items():
        rows.append(
            [
                name,
                f"{_number(figure['median'])} {figure['unit']}",
                "" if figure["low"] is None else f"{_number(figure['low'])} to {_number(figure['high'])}",
                "" if figure["floor"] is None else f"{figure['median'] / figure['floor']:.0%}",
            ]
        )
    return rows


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10.0 else f"{value:.2g}"


def remark(result: dict[str, Any]) -> str:
    """What the table cannot hold."""
    known = result["machine"]
    return (
        f"{known['date']}, {known['cpu']}, {known['cores']} cores, load {known['load']} when the run began; Python "
        f"{known['python']}, numpy {known['numpy']}. Median of {result['settings']['repeats']} repeats."
        + (" A quick look: take no figure from it." if result["settings"]["quick"] else "")
    )


def text(result: dict[str, Any]) -> str:
    """The result for a terminal."""
    rows = table(result)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join([*lines, "", remark(result)])


def write_readme(result: dict[str, Any]) -> None:
    """Replaces the section of README.md between the two marks."""
    page = README.read_text()
    if BEGIN not in page or END not in page:
        sys.exit(f"{README} has no section for these figures. Add the lines\n{BEGIN}\n{END}")
    heads, *rows = table(result)
    lines = [f"| {' | '.join(row)} |" for row in (heads, ["---", *["---:"] * (len(heads) - 1)], *rows)]
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    README.write_text("\n".join([f"{before}{BEGIN}", "", *lines, "", f"- {remark(result)}", "", f"{END}{after}"]))


def main() -> int:
    """Command line: see ``--help``."""
    parser = argparse.ArgumentParser(description="Times simulators in other processes.")
    parser.add_argument("--quick", action="store_true", help="a fifth of the work, 2 repeats, for a first look")
    parser.add_argument("--repeats", type=int, help="repeats of which the median is taken (default 5)")
    parser.add_argument("--json", type=Path, default=RESULT, help="where the result is kept")
    parser.add_argument("--write", action="store_true", help="put the figures kept in --json into README.md, and stop")
    arguments = parser.parse_args()
    if arguments.write:
        write_readme(json.loads(arguments.json.read_text()))
        return 0
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    result = measure(arguments.quick, arguments.repeats or (2 if arguments.quick else 5))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(text(result))
    deviations = [figure["deviation"] for figure in result["figures"].values() if "deviation" in figure]
    return 0 if max(deviations) < ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
