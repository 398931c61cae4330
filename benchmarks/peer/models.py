"""The peer's side of the comparison: the programs of ``benchmarks/programs.py`` written for pyprob, timed.

Run by the peer's own Python (see ``install.py``), never by ours, with ``benchmarks`` as the working directory:

    ../build/peer-venv/bin/python -m peer.models

Answers the requests of ``run.py`` (see ``workers.py``): the task "GUM prior host" of a number and a seed does so many
executions on one thread, and answers the seconds they took and what they found, to be held against the exact posterior.
"""

import math
from functools import partial

import numpy
import pyprob
import torch
import workers
from pyprob import InferenceEngine
from pyprob.distributions import Categorical, Normal, Uniform

OBSERVED = {"obs0": 8.0, "obs1": 9.0}
ENGINES = {
    "importance_sampling": InferenceEngine.IMPORTANCE_SAMPLING,
    "lightweight_mh": InferenceEngine.LIGHTWEIGHT_METROPOLIS_HASTINGS,
    "random_walk_mh": InferenceEngine.RANDOM_WALK_METROPOLIS_HASTINGS,
}


def observe_twice(mean):
    """Two observations of ``mean`` with standard deviation sqrt(2)."""
    likelihood = Normal(mean, math.sqrt(2))
    pyprob.observe(likelihood, name="obs0")
    pyprob.observe(likelihood, name="obs1")
    return mean


class GUM(pyprob.Model):
    """Gaussian with unknown mean: prior N(1, sqrt 5), drawn at once."""

    def forward(self):
        return observe_twice(pyprob.sample(Normal(1.0, math.sqrt(5))))


class GUMMarsaglia(pyprob.Model):
    """GUM-M: the same mean, drawn by Marsaglia's polar method: a loop until two uniforms fall in the disc."""

    def forward(self):
        uniform = Uniform(-1.0, 1.0)
        square = 1.0
        while float(square) >= 1.0:
            x, y = pyprob.sample(uniform), pyprob.sample(uniform)
            square = x * x + y * y
        return observe_twice(1.0 + math.sqrt(5) * x * torch.sqrt(-2.0 * torch.log(square) / square))


HMM_SERIES = (0.9, 0.8, 0.7, 0.0, -0.025, -5.0, -2.0, -0.1, 0.0, 0.13, 0.45, 6.0, 0.2, 0.3, -1.0, -1.0)
HMM_OBSERVED = {f"obs{step}": value for step, value in enumerate(HMM_SERIES)}


class HiddenMarkov(pyprob.Model):
    """Sixteen steps of a hidden Markov model of three states; returns the last state."""

    def __init__(self):
        super().__init__("hidden Markov")
        self.start = Categorical([1 / 3, 1 / 3, 1 / 3])
        self.moves = [Categorical(probs) for probs in ([0.1, 0.5, 0.4], [0.2, 0.2, 0.6], [0.15, 0.15, 0.7])]
        self.likelihoods = [Normal(centre, 1.0) for centre in (-1.0, 1.0, 0.0)]

    def forward(self):
        belief = self.start
        for step in range(len(HMM_SERIES)):
            state = pyprob.sample(belief)
            pyprob.observe(self.likelihoods[int(state)], name=f"obs{step}")
            belief = self.moves[int(state)]
        return state.float()


def task(model, observed, engine, number, seed):
    """``number`` executions of the model under one engine."""
    pyprob.seed(seed)
    if engine == "prior":
        results, took = workers.timed(lambda: model.prior_results(num_traces=number))
    else:
        results, took = workers.timed(
            lambda: model.posterior_results(num_traces=number, inference_engine=ENGINES[engine], observe=observed)
        )
    return {**took, "mean": float(results.mean)}


def versions(number, seed):
    """What is being timed."""
    return {"pyprob": pyprob.__version__, "torch": torch.__version__, "numpy": numpy.__version__}


def main():
    """Answers requests until standard input is closed."""
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    pyprob.set_verbosity(0)
    programs = {"GUM": (GUM(), OBSERVED), "GUM-M": (GUMMarsaglia(), OBSERVED), "HMM": (HiddenMarkov(), HMM_OBSERVED)}
    tasks = {
        f"{name} {engine} host": partial(task, model, observed, engine)
        for name, (model, observed) in programs.items()
        for engine in ("prior", *ENGINES)
    }
    workers.serve({"versions": versions, **tasks})


if __name__ == "__main__":
    main()
