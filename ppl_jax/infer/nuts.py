"""NUTS for models that JAX can trace and whose latents are continuous: numpyro's sampler under our traces.

numpyro sees the model as one numpyro.sample per latent, named by its position, and one factor with everything else; it
never sees the user's names, so they need not be unique. What it returns, values of the latents, is made into whole
traces by :meth:`ppl_jax.infer.jax_backend.BatchModel.replay`. JAX is imported only when NUTS runs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ppl_jax.distributions.layouts import is_discrete
from ppl_jax.empirical import Empirical
from ppl_jax.errors import NoLatentsError, SiteError, UnknownObservationError, UntraceableModelError
from ppl_jax.execution import handlers_in_force
from ppl_jax.infer.host import Job
from ppl_jax.infer.runs import check_count, check_model, check_observations, warn_of_lost_precision
from ppl_jax.models import is_traceable
from ppl_jax.primitives import FACTOR, TAG
from ppl_jax.streams import check_seed


def nuts(
    model: Callable[[], Any],
    observations: Mapping[str, Any] | None = None,
    num_traces: int = 1000,
    *,
    num_chains: int = 1,
    burn_in: int = 1000,
    target_accept: float = 0.8,
    max_tree_depth: int = 10,
    dense_mass: bool = False,
    thinning: int = 1,
    seed: int | None = None,
    progress: bool = True,
) -> Empirical:
    """Hamiltonian Monte Carlo with the No-U-Turn criterion: the engine for continuous models of fixed structure.

    Runs in float32 unless ``jax_enable_x64`` is set. Latents without control move too; proposals are not used. One
    run at a time per process: numpyro's stack of handlers is global. Ctrl-C ends it without traces, because numpyro
    computes them in one piece.

    Args:
      model: a callable without arguments that JAX can trace, or a numpyro model.
      observations: name -> observed value.
      num_traces: traces kept, over all chains together.
      num_chains: independent chains, run side by side.
      burn_in: steps of each chain in which step size and mass matrix are adapted, before the first trace is kept.
      target_accept: mean acceptance probability that the step size is adapted to, in (0, 1); higher is more careful.
      max_tree_depth: at most 2**max_tree_depth - 1 gradient evaluations a step.
      dense_mass: whether to adapt a full mass matrix (for strongly correlated latents) in place of a diagonal one.
      thinning: steps per trace kept.
      seed: integer in [0, 2**64); None for a fresh one.
      progress: whether to show a progress bar.

    Returns:
      Empirical of Trace with equal weights, chain after chain.

    Raises:
      UntraceableModelError: JAX cannot trace the model; names the line.
      NoLatentsError: the model has no latents, or they are all fixed.
      SiteError: a latent is discrete.
      UnknownObservationError: no site has a name given in ``observations``.
      DegenerateWeightsError: no starting point of non-zero density was found.

    Source: Hoffman & Gelman, "The No-U-Turn Sampler", JMLR 15 (2014), in numpyro's iterative form.
    """
    chains = check_count("num_chains", num_chains)
    num_traces = check_count("num_traces", num_traces, least=chains)
    burn_in, thinning = check_count("burn_in", burn_in, least=0), check_count("thinning", thinning)
    depth = check_count("max_tree_depth", max_tree_depth)
    if not 0.0 < target_accept < 1.0:
        raise ValueError(f"target_accept must lie strictly between 0 and 1, got {target_accept!r}.")
    observations, seed = check_observations(observations), check_seed(seed)

    from ppl_jax.infer.hamiltonian import sample_chains, target  # only here is JAX needed
    from ppl_jax.infer.jax_backend import trace_structure
    from ppl_jax.infer.precision import lost_precision

    model, ambient = check_model(model), handlers_in_force()
    if not is_traceable(model):
        raise UntraceableModelError(f"JAX cannot trace {model!r}: it is in another process. Use metropolis_hastings.")
    batch_model = trace_structure(model, observations, score=True, ambient=ambient)
    _check_sites(batch_model, observations)
    lengths = [len(part) for part in np.array_split(np.arange(num_traces), chains)]
    values, divergent = sample_chains(
        target(model, observations, ambient),
        lengths,
        burn_in=burn_in,
        thinning=thinning,
        seed=seed,
        progress=progress,
        target_accept_prob=target_accept,
        max_tree_depth=depth,
        dense_mass=dense_mass,
    )
    if divergent:
        warnings.warn(
            f"{divergent} of {num_traces} NUTS steps diverged, so parts of the posterior may be missing. Raise "
            "target_accept, or write the model in other variables (a 'non-centred' parametrisation).",
            UserWarning,
            stacklevel=2,
        )
    table, log_weights = batch_model.replay(values)
    lost = lost_precision(table, log_weights, Job(model, observations, True, 1.0, ambient, seed))
    if lost is not None:
        warn_of_lost_precision(lost, "metropolis_hastings")
    return Empirical(table, num_chains=chains)


def _check_sites(batch_model: Any, observations: Mapping[str, Any]) -> None:
    """Raises if names are unknown, or latents are missing or discrete."""
    sites = batch_model.layout.sites
    met = {site.name for site in sites if site.name and site.kind not in (TAG, FACTOR)}
    unknown = set(observations) - met
    if unknown:
        raise UnknownObservationError(unknown, met, 1)
    if not batch_model.latents:
        raise NoLatentsError("The model has no latent variable that NUTS could move. Sample one, or fix fewer of them.")
    for site in (sites[position] for position in batch_model.latents):
        if is_discrete(site.distribution):
            raise SiteError(
                site,
                f"NUTS moves continuous latents only, and {site.distribution[0]} is discrete.",
                "Use metropolis_hastings, or sum the variable out of the model.",
            )
