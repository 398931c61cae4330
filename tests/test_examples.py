"""The demo runs as a newcomer runs it, at a small scale: it must end, agree with itself, and leave its pictures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PNG = b"\x89PNG\r\n\x1a\n"


def test_the_demo(tmp_path):
    command = [sys.executable, "examples/track/demo.py", "--traces", "20000", "--steps", "2000", "--output"]
    run = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    for picture in ("event.png", "posterior.png"):
        assert (tmp_path / picture).read_bytes().startswith(PNG)
    # The charge is what both engines must agree on even at this scale: the track bends one way only.
    charge = next(line for line in run.stdout.splitlines() if line.startswith("charge"))
    truth, sampled, walked = (float(number) for number in re.findall(r"(?<=\s)\d\.\d{3}(?=[\s,]|$)", charge)[:3])
    assert truth == 1.0
    assert min(sampled, walked) > 0.9
