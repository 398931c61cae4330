"""A simulator whose likelihood nobody knows: its summary statistics are compared with those of the data.

    python examples/python/summaries.py

The queue below has no density that could be written down. Two ways around it: a *kernel*, which calls simulated and
observed summaries equal up to a tolerance (approximate Bayesian computation), and a *synthetic likelihood*, which takes
the summaries for normal and estimates mean and covariance from simulations at the same parameters (Wood, Nature 2010).
Both are approximations: a smaller tolerance, or more repeats, costs more and is nearer to the truth.
"""

import numpy as np

import ppl_jax as ppl
import ppl_jax.distributions as dist

CUSTOMERS = 40


def waits(arrivals: float, service: float) -> np.ndarray:
    """Waiting times of customers at one counter, hours; all draws are sites of the program."""
    gaps = ppl.sample(dist.Exponential(np.full(CUSTOMERS, arrivals)), control=False)
    services = ppl.sample(dist.Exponential(np.full(CUSTOMERS, service)), control=False)
    found = np.zeros(CUSTOMERS)
    for k in range(1, CUSTOMERS):
        found[k] = max(0.0, found[k - 1] + services[k - 1] - gaps[k])
    return found


def summaries(waiting: np.ndarray) -> np.ndarray:
    """Mean and spread of the waits, on scales where they are roughly normal."""
    return np.array([np.log(waiting.mean() + 0.01), np.log(waiting.std() + 0.01)])


def rates():
    """Customers an hour: how many come, how many can be served."""
    return ppl.sample(dist.Gamma(4.0, 0.5), name="arrivals"), ppl.sample(dist.Gamma(6.0, 0.5), name="service")


def by_kernel(tolerance: float = 0.3):
    """The data are the observed summaries, under the name "summaries"."""
    ppl.observe(dist.Normal(summaries(waits(*rates())), tolerance), name="summaries")


def by_synthetic_likelihood(repeats: int = 12):
    """The same, without a tolerance."""
    both = rates()
    many = np.array([summaries(waits(*both)) for _ in range(repeats)])
    scale = np.linalg.cholesky(np.cov(many.T) + 1e-4 * np.eye(2))
    ppl.observe(dist.MultivariateNormal(many.mean(axis=0), scale), name="summaries")


def main() -> None:
    """How busy was the counter?"""
    data = {"summaries": [np.log(0.35), np.log(0.25)]}
    for model in (by_kernel, by_synthetic_likelihood):
        posterior = ppl.importance_sampling(model, data, num_traces=2000, seed=0, progress=False)
        load = posterior.map(lambda trace: trace["arrivals"] / trace["service"])
        print(f"{model.__name__}: load {load.mean:.2f} ± {load.stddev:.2f}, "
              f"effective sample size {posterior.effective_sample_size:.0f}")  # fmt: skip


if __name__ == "__main__":
    main()
