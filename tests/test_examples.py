"""The demo runs as a newcomer runs it, at a small scale: it must end, agree with itself, and leave its pictures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.slow
def test_the_demo(tmp_path):
    scale = ["--traces", "20000", "--steps", "2000", "--training", "5000"]
    command = [sys.executable, "examples/track/demo.py", *scale, "--output", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    for picture in ("event.png", "posterior.png"):
        assert (tmp_path / picture).read_bytes().startswith(PNG)
    # The charge is what all engines must find even at this scale: the track bends one way only.
    charge = next(line for line in run.stdout.splitlines() if line.startswith("charge"))
    means = [float(mean) for mean in re.findall(r"(\d\.\d{3}), sd", charge)]
    assert len(means) == 3
    assert min(means) > 0.9


# Program -> what of its output is held against what is known: a number before the first "±" or comma.
PROGRAMS = {
    "epidemic.py": ("spreading", 0.7, 0.2),  # what the data were made with, give or take the posterior's width
    "black_box.py": ("slope:", 0.46, 0.06),  # linear regression: 0.46 but for the prior
    "summaries.py": ("by_synthetic_likelihood: load", 1.0, 0.2),
    "prediction.py": ("day 4:", 15.0, 3.0),
    "served.py": ("energy", 11.7, 0.6),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_in_python(program):
    known, value, tolerance = PROGRAMS[program]
    command = [sys.executable, "-W", "error::UserWarning", f"examples/python/{program}"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    line = next(line for line in run.stdout.splitlines() if line.startswith(known))
    found = float(re.search(r"-?\d+\.\d+", line[len(known) :]).group())
    assert abs(found - value) < tolerance, run.stdout


def test_all_programs_in_python_are_run():
    assert {path.name for path in (ROOT / "examples" / "python").glob("*.py")} == set(PROGRAMS)
