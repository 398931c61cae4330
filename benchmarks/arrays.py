"""Times arrays of 600 independent values on the host, beside numpy and scipy, in one process.

    python benchmarks/arrays.py           every family that has a counterpart
    python benchmarks/arrays.py --python  as where nothing was compiled

Construction, draw and log density of each family together; beside it the draw of ``numpy.random.Generator`` and the
log density of ``scipy.stats``, which checks its arguments too, or where it says so the closed form in numpy alone.
Repeats alternate; medians. ``--python`` times the samplers in Python, which draw where there was no compiler.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import machine
import numpy as np
from scipy import special, stats

import ppl_jax.distributions as dist
from ppl_jax.streams import Stream

SIZE = 600
A = np.linspace(0.5, 3.0, SIZE)
B = np.linspace(1.0, 2.0, SIZE)
P = np.linspace(0.1, 0.9, SIZE)
N = np.full(SIZE, 20.0)
RNG = np.random.default_rng(0)
SHARES = RNG.dirichlet(np.ones(5), SIZE)
ROWS = np.arange(SIZE)

# Family, its parameters -> draw of numpy's, log density of scipy's.
CASES: dict[str, tuple[Callable[[], Any], Callable[[], Any], Callable[[Any], Any]]] = {
    "Normal": (lambda: dist.Normal(A, B), lambda: RNG.normal(A, B), lambda x: stats.norm.logpdf(x, A, B)),
    "Uniform": (lambda: dist.Uniform(-A, B), lambda: RNG.uniform(-A, B), lambda x: stats.uniform.logpdf(x, -A, A + B)),
    "Exponential": (
        lambda: dist.Exponential(A), lambda: RNG.exponential(1 / A), lambda x: stats.expon.logpdf(x, scale=1 / A)
    ),
    "Bernoulli": (lambda: dist.Bernoulli(P), lambda: RNG.binomial(1, P), lambda x: stats.bernoulli.logpmf(x, P)),
    "Laplace": (lambda: dist.Laplace(A, B), lambda: RNG.laplace(A, B), lambda x: stats.laplace.logpdf(x, A, B)),
    "Logistic": (lambda: dist.Logistic(A, B), lambda: RNG.logistic(A, B), lambda x: stats.logistic.logpdf(x, A, B)),
    "Cauchy": (
        lambda: dist.Cauchy(A, B), lambda: A + B * RNG.standard_cauchy(SIZE), lambda x: stats.cauchy.logpdf(x, A, B)
    ),
    "HalfCauchy": (
        lambda: dist.HalfCauchy(B), lambda: np.abs(B * RNG.standard_cauchy(SIZE)),
        lambda x: stats.halfcauchy.logpdf(x, 0.0, B),
    ),
    "HalfNormal": (
        lambda: dist.HalfNormal(B), lambda: np.abs(RNG.normal(0.0, B)), lambda x: stats.halfnorm.logpdf(x, 0.0, B)
    ),
    "Pareto": (
        lambda: dist.Pareto(A, B), lambda: A * (1.0 + RNG.pareto(B)), lambda x: stats.pareto.logpdf(x, B, 0.0, A)
    ),
    "InverseGamma": (
        lambda: dist.InverseGamma(A, B), lambda: B / RNG.gamma(A), lambda x: stats.invgamma.logpdf(x, A, 0.0, B)
    ),
    "TruncatedNormal": (
        lambda: dist.TruncatedNormal(A, B, 0.0, 4.0), lambda: stats.truncnorm.rvs(-A / B, (4.0 - A) / B, A, B),
        lambda x: stats.truncnorm.logpdf(x, -A / B, (4.0 - A) / B, A, B),
    ),
    "Geometric": (
        lambda: dist.Geometric(P), lambda: RNG.geometric(P) - 1, lambda x: stats.geom.logpmf(x, P, -1)
    ),
    "NegativeBinomial": (
        lambda: dist.NegativeBinomial(A, P), lambda: RNG.negative_binomial(A, 1 - P),
        lambda x: stats.nbinom.logpmf(x, A, 1 - P),
    ),
    "NegativeBinomial2": (
        lambda: dist.NegativeBinomial2(B, A), lambda: RNG.poisson(RNG.gamma(A, B / A)),
        lambda x: stats.nbinom.logpmf(x, A, A / (A + B)),
    ),
    "BetaBinomial": (
        lambda: dist.BetaBinomial(A, B, N), lambda: RNG.binomial(20, RNG.beta(A, B)),
        lambda x: stats.betabinom.logpmf(x, 20, A, B),
    ),
    "Hypergeometric": (
        lambda: dist.Hypergeometric(N + 30, N, N), lambda: RNG.hypergeometric(20, 30, 20, SIZE),
        lambda x: stats.hypergeom.logpmf(x, N + 30, N, N),
    ),
    "ZeroInflatedPoisson": (
        lambda: dist.ZeroInflatedPoisson(P, A), lambda: RNG.poisson(A) * (RNG.random(SIZE) >= P),
        lambda x: np.log(P * (x == 0) + (1 - P) * stats.poisson.pmf(x, A)),
    ),
    "Categorical": (
        lambda: dist.Categorical(SHARES), lambda: (RNG.random(SIZE)[:, None] >= SHARES.cumsum(axis=1)).sum(axis=1),
        lambda x: np.log(SHARES[ROWS, x]),
    ),
    "Gumbel": (lambda: dist.Gumbel(A, B), lambda: RNG.gumbel(A, B), lambda x: stats.gumbel_r.logpdf(x, A, B)),
    "LogNormal": (
        lambda: dist.LogNormal(A, B), lambda: RNG.lognormal(A, B), lambda x: stats.lognorm.logpdf(x, B, 0, np.exp(A))
    ),
    "Gamma": (
        lambda: dist.Gamma(A, B), lambda: RNG.gamma(A, 1 / B), lambda x: stats.gamma.logpdf(x, A, scale=1 / B)
    ),
    "Beta": (lambda: dist.Beta(A, B), lambda: RNG.beta(A, B), lambda x: stats.beta.logpdf(x, A, B)),
    "Poisson": (lambda: dist.Poisson(A), lambda: RNG.poisson(A), lambda x: stats.poisson.logpmf(x, A)),
    "Binomial": (lambda: dist.Binomial(N, P), lambda: RNG.binomial(20, P), lambda x: stats.binom.logpmf(x, 20, P)),
    "Weibull": (
        lambda: dist.Weibull(A, B), lambda: A * RNG.weibull(B), lambda x: stats.weibull_min.logpdf(x, B, 0, A)
    ),
    "VonMises": (
        lambda: dist.VonMises(A, B), lambda: RNG.vonmises(A, B),
        lambda x: B * np.cos(x - A) - np.log(2 * np.pi * special.i0e(B)) - B,
    ),
    "StudentT": (
        lambda: dist.StudentT(A + 2, 0.0, B), lambda: B * RNG.standard_t(A + 2),
        lambda x: stats.t.logpdf(x, A + 2, 0.0, B),
    ),
}  # fmt: skip


def uncompiled(distribution: Any, stream: Stream) -> Any:
    """A draw by the samplers in Python."""
    return distribution._draw_each(stream)


def ours(make: Callable[[], Any], stream: Stream, in_python: bool) -> None:
    """One statement of a program, without the statement."""
    distribution = make()
    distribution.log_prob(uncompiled(distribution, stream) if in_python else distribution.sample(stream))


def measure(repeats: int, calls: int, in_python: bool) -> dict[str, tuple[float, float]]:
    """Microseconds of ours and of theirs, medians over repeats."""
    found = {}
    stream = Stream(0)
    for name, (make, draw, density) in CASES.items():
        own, others = [], []
        for _ in range(repeats):
            begin = time.perf_counter()
            for _ in range(calls):
                ours(make, stream, in_python)
            middle = time.perf_counter()
            for _ in range(calls):
                density(draw())
            end = time.perf_counter()
            own.append(1e6 * (middle - begin) / calls)
            others.append(1e6 * (end - middle) / calls)
        found[name] = statistics.median(own), statistics.median(others)
    return found


def main() -> None:
    """Command line: see ``--help``."""
    parser = argparse.ArgumentParser(description="Times arrays of independent values beside numpy and scipy.")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--calls", type=int, default=20, help="statements a repeat")
    parser.add_argument("--python", action="store_true", help="draw by the samplers in Python")
    arguments = parser.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine.description().items()))
    print(f"| {SIZE} values: construction, draw, log density | ours, us | numpy and scipy, us | ratio |")
    print("| --- | ---: | ---: | ---: |")
    for name, (own, other) in measure(arguments.repeats, arguments.calls, arguments.python).items():
        print(f"| {name} | {own:.0f} | {other:.0f} | {own / other:.1f} |")


if __name__ == "__main__":
    main()
