"""Builds the simulators of tau decays, by one event generator or another, where they are not built yet; starts them.

``generator`` is "sherpa" or "pythia": of the folder examples/<generator>_tau and of what make calls it.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import ppl_jax as ppl

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("--grid", "2,3,4")  # where the image does not matter


@cache
def built(generator: str) -> Path:
    """The program, built from the present sources. Skips the test where the generator cannot be fetched."""
    program = ROOT / "build" / f"{generator}_tau" / "tau"
    (ROOT / "build").mkdir(exist_ok=True)
    with open(ROOT / "build" / f"tests-{generator}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        script = ROOT / "examples" / f"{generator}_tau" / f"fetch_{generator}.sh"
        fetch = [script, ROOT / "build" / generator, sys.executable]
        fetched = subprocess.run(fetch, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if fetched.returncode and not program.exists():
            last = fetched.stderr.strip().splitlines()[-1]
            pytest.skip(f"{generator.capitalize()} is not there and cannot be fetched: {last}")
        command = ["cmake", "--build", str(program.parent)] if program.exists() else ["make", generator]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}"
    return program


def simulator(generator: str, *options: str, **settings: Any) -> ppl.RemoteModel:
    """The simulator in processes of its own."""
    return ppl.RemoteModel(command=[str(built(generator)), *options, "{endpoint}"], **settings)


def run(generator: str, *options: str) -> subprocess.CompletedProcess[str]:
    """The program without an inference side."""
    return subprocess.run([built(generator), *options], capture_output=True, text=True, timeout=120)


@cache
def channels(generator: str) -> list[dict[str, Any]]:
    """Name and branching ratio of each decay channel."""
    found: list[dict[str, Any]] = json.loads(run(generator, "--channels").stdout)
    return found


@cache
def decays_at_rest(generator: str, number: int) -> list[dict[str, Any]]:
    """Decays as the generator makes them, from a Mersenne Twister and without PPX."""
    return [json.loads(line) for line in run(generator, "--decays", str(number), "--seed", "1").stdout.splitlines()]


@cache
def prior(generator: str, number: int) -> list[ppl.Trace]:
    """Executions from the prior, with an image of no use."""
    with simulator(generator, *SMALL) as model:
        return list(ppl.prior(model, number, seed=1, progress=False))
