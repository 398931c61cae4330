"""Compares file formats for datasets of traces, so that the choice is measured and not guessed.

    python benchmarks/data/formats.py            those that are installed (pip install pyarrow zarr array_record)
    python benchmarks/data/formats.py --quick    a tenth of the work

For each: traces of GUM-M written in blocks of 65,536 and read back in minibatches of 256 random rows of one type; bytes
per latent; traces of 10,000 types; how much is left when the writer is killed while it writes; and of 200 bytes, one of
which is changed each time, how many changes are found, are harmless, or go unnoticed. All on one core.
"""

import argparse
import importlib.util
import json
import multiprocessing
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import candidates

BLOCK, BATCH = 1 << 16, 256
BUILD = Path(__file__).resolve().parents[2] / "build"


def _written(name: str, folder: Path, kind: str, count: int, size: int) -> tuple[float, int]:
    """Writes traces; seconds, and controlled latents among them."""
    layouts = candidates.layouts_of(kind)
    made = list(candidates.blocks(kind, count, size, layouts))
    lengths = [sum(site.control for site in layout.sites) for layout in layouts]
    latents = sum(len(rows) * lengths[kind] for block in made for kind, rows in block.items())
    begin = time.perf_counter()
    writer = candidates.CANDIDATES[name].writer(folder, layouts)
    for block in made:
        writer.block(block)
    writer.close()
    return time.perf_counter() - begin, latents


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def rates(name: str, folder: Path, kind: str, count: int) -> dict[str, Any]:
    """Traces a second written and read, bytes per latent, files."""
    seconds, latents = _written(name, folder, kind, count, BLOCK)
    figures: dict[str, Any] = {"write": count / seconds, "bytes": _size(folder) / latents}
    figures["files"] = sum(file.is_file() for file in folder.rglob("*"))
    begin, read = time.perf_counter(), 0
    try:
        for batch in candidates.CANDIDATES[name].minibatches(folder, BATCH, 4000):
            read += len(batch)
            if time.perf_counter() - begin > 10.0:
                break
    except OSError as error:
        print(f"{name} cannot read {kind}: {error}", file=sys.stderr)
        read = 0
    figures["read"] = read / (time.perf_counter() - begin)
    return figures


def killed(name: str, folder: Path, repeats: int) -> str:
    """What is left of a file whose writer was killed at random: the least share of the finished blocks over repeats."""
    shares = []
    for repeat in range(repeats):
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, candidates.__file__, name, str(folder), "2000"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                done = json.loads(line)["blocks"]
                if done == 10:
                    time.sleep(random.Random(repeat).uniform(0.0, 0.05))
                    process.kill()
            process.wait()
        found = _in_process(_rows_left, name, folder)
        shares.append(min(1.0, found / (2000 * done)) if isinstance(found, int) else 0.0)
    return f"{min(shares):.0%}"


def _rows_left(name: str, folder: Path) -> int:
    return sum(map(len, candidates.CANDIDATES[name].read(folder).values()))


def flipped(name: str, folder: Path, repeats: int) -> dict[str, int]:
    """Outcomes of changing one byte of 10,000 traces."""
    _written(name, folder, "gum_m", 10_000, 5000)
    expected = _fingerprint(name, folder)
    rng = random.Random(0)
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file.stat().st_size]
    outcomes = {"found": 0, "harmless": 0, "unnoticed": 0}
    for _ in range(repeats):
        (file,) = rng.choices(files, [found.stat().st_size for found in files])
        data = bytearray(file.read_bytes())
        place = rng.randrange(len(data))
        data[place] ^= 1 << rng.randrange(8)
        changed, whole = bytes(data), file.read_bytes()
        file.write_bytes(changed)
        found = _in_process(_fingerprint, name, folder)
        file.write_bytes(whole)
        outcomes["found" if found is None else "harmless" if found == expected else "unnoticed"] += 1
    return outcomes


def _fingerprint(name: str, folder: Path) -> float:
    rows = candidates.CANDIDATES[name].read(folder)
    with np.errstate(all="ignore"):  # a changed number may be anything
        return float(sum(np.abs(part).sum() * (1 + len(part)) for part in rows.values()))


def _in_process(function: Any, name: str, folder: Path) -> Any:
    """The result of a function in a process of its own; None if it raises, crashes or hangs."""
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_answer, args=(function, name, folder, send))
    process.start()
    send.close()
    answer = None
    if receive.poll(30.0):
        try:
            answer = receive.recv()
        except EOFError:
            answer = None
    process.kill()
    process.join()
    return answer


def _answer(function: Any, name: str, folder: Path, send: Any) -> None:
    try:
        send.send(function(name, folder))
    except BaseException:
        send.send(None)


def measure(name: str, quick: bool) -> dict[str, Any]:
    """All figures of one candidate."""
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="formats-", dir=BUILD) as scratch:
        folder = Path(scratch)
        gum_m = rates(name, folder / "gum_m", "gum_m", 100_000 if quick else 1_000_000)
        many = rates(name, folder / "many", "many_types", 20_000 if quick else 200_000)
        left = killed(name, folder / "killed", 2 if quick else 10)
        flips = flipped(name, folder / "flipped", 20 if quick else 200)
    return {"gum_m": gum_m, "many_types": many, "left": left, "flips": flips}


def main() -> None:
    """Command line: see ``--help``."""
    parser = argparse.ArgumentParser(description="Compares file formats for datasets of traces.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--only", choices=list(candidates.CANDIDATES), help="one format")
    arguments = parser.parse_args()
    # A file for each type and block keeps many open.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    print(f"{'':12} GUM-M {'written/s':>12} {'read/s':>12} {'bytes/latent':>13} {'files':>6}   "
          f"10,000 types {'written/s':>12} {'read/s':>10} {'bytes/latent':>13} {'files':>6}   left when killed   "
          "changed bytes found/harmless/unnoticed")  # fmt: skip
    for name, candidate in candidates.CANDIDATES.items():
        if arguments.only not in (None, name):
            continue
        if importlib.util.find_spec(candidate.needs) is None:
            print(f"{name:12} not installed: pip install {candidate.needs}")
            continue
        found = measure(name, arguments.quick)
        first, second, flips = found["gum_m"], found["many_types"], found["flips"]
        outcomes = f"{flips['found']}/{flips['harmless']}/{flips['unnoticed']}"
        rest = f"{found['left']:>16}   {outcomes}"
        print(f"{name:12} {'':5} {_columns(first, 12)}   {'':12} {_columns(second, 10)}   {rest}", flush=True)


def _columns(figures: dict[str, Any], width: int) -> str:
    return f"{figures['write']:12,.0f} {figures['read']:{width},.0f} {figures['bytes']:13.1f} {figures['files']:6}"


if __name__ == "__main__":
    main()
