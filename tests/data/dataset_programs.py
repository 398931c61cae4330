"""Programs whose traces fill datasets, and how two traces are told apart."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.storage import TraceTable

# For processes that tests start: they import the package that is tested, and this file.
_FOLDERS = str(Path(ppl.__file__).parents[1]), os.path.dirname(__file__)
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(_FOLDERS)}


def assert_nobody_is_left(group):
    """Fails if a process of the group lives on for thirty seconds."""
    for _ in range(300):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("workers outlive their parent by 30 seconds")


def gum():
    mu = ppl.sample(dist.Normal(1.0, 5**0.5), name="mu")
    ppl.observe(dist.Normal(mu, 2**0.5), name="obs0")
    ppl.observe(dist.Normal(mu, 2**0.5), name="obs1")
    return mu


def everything():
    """Loops, arrays, discrete draws, mixtures, factors, tags of all sorts, and a structure that varies."""
    count = ppl.sample(dist.Poisson(2.0), name="count")
    for step in range(count):
        ppl.sample(dist.Normal(np.arange(3.0), 1.0), name="step")
        ppl.tag({"step": step, "label": f"step {step}"}, name="where")
    coins = ppl.sample(dist.Bernoulli(np.full((2, 2), 0.5)), name="coins")
    kind = ppl.sample(dist.Categorical([0.2, 0.8]), name="kind", control=False)
    x = ppl.sample(dist.Mixture([0.5, 0.5], [dist.Normal(-1.0, 0.1), dist.Normal(1.0, 0.1)]), name="x")
    ppl.sample(dist.MultivariateNormal(np.zeros(2), np.eye(2)))
    ppl.factor(-0.5 * x * x, name="pull")
    ppl.observe(dist.Normal(x, 1.0), name="y")
    ppl.tag(x * 2, name="twice")
    ppl.tag(coins.sum() > 1, name="many")
    return {"kind": kind, "x": (x, [None, "text", 2**70]), "coins": coins}


def rejection():
    """One latent that an engine controls, and a loop of nuisance draws: one trace type, many row layouts."""
    mu = ppl.sample(dist.Normal(0.0, 1.0), name="mu")
    while ppl.sample(dist.Uniform(0.0, 1.0), control=False) > 0.5:
        pass
    ppl.observe(dist.Normal(mu, 1.0), name="y")
    return mu


def image():
    """An image of counts and a grid of reals."""
    place = ppl.sample(dist.Uniform(0.0, 1.0), name="place")
    rows, columns = np.mgrid[0:8, 0:6]
    rate = 1.0 + 50.0 * np.exp(-((rows / 8 - place) ** 2) - (columns / 6 - place) ** 2)
    ppl.observe(dist.Poisson(rate), name="image")
    ppl.observe(dist.Normal(np.full((2, 3, 4), place), 0.1), name="grid")
    return place


def rows(table: TraceTable) -> list[tuple]:
    """For each trace what distinguishes it: layout, all numbers bit by bit, result."""
    found = []
    for trace, kind, start in zip(table, table.kinds.tolist(), table.starts.tolist(), strict=True):
        layout = table.layouts[kind]
        numbers = table.heap[start : start + layout.width].copy()
        numbers[layout.object_places] = 0.0  # numbers of objects differ from table to table; the objects must not
        tags = [site.value for site in trace.sites if site.kind == "tag"]
        found.append((layout.key, numbers.tobytes(), repr(trace.result), repr(tags)))
    return found


if __name__ == "__main__":  # as a simulator in a process of its own: dataset_programs.py NAME ENDPOINT
    import sys

    import ppx

    ppx.serve(globals()[sys.argv[1]], sys.argv[2])
