"""The demo runs as a newcomer runs it, at a small scale: it must end, agree with itself, and leave its pictures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PNG = b"\x89PNG\r\n\x1a\n"


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
