"""Posterior prediction: what will be seen next, and whether the model could have made what was seen.

    python examples/python/prediction.py

A draw of the posterior fixes the latents that matter, by ``handlers.substitute``; everything else is simulated anew.
"""

import numpy as np

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax import handlers

DAYS = 7


def counter():
    """Counts of a counter on several days, whose rate drifts by a factor from day to day."""
    rate = ppl.sample(dist.Gamma(4.0, 0.4), name="rate")
    drift = ppl.sample(dist.Normal(0.0, 0.2), name="drift")
    return [ppl.observe(dist.Poisson(rate * np.exp(drift * day)), name=f"day {day}") for day in range(DAYS)]


def predicted(posterior: ppl.Empirical, number: int, seed: int) -> np.ndarray:
    """Counts of all days, (number, days), each row from another draw of the posterior."""
    rows = []
    for k, trace in enumerate(posterior.resample(number, seed=seed).values):
        latents = {name: trace[name] for name in ("rate", "drift")}
        rows.append(handlers.seed(handlers.substitute(counter, data=latents), seed=seed, index=k)())
    return np.array(rows)


def main() -> None:
    """Four days were seen; the other three are predicted."""
    seen = {"day 0": 12, "day 1": 9, "day 2": 15, "day 3": 14}

    def seen_so_far():
        """The days to come are no data: in this run nobody observes them."""
        rate = ppl.sample(dist.Gamma(4.0, 0.4), name="rate")
        drift = ppl.sample(dist.Normal(0.0, 0.2), name="drift")
        for day in range(len(seen)):
            ppl.observe(dist.Poisson(rate * np.exp(drift * day)), name=f"day {day}")

    posterior = ppl.importance_sampling(seen_so_far, seen, num_traces=5000, seed=0, progress=False)
    counts = predicted(posterior, 1000, seed=1)
    for day in range(DAYS):
        low, high = np.quantile(counts[:, day], [0.05, 0.95])
        note = f", seen {seen[f'day {day}']}" if f"day {day}" in seen else ""
        print(f"day {day}: {counts[:, day].mean():.1f}, 90 % between {low:.0f} and {high:.0f}{note}")


if __name__ == "__main__":
    main()
