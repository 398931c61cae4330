"""Simulators for the tests, and how to run one in a process of its own: ``python simulators.py MODEL ENDPOINT``."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import programs  # noqa: E402

import ppl_jax as ppl  # noqa: E402
import ppl_jax.distributions as dist  # noqa: E402
import ppx  # noqa: E402
from ppx import sockets  # noqa: E402

gum, gum_marsaglia, branching = programs.gum, programs.gum_marsaglia, programs.branching
hidden_markov, recursion = programs.hidden_markov, programs.recursion


def everything():
    """A statement of every kind and a distribution of every family."""
    ppl.sample(dist.Normal(np.zeros(3), [1.0, 2.0, 3.0]), name="vector")
    ppl.sample(dist.Uniform(-1.0, 1.0), control=False)
    k = ppl.sample(dist.Categorical([0.2, 0.3, 0.5]), name="k")
    for rate in range(k + 1):
        ppl.sample(dist.Poisson(1.0 + rate), name="counts")
    ppl.sample(dist.Bernoulli(0.5))
    ppl.sample(dist.Beta(2.0, 0.5))
    ppl.sample(dist.Exponential(2.0))
    ppl.sample(dist.Gamma([[0.5], [3.0]], [1.0, 2.0]))
    ppl.sample(dist.LogNormal(0.0, 1.0))
    ppl.sample(dist.Binomial(10.0, 0.3))
    ppl.sample(dist.Weibull(1.0, 2.0))
    ppl.observe(dist.Normal(0.0, 1.0), name="asked")
    ppl.observe(dist.Poisson([1.0, 2.0]), [0, 3], name="given")
    ppl.tag(np.arange(6.0).reshape(2, 3), name="grid")
    ppl.tag(7, name="seven")
    if "extended" in sys.argv or EXTENDED:
        ppl.sample(dist.TruncatedNormal(0.0, 1.0, 1.0, np.inf))
        ppl.sample(dist.VonMises(0.0, 2.0))
        ppl.sample(dist.Mixture([0.5, 0.5], [dist.Normal(0.0, 1.0), dist.Normal(5.0, 1.0)]))
        ppl.sample(dist.MultivariateNormal([0.0, 1.0], [[1.0, 0.0], [0.5, 2.0]]))
        ppl.sample(dist.Delta(4.0))
        ppl.factor(-0.5, name="penalty")
    return np.array([[1.0, float(k)]])


EXTENDED = False  # whether `everything` uses what PPX 1.0.0 does not have


def extended():
    """All of ``everything``."""
    global EXTENDED
    EXTENDED = True
    try:
        return everything()
    finally:
        EXTENDED = False


def plate():
    """Many latents in a loop, of which some are named."""
    total = 0.0
    for k in range(10):
        total += ppl.sample(dist.Normal(float(k), 1.0), name="px" if k == 5 else None)
    ppl.observe(dist.Normal(total, 1.0), name="y")
    return total


def fails():
    """Raises in about a third of its executions."""
    x = ppl.sample(dist.Uniform(0.0, 1.0), name="x")
    if x < 0.3:
        raise ValueError(f"no luck with {x}")
    return x


def bad_parameter():
    """A standard deviation that is negative in half of its executions."""
    x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
    ppl.sample(dist.Normal(0.0, x), name="y")


def exits():
    """Calls sys.exit."""
    ppl.sample(dist.Normal(0.0, 1.0))
    sys.exit(3)


def stubborn():
    """Catches everything and goes on."""
    total = 0.0
    for _ in range(5):
        try:
            total += ppl.sample(dist.Normal(0.0, 1.0), name="x")
        except BaseException:
            total += 100.0
    return total


def endless():
    """Never comes to its end."""
    while True:
        ppl.sample(dist.Normal(0.0, 1.0), name="x")


def busy():
    """Computes for a minute after its first draw."""
    ppl.sample(dist.Normal(0.0, 1.0), name="x")
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        sum(range(1000))


def deaf():
    """As busy, three times, and catches whatever is raised."""
    for _ in range(3):
        try:
            ppl.sample(dist.Normal(0.0, 1.0), name="x")
            time.sleep(60.0)
        except BaseException:
            pass


class NoScope:
    """In place of a rejection scope: every pass belongs to the trace."""

    def __init__(self, name: str):
        pass

    def __enter__(self) -> NoScope:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def reject(self) -> None:
        """Nothing is forgotten."""


def rejection(scopes=ppx.rejection_scope):
    """Marsaglia's polar method in a rejection scope, then an observation."""
    uniform = dist.Uniform(-1.0, 1.0)
    ppl.sample(dist.Normal(0.0, 1.0), name="before")
    with scopes("polar") as scope:
        while True:
            x, y = ppl.sample(uniform, name="u"), ppl.sample(uniform, name="v")
            s = x * x + y * y
            if 0.0 < s < 1.0:
                break
            scope.reject()
    mu = x * np.sqrt(-2.0 * np.log(s) / s)
    ppl.observe(dist.Normal(mu, 1.0), name="obs")
    return mu


every_pass = partial(rejection, NoScope)  # at the same addresses


def nested_rejection():
    """A rejection loop whose passes hold a rejection loop."""
    with ppx.rejection_scope("outer") as outer:
        while True:
            with ppx.rejection_scope("inner") as inner:
                while (a := ppl.sample(dist.Uniform(0.0, 1.0), name="a")) < 0.5:
                    inner.reject()
            if ppl.sample(dist.Uniform(0.0, 1.0), name="b") < a:
                break
            outer.reject()
    return a


def large():
    """A row of about 800 kB."""
    for _ in range(100):
        ppl.sample(dist.Normal(np.zeros(500), 1.0))


def unsendable():
    """Returns what is no number."""
    ppl.sample(dist.Normal(0.0, 1.0))
    return {"a": 1}


# -- processes --------------------------------------------------------------------------------------------------------


class Simulator:
    """A simulator's process and its endpoint."""

    def __init__(self, process: subprocess.Popen, endpoint: str):
        self.process = process
        self.endpoint = endpoint
        self.pid = process.pid

    def wait_for_file(self) -> None:
        """Waits until the file of its ipc endpoint is there."""
        path, deadline = self.endpoint.removeprefix("ipc://"), time.monotonic() + 30.0
        while not os.path.exists(path):
            assert self.process.poll() is None, "the simulator ended"
            assert time.monotonic() < deadline, "the simulator did not bind"
            time.sleep(0.01)


@contextmanager
def simulator(model: str, endpoint: str, *options: str) -> Iterator[Simulator]:
    """Runs a model of this file in its own process, killed at the end if it still runs."""
    command = [sys.executable, __file__, model, endpoint, *options]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield Simulator(process, endpoint)
    finally:
        process.kill()
        process.wait()


@contextmanager
def front_end(model: Any, endpoint: str = "ipc://*", **options: Any) -> Iterator[ppx.FrontEnd]:
    """Serves a model in a thread of this process, which looks often at whether it is to stop."""
    with mock.patch.object(sockets, "TICK", 5), ppx.FrontEnd(model, endpoint, **options) as served:
        thread = threading.Thread(target=served.serve)
        thread.start()
        try:
            yield served
        finally:
            served.stop()
            thread.join(30.0)
            assert not thread.is_alive(), "the front end does not stop"


if __name__ == "__main__":
    ppx.serve(globals()[sys.argv[1]], sys.argv[2])
