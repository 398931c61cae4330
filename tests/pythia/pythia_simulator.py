"""Builds the simulator of tau decays with Pythia where it is not built yet, and starts it."""

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

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "pythia_tau"
TAU = ROOT / "build" / "pythia_tau" / "tau"
SMALL = ("--grid", "2,3,4")  # where the image does not matter


@cache
def built() -> Path:
    """The program, built from the present sources. Skips the test where Pythia is not there and cannot be fetched."""
    (ROOT / "build").mkdir(exist_ok=True)
    with open(ROOT / "build" / "tests-pythia.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fetch = [FOLDER / "fetch_pythia.sh", ROOT / "build" / "pythia", sys.executable]
        fetched = subprocess.run(fetch, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if fetched.returncode and not TAU.exists():
            pytest.skip(f"Pythia is not there and cannot be fetched: {fetched.stderr.strip().splitlines()[-1]}")
        command = ["cmake", "--build", str(TAU.parent)] if TAU.exists() else ["make", "pythia"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}"
    return TAU


def simulator(*options: str, **settings: Any) -> ppl.RemoteModel:
    """The simulator in processes of its own."""
    return ppl.RemoteModel(command=[str(built()), *options, "{endpoint}"], **settings)


def run(*options: str) -> subprocess.CompletedProcess[str]:
    """The program without an inference side."""
    return subprocess.run([built(), *options], capture_output=True, text=True, timeout=120)


@cache
def channels() -> list[dict[str, Any]]:
    """Name and branching ratio of each decay channel."""
    found: list[dict[str, Any]] = json.loads(run("--channels").stdout)
    return found


@cache
def pythias_decays(number: int) -> list[dict[str, Any]]:
    """Decays at rest as Pythia makes them, from a Mersenne Twister and without PPX."""
    return [json.loads(line) for line in run("--decays", str(number), "--seed", "1").stdout.splitlines()]


@cache
def prior(number: int) -> list[ppl.Trace]:
    """Executions from the prior, with an image of no use."""
    with simulator(*SMALL) as model:
        return list(ppl.prior(model, number, seed=1, progress=False))
