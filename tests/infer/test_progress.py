"""Progress on terminals, in logs, where there is no stream at all; honest for slow simulators and several processes."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time

import numpy as np
import pytest
from programs import GUM_DATA, gum

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.running import progress as module
from ppl_jax.running.progress import Progress


def run_everything():
    ppl.importance_sampling(gum, GUM_DATA, 200, seed=1)
    ppl.metropolis_hastings(gum, GUM_DATA, 200, burn_in=10, seed=1)
    ppl.smc(gum, GUM_DATA, 50, seed=1)
    ppl.prior(gum, 600, seed=1, num_workers=2)


def test_no_stream(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    run_everything()


class Broken(io.StringIO):
    def write(self, text):
        raise BrokenPipeError("nobody reads")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [Broken(), closed(), object()], ids=["broken", "closed", "no stream"])
def test_a_stream_that_cannot_be_written_stops_nothing(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(module, "LINE_EVERY", 0.0)
    run_everything()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress(10, "trace", True) as bar:
        bar.say("compiling")
        bar.advance_weighted(np.zeros(10))
    assert "compiling" in stream.getvalue() and "10.0/10.0" in stream.getvalue() and "ESS 10" in stream.getvalue()


def test_a_line_a_minute_in_a_log(monkeypatch):
    stream, clock = io.StringIO(), [0.0]
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    with Progress(1000, "trace", True) as bar:
        for _ in range(500):
            clock[0] += 0.5
            bar.advance(1, "ESS 3")
        clock[0] += 60.0
        bar.say("compiling")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "120 of 1,000 traces (12%), 60 s elapsed, about 7 min left, 2 traces/s, ESS 3"
    assert len(lines) == 6 and lines[4].endswith("compiling") and lines[5].startswith("500 of 1,000")
    assert "\r" not in stream.getvalue()


def test_a_short_run_writes_no_line(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    run_everything()
    assert stream.getvalue() == ""


class Recorded(Progress):
    seen: list[tuple[float, int]]

    def advance(self, number, note=""):
        self.seen.append((time.monotonic(), number))

    def advance_weighted(self, log_weights):
        self.advance(len(log_weights))


def slow():
    time.sleep(0.02)
    ppl.observe(dist.Normal(ppl.sample(dist.Normal(0.0, 1.0)), 1.0), name="y")


def recorded(monkeypatch, **options):
    Recorded.seen = []
    for name in ("importance", "metropolis.engine"):
        monkeypatch.setattr(f"ppl_jax.infer.{name}.Progress", Recorded)
    return Recorded.seen


@pytest.mark.parametrize("workers", [1, 2])
def test_executions_of_a_slow_model_are_shown_as_they_finish(monkeypatch, workers):
    seen = recorded(monkeypatch)
    ppl.importance_sampling(slow, {"y": 1.0}, 240, seed=1, num_workers=workers, progress=False)
    assert sum(number for _, number in seen) == 240
    assert max(number for _, number in seen) <= 120  # of 2 x 50 a second, with reports twice a second
    assert len(seen) > 5


def test_steps_of_a_slow_chain_in_another_process_are_shown_as_they_are_made(monkeypatch):
    seen = recorded(monkeypatch)
    ppl.metropolis_hastings(slow, {"y": 1.0}, 100, burn_in=10, num_chains=2, num_workers=2, seed=1, progress=False)
    assert sum(number for _, number in seen) >= 120 - 2
    assert len([number for _, number in seen if number]) >= 2


def test_the_division_of_a_slow_run_changes_nothing():
    one, two = (
        ppl.importance_sampling(slow, {"y": 1.0}, 130, seed=1, num_workers=workers, progress=False)
        for workers in (1, 2)
    )
    assert np.array_equal(one.log_weights, two.log_weights)


SCRIPT = """
import ppl_jax as ppl, ppl_jax.distributions as dist
ppl.prior(lambda: ppl.sample(dist.Normal(0.0, 1.0)), 50_000, seed=0, backend="host")
"""


def test_a_real_terminal_and_a_real_file(tmp_path):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # one without a width shows nothing
    subprocess.run([sys.executable, "-c", SCRIPT], stderr=theirs, check=True)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert re.search(r"50\.0k/50\.0k", shown.decode())
    with open(tmp_path / "log", "wb") as log:
        subprocess.run([sys.executable, "-c", SCRIPT], stderr=log, check=True)
    assert (tmp_path / "log").read_text() == ""
