"""A simulator in Python that runs in a process of its own, served over PPX, and the program that inverts it.

    python examples/python/served.py

So a simulator keeps its own environment, its own Python even, and may die without harm. The process that
``RemoteModel`` starts is this file, with the endpoint as its argument.
"""

import sys
from pathlib import Path

import ppl_jax as ppl
import ppl_jax.distributions as dist


def simulator():
    """A particle loses energy in layers until nothing is left; a counter sees how many layers it crossed."""
    energy = ppl.sample(dist.Normal(10.0, 3.0), name="energy")
    layers = 0
    while energy > 0.0 and layers < 100:
        energy -= ppl.sample(dist.Exponential(1.0), control=False)
        layers += 1
    ppl.observe(dist.Normal(layers, 0.5), name="layers")


def main() -> None:
    """What energy did a particle have that crossed fourteen layers?"""
    command = [sys.executable, str(Path(__file__).resolve()), "{endpoint}"]
    with ppl.RemoteModel(command=command, num_processes=2) as model:
        posterior = ppl.importance_sampling(model, {"layers": 14.0}, num_traces=4000, seed=0, progress=False)
    energy = posterior.map("energy")
    print(f"energy {energy.mean:.2f} ± {energy.stddev:.2f}, effective sample size {energy.effective_sample_size:.0f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        import ppx

        ppx.serve(simulator, sys.argv[1])
    else:
        main()
