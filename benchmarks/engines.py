"""The engines, timed: each task runs one engine on one program and answers how long it took and what it found.

Served to ``run.py`` by a process of its own (see ``workers.py``). A task ``(number, seed)`` does ``number`` executions,
burn-in included, and answers {"seconds", "cpu", "start", "mean", "exact", "standard_error", "ess"}: seconds of the call
and of the core; ``start``, the seconds of a call that do not grow with the number of executions (tracing, and compiling
or reading what JAX's cache has compiled), measured by a call of ten; the mean of what the program returned, the exact
one, and its Monte Carlo standard error; and the effective sample size.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import programs
import workers

import ppl_jax as ppl

PROGRAMS: dict[str, tuple[Callable[[], Any], dict[str, float], dict[str, float]]] = {
    "GUM": (programs.gum, programs.GUM_DATA, programs.GUM_MEANS),
    "GUM-M": (programs.gum_marsaglia, programs.GUM_DATA, programs.GUM_MEANS),
    "HMM": (programs.hidden_markov, programs.HMM_DATA, programs.hidden_markov_means()),
}
KERNELS = {"random_walk_mh": "random_walk", "lightweight_mh": "lightweight"}


def call(program: str, engine: str, backend: str, number: int, seed: int) -> ppl.Empirical:
    """One call of the library, as a user writes it."""
    model, data, _ = PROGRAMS[program]
    if engine == "prior":
        return ppl.prior(model, number, seed=seed, backend=backend, progress=False)
    if engine == "importance_sampling":
        return ppl.importance_sampling(model, data, number, seed=seed, backend=backend, progress=False)
    if engine == "smc":
        return ppl.smc(model, data, number, seed=seed, progress=False)
    burn_in = number // 10
    if engine == "nuts":
        return ppl.nuts(model, data, number - burn_in, burn_in=burn_in, seed=seed, progress=False)
    kept = number - burn_in
    return ppl.metropolis_hastings(
        model, data, kept, kernel=KERNELS[engine], burn_in=burn_in, seed=seed, progress=False
    )


def task(program: str, engine: str, backend: str, number: int, seed: int) -> dict[str, Any]:
    """See the module's docstring."""
    run = partial(call, program, engine, backend)
    if backend == "jax":
        import numpyro.infer  # noqa: F401 (brings JAX: importing them is no part of any call's time)
    start = workers.timed(lambda: run(10, seed))[1]["seconds"] if backend == "jax" else 0.0
    posterior, took = workers.timed(lambda: run(number, seed))
    results = posterior.results
    error = results.standard_error
    chain = engine in KERNELS or engine == "nuts"
    return {
        **took,
        "start": start,
        "mean": results.mean,
        "exact": PROGRAMS[program][2]["prior" if engine == "prior" else "posterior"],
        "standard_error": error,
        "ess": (results.stddev / error) ** 2 if chain else posterior.effective_sample_size,
    }


TASKS = {
    f"{program} {engine} {backend}": partial(task, program, engine, backend)
    for program, backend, engines in (
        ("GUM", "host", ("prior", "importance_sampling", "random_walk_mh", "lightweight_mh")),
        ("GUM-M", "host", ("prior", "importance_sampling", "random_walk_mh", "lightweight_mh")),
        ("HMM", "host", ("prior", "importance_sampling", "smc")),
        ("GUM", "jax", ("prior", "importance_sampling", "nuts")),
    )
    for engine in engines
}

if __name__ == "__main__":
    workers.serve(TASKS)
