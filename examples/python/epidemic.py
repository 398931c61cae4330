"""An epidemic in many towns, written with arrays: each day one draw for all towns together.

    python examples/python/epidemic.py

Infections and recoveries of a day are binomial in every town. What is reported, of all towns together, is a part of the
infections. Inferred are how fast the disease spreads, how long people are ill, and how much of it is reported.
"""

import math

import numpy as np

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax import handlers

PEOPLE = np.array([800.0, 500.0, 300.0, 200.0])
DAYS = 8


def epidemic():
    """Rates in 1 / day; the reports of each day are compared with data under the names "day 0", "day 1", ..."""
    spreading = ppl.sample(dist.LogNormal(math.log(0.5), 0.5), name="spreading")
    recovery = ppl.sample(dist.Beta(2.0, 6.0), name="recovery")
    reported = ppl.sample(dist.Beta(4.0, 4.0), name="reported")
    ill = np.full(len(PEOPLE), 5.0)
    susceptible = PEOPLE - ill
    for day in range(DAYS):
        infected = 1.0 - np.exp(-spreading * ill / PEOPLE)
        new = ppl.sample(dist.Binomial(susceptible, infected), control=False)  # nuisances: nobody proposes for these
        recovered = ppl.sample(dist.Binomial(ill, recovery), control=False)
        susceptible = susceptible - new
        ill = ill + new - recovered
        ppl.observe(dist.NegativeBinomial2(reported * new.sum() + 0.1, 10.0), name=f"day {day}")  # unsteady reports
    return ill.sum()


def main() -> None:
    """Simulates data, and asks what made them."""
    truth = {"spreading": 0.7, "recovery": 0.2, "reported": 0.4}
    simulated = handlers.seed(handlers.substitute(epidemic, data=truth), seed=1)
    past = handlers.trace(simulated).get_trace()
    data = {f"day {day}": past[f"day {day}"] for day in range(DAYS)}
    posterior = ppl.importance_sampling(epidemic, data, num_traces=4000, seed=0, progress=False)
    print("reported in all towns:", [int(data[f"day {day}"]) for day in range(DAYS)])
    for name in ("spreading", "recovery", "reported"):
        found = posterior.map(name)
        low, high = found.quantile([0.05, 0.95])
        print(f"{name:10s} {found.mean:.2f}, 90 % between {low:.2f} and {high:.2f}; it was {truth[name]:.2f}")


if __name__ == "__main__":
    main()
