"""NUTS for models that JAX can trace and whose latents are continuous: numpyro's sampler under our traces.

numpyro sees the model as one numpyro.sample per latent, named by its position, and one factor with everything else; it
never sees the user's names, so they need not be unique. What it returns, values of the latents, is made into whole
traces by :meth:`ppl_jax.running.device.BatchModel.replay`. JAX is imported only when NUTS runs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from ppl_jax.distributions.layouts import is_discrete
from ppl_jax.empirical import Empirical
from ppl_jax.errors import (
    DegenerateWeightsError,
    NoLatentsError,
    SiteError,
    UnknownObservationError,
    UntraceableModelError,
)
from ppl_jax.language.site import FACTOR, TAG
from ppl_jax.running.checks import (
    INSPECTED,
    blame,
    check_count,
    check_model,
    check_observations,
    warn_if_unreliable,
    warn_of_interruption,
    warn_of_lost_precision,
)
from ppl_jax.running.execution import handlers_in_force
from ppl_jax.running.host import Job, write_execution
from ppl_jax.running.progress import Progress
from ppl_jax.running.services import is_traceable
from ppl_jax.storage import TraceTable, TraceWriter
from ppl_jax.streams import check_seed, streams


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
    run at a time per process: numpyro's stack of handlers is global.

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
      DegenerateWeightsError: no starting point of non-zero density was found (names the site where the data are
        impossible), or a trace has none.

    Source: Hoffman & Gelman, "The No-U-Turn Sampler", JMLR 15 (2014), in numpyro's iterative form.
    """
    chains = check_count("num_chains", num_chains)
    num_traces = check_count("num_traces", num_traces, least=chains)
    burn_in, thinning = check_count("burn_in", burn_in, least=0), check_count("thinning", thinning)
    depth = check_count("max_tree_depth", max_tree_depth)
    if not 0.0 < target_accept < 1.0:
        raise ValueError(f"target_accept must lie strictly between 0 and 1, got {target_accept!r}.")
    observations, seed = check_observations(observations), check_seed(seed)

    from ppl_jax.infer.hamiltonian import sample_chains, target
    from ppl_jax.running.agreement import changed_between_tracings, compare, warn_of  # only here is JAX needed
    from ppl_jax.running.device import trace_structure
    from ppl_jax.running.precision import COMPARED

    model, ambient = check_model(model), handlers_in_force()
    if not is_traceable(model):
        raise UntraceableModelError(f"JAX cannot trace {model!r}: it is in another process. Use metropolis_hastings.")
    batch_model = trace_structure(model, observations, score=True, ambient=ambient)
    _check_sites(batch_model, observations)
    job = Job(model, observations, True, 1.0, ambient, seed)
    finding = changed_between_tracings(batch_model, job)
    lengths = [len(part) for part in np.array_split(np.arange(num_traces), chains)]
    with Progress(burn_in + lengths[0] * thinning, "step", progress) as bar:
        bar.say("compiling")
        try:
            sampled = sample_chains(
                target(model, observations, ambient, batch_model.program.moving),
                lengths,
                burn_in=burn_in,
                thinning=thinning,
                seed=seed,
                progress=bar,
                target_accept_prob=target_accept,
                max_tree_depth=depth,
                dense_mass=dense_mass,
            )
        except RuntimeError as error:
            if "initial parameters" not in str(error):
                raise
            raise _no_start(job) from error
    if sampled is None:
        raise KeyboardInterrupt
    table, log_weights, log_priors = batch_model.replay(sampled.values)
    posterior = Empirical(
        table,
        num_chains=chains if sampled.lengths == lengths else 1,
        is_chain=True,
        info={
            "acceptance": sampled.acceptance,
            "divergent": sampled.divergent,
            "step_size": sampled.step_size,
        },
    )
    if sum(sampled.lengths) < num_traces:
        warn_of_interruption(len(table))
    if sampled.divergent:
        warnings.warn(
            f"{sampled.divergent} of {len(table)} NUTS steps diverged, so parts of the posterior may be missing. Raise "
            "target_accept, or write the model in other variables (a 'non-centred' parametrisation).",
            UserWarning,
            stacklevel=2,
        )
    impossible = np.flatnonzero(~np.isfinite(log_priors + log_weights))
    if impossible.size:
        raise _impossible(table, impossible, posterior)
    finding = finding or compare(table[:COMPARED], log_weights[:COMPARED], job)
    if finding is not None and finding.kind == "precision":
        warn_of_lost_precision(finding.text, "metropolis_hastings")
    elif finding is not None and finding.kind != "not compared":
        warn_of(finding, "metropolis_hastings")
    warn_if_unreliable(posterior)
    return posterior


def _no_start(job: Job) -> DegenerateWeightsError:
    """The error of a run that found no starting point; names the sites where the data are impossible, if they are."""
    writer = TraceWriter()
    with suppress(Exception):  # a model written for JAX alone; the error is about something else
        for rng in streams(job.seed, 0, INSPECTED):
            write_execution(job, rng, writer)
    table, log_weights = writer.finish()
    if len(table) and np.all(log_weights == -np.inf):
        return DegenerateWeightsError(
            f"NUTS found no starting point of non-zero density. {blame(table)} Check the observed values and the "
            "supports of their distributions."
        )
    return DegenerateWeightsError(
        "NUTS found no starting point where the density and its gradient are finite, although the data are possible. "
        "Look for a function without a finite gradient (a square root at 0, a division by 0, an infinite parameter), "
        "or use metropolis_hastings."
    )


def _impossible(table: TraceTable, numbers: np.ndarray, finished: Empirical) -> DegenerateWeightsError:
    """The error of a run with traces of zero density, which no chain may visit."""
    error = DegenerateWeightsError(
        f"{numbers.size} of {len(table)} traces of NUTS have a density that is zero or not a number, the first is "
        f"trace {numbers[0]}. {blame(table.take(numbers))} Its density and its gradient do not belong together there: "
        "write the model so that its supports do not jump, or use metropolis_hastings."
    )
    error.finished = finished
    return error


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
