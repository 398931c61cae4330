"""The peer's side of the comparison: GUM and GUM-M written for pyprob, timed engine by engine.

Run by the peer's own Python (see ``install.py``), never by ours:
``build/peer-venv/bin/python benchmarks/peer/models.py``. One thread. Prints one JSON document on standard output, its
progress on standard error. ``figures`` is laid out as in ``recorded.json``: figures[model][work] = {"unit", "median"},
and here also every repeat's rate and the mean and stddev of the results, to be held against the exact posterior.
"""

import argparse
import datetime
import json
import math
import os
import platform
import statistics
import sys
import time

import numpy
import pyprob
import torch
from pyprob import InferenceEngine
from pyprob.distributions import Normal, Uniform

OBSERVED = {"obs0": 8.0, "obs1": 9.0}
TRUE_MEAN, TRUE_STDDEV = 7.25, math.sqrt(5 / 6)
ENGINES = {
    "importance_sampling": InferenceEngine.IMPORTANCE_SAMPLING,
    "lightweight_mh": InferenceEngine.LIGHTWEIGHT_METROPOLIS_HASTINGS,
    "random_walk_mh": InferenceEngine.RANDOM_WALK_METROPOLIS_HASTINGS,
}


def observe_twice(mean):
    """Two observations of ``mean`` with standard deviation sqrt(2), shared by both models."""
    likelihood = Normal(mean, math.sqrt(2))
    pyprob.observe(likelihood, name="obs0")
    pyprob.observe(likelihood, name="obs1")
    return mean


class GUM(pyprob.Model):
    """Gaussian with unknown mean: prior N(1, sqrt 5), drawn at once."""

    def forward(self):
        return observe_twice(pyprob.sample(Normal(1.0, math.sqrt(5))))


class GUMMarsaglia(pyprob.Model):
    """GUM-M: the same mean, drawn by Marsaglia's polar method, a loop that ends when two uniforms fall in the disc."""

    def forward(self):
        uniform = Uniform(-1.0, 1.0)
        square = 1.0
        while float(square) >= 1.0:
            x, y = pyprob.sample(uniform), pyprob.sample(uniform)
            square = x * x + y * y
        return observe_twice(1.0 + math.sqrt(5) * x * torch.sqrt(-2.0 * torch.log(square) / square))


def executions(model, work, number):
    """Runs ``number`` executions of the model under one engine and returns the Empirical of results."""
    if work == "prior":
        return model.prior_results(num_traces=number)
    return model.posterior_results(num_traces=number, inference_engine=ENGINES[work], observe=OBSERVED)


def time_work(model, work, number, repeats):
    """The rate of each repeat, its median, and the mean and stddev of the last repeat's results as a check."""
    executions(model, work, max(number // 10, 1))  # first calls import and allocate
    rates = []
    for repeat in range(repeats):
        pyprob.seed(1 + repeat)
        start = time.perf_counter()
        results = executions(model, work, number)
        rates.append(number / (time.perf_counter() - start))
    unit = "steps/s" if work.endswith("mh") else "traces/s"
    return {
        "unit": unit,
        "median": round(statistics.median(rates), 1),
        "repeats": [round(rate, 1) for rate in rates],
        "mean": round(float(results.mean), 3),
        "stddev": round(float(results.stddev), 3),
    }


def main():
    """Command line: see ``--help``."""
    parser = argparse.ArgumentParser(description="Times pyprob on GUM and GUM-M; JSON to standard output.")
    parser.add_argument("--number", type=int, default=2000, help="executions per repeat (default 2000)")
    parser.add_argument("--repeats", type=int, default=3, help="repeats of which the median is taken (default 3)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    pyprob.set_verbosity(0)
    figures = {}
    for name, model in (("GUM", GUM()), ("GUM-M", GUMMarsaglia())):
        figures[name] = {}
        for work in ("prior", *ENGINES):
            figures[name][work] = time_work(model, work, arguments.number, arguments.repeats)
            print(f"pyprob {name} {work}: {figures[name][work]}", file=sys.stderr, flush=True)
    document = {
        "peer": "pyprob " + pyprob.__version__,
        "source": "measured",
        "date": datetime.date.today().isoformat(),
        "software": f"Python {platform.python_version()}, PyTorch {torch.__version__}, numpy {numpy.__version__}",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}; one thread used",
        "executions_per_repeat": arguments.number,
        "exact_posterior": {"mean": TRUE_MEAN, "stddev": round(TRUE_STDDEV, 4)},
        "figures": figures,
    }
    json.dump(document, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
