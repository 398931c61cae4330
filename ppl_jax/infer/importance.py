"""Independent executions: prior simulation, and importance sampling from the prior, a wider prior or a proposal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logsumexp

from ppl_jax.empirical import Empirical
from ppl_jax.errors import PPLError
from ppl_jax.language.handlers import inflate, propose
from ppl_jax.running.backends import COMPILING_PAYS, choose_backend
from ppl_jax.running.broken import Broken
from ppl_jax.running.checks import (
    check_count,
    check_exponent,
    check_model,
    check_names,
    check_observations,
    check_weights,
    gather,
    names_met,
    warn_if_unreliable,
)
from ppl_jax.running.execution import handlers_in_force
from ppl_jax.running.host import Job, run_on_host
from ppl_jax.running.progress import Progress
from ppl_jax.running.services import at_once
from ppl_jax.storage import TraceWriter
from ppl_jax.streams import check_seed

DEVICE_BLOCK = 1 << 17  # executions that the device does at once


def prior(
    model: Callable[[], Any],
    num_traces: int = 1000,
    *,
    observations: Mapping[str, Any] | None = None,
    seed: int | None = None,
    backend: str = "auto",
    num_workers: int = 1,
    path: str | Path | None = None,
    progress: bool = True,
) -> Empirical:
    """Runs the model forward: traces of the joint distribution of latents and simulated data.

    Args:
      model: a callable without arguments.
      num_traces: how many executions.
      observations: name -> value to put in place of simulated data; nothing is weighed.
      seed: integer in [0, 2**64); None for a fresh one. Execution i depends on (seed, i) alone.
      backend: "host" runs Python; "jax" runs batches under jit(vmap), for models that JAX can trace; "auto" tries JAX
        once when there are at least 10,000 executions, and stays on the host unless some of them, repeated there,
        agree: where JAX's precision (float32, unless ``jax_enable_x64`` is set) would not do, where the program has
        randomness or state of its own, or makes text of what it draws. The two draw different numbers from one seed.
      num_workers: processes among which host executions are divided; does not change the result.
      path: a new folder to keep the traces in, memory-mapped; None keeps them in memory.
      progress: whether to show a progress bar.

    Returns:
      Empirical of Trace; equal weights, unless a handler such as ``inflate`` drew latents from another distribution.

    Raises:
      ModelError: the model raised; ``finished`` holds the traces before it.
      UnknownObservationError: no site has a name given in ``observations``.
      UntraceableModelError: ``backend="jax"``, and JAX cannot trace the model.
    """
    job = _job(model, observations, seed, score=False)
    return _run(job, num_traces, backend, num_workers, path, progress, evidence=False)


def importance_sampling(
    model: Callable[[], Any],
    observations: Mapping[str, Any] | None = None,
    num_traces: int = 1000,
    *,
    proposal: Any = None,
    lockstep: int = 512,
    fresh_loops: int | None = None,
    prior_inflation: float = 1.0,
    likelihood_importance: float = 1.0,
    seed: int | None = None,
    backend: str = "auto",
    num_workers: int = 1,
    path: str | Path | None = None,
    progress: bool = True,
) -> Empirical:
    """Weighted traces of the posterior: latents from a proposal, weights prior times likelihood over proposal.

    Args:
      model: a callable without arguments.
      observations: name -> observed value.
      num_traces: how many executions.
      proposal: a network (see :func:`ppl_jax.train`); or a function of a controlled latent Site that gives the
        distribution to draw from, None for the prior; in rejection scopes it is not asked. Under a network the
        proposals are not kept site by site: a trace knows its ``log_importance_weight``.
      lockstep: executions that a network guides side by side; changes the speed and nothing else. Of a RemoteModel at
        most as many as it has processes.
      fresh_loops: under a network, how many loops of every rejection scope (see ``rejection_scope``) are run again
        under the prior, and max(10, fresh_loops) passes under the proposals, to estimate by what factor acceptance
        changes the weight; more cost time and make the weights less noisy. 0 draws from the prior in scopes, which
        adds no noise. Default: 10, but 0 in simulators in other processes, which are slow to run again.
      prior_inflation: draws latents from a prior so many times wider (see ``handlers.inflate``); for rare events.
      likelihood_importance: exponent of the likelihood in the weight; below 1 it tempers, and there is no evidence.
      seed, backend, num_workers, path, progress: see :func:`prior`; a network takes no other backend and no workers.

    Returns:
      Empirical of Trace with log weights and the estimate of the log evidence.

    Raises:
      ObservationError: an observed value is missing, NaN or of the wrong shape.
      SiteError: ``proposal`` gave no distribution, or one of another shape than the prior's.
      DegenerateWeightsError: all weights are zero; names the site to blame.
      ModelError, UnknownObservationError, UntraceableModelError: see :func:`prior`.
    """
    check_exponent(likelihood_importance)
    job = _job(model, observations, seed, score=True, likelihood_importance=likelihood_importance)
    if proposal is not None and not callable(proposal):
        if num_workers != 1 or backend == "jax":
            raise ValueError(
                "A network guides executions in this process, many side by side: leave num_workers at 1 and backend at "
                "'auto' or 'host'; lockstep=... says how many."
            )
        return _run_guided(job, proposal, num_traces, lockstep, fresh_loops, prior_inflation, path, progress)
    if proposal is not None:
        if prior_inflation != 1.0:
            raise ValueError("prior_inflation widens the prior as a proposal, and another is given. Give one of them.")
        job = job._replace(model=propose(job.model, proposal))
    if prior_inflation != 1.0:
        job = job._replace(model=inflate(job.model, prior_inflation))
    evidence = likelihood_importance == 1.0
    return _run(job, num_traces, backend, num_workers, path, progress, evidence=evidence)


def _job(model: Any, observations: Any, seed: int | None, score: bool, likelihood_importance: float = 1.0) -> Job:
    return Job(
        check_model(model),
        check_observations(observations),
        score,
        likelihood_importance,
        handlers_in_force(),
        check_seed(seed),
    )


def _run(
    job: Job,
    num_traces: int,
    backend: str,
    num_workers: int,
    path: str | Path | None,
    progress: bool,
    evidence: bool,
) -> Empirical:
    num_traces, num_workers = check_count("num_traces", num_traces), check_count("num_workers", num_workers)
    broken = Broken()
    conclude = partial(_conclude, job=job, evidence=evidence, broken=broken)
    with Progress(num_traces, "trace", progress) as bar:
        bar.say("compiling" if backend == "jax" or num_traces >= COMPILING_PAYS else "")
        batch_model = choose_backend(backend, job, num_traces)
        if batch_model is None:
            produce = partial(run_on_host, job, num_traces, num_workers, progress=bar, broken=broken)
        else:
            produce = partial(_run_on_device, batch_model, job.seed, num_traces, bar)
        return gather(lambda writer: produce(writer=writer), TraceWriter(path), conclude)


def _run_guided(
    job: Job,
    network: Any,
    num_traces: int,
    lockstep: int,
    fresh_loops: int | None,
    prior_inflation: float,
    path: str | Path | None,
    progress: bool,
) -> Empirical:
    """Executions under a network's proposals."""
    from ppl_jax.infer.guided.amortized_rejection import Loops
    from ppl_jax.infer.guided.lockstep import run_guided  # only here are JAX and Flax needed
    from ppl_jax.nn import Network

    if not isinstance(network, Network):
        raise TypeError(f"proposal must be a network from ppl_jax.train, or a function of a Site; got {network!r}.")
    if prior_inflation != 1.0:
        raise ValueError(
            "prior_inflation widens the prior as a proposal; a network has proposals of its own. Give one of the two."
        )
    num_traces, lockstep = check_count("num_traces", num_traces), at_once(job.model, check_count("lockstep", lockstep))
    loops = Loops() if fresh_loops is None else Loops(check_count("fresh_loops", fresh_loops, least=0), remote=True)
    broken = Broken()
    conclude = partial(_conclude, job=job, evidence=job.likelihood_importance == 1.0, broken=broken)
    with Progress(num_traces, "trace", progress) as bar:
        produce = partial(run_guided, job, network, num_traces, lockstep, loops, broken, progress=bar)
        return gather(lambda writer: produce(writer=writer), TraceWriter(path), conclude)


def _run_on_device(batch_model: Any, seed: int, num_traces: int, progress: Progress, writer: TraceWriter) -> None:
    for start in range(0, num_traces, DEVICE_BLOCK):
        table, log_weights = batch_model.run(seed, start, min(start + DEVICE_BLOCK, num_traces))
        writer.extend(table, log_weights)
        progress.advance_weighted(log_weights)


def _conclude(writer: TraceWriter, job: Job, evidence: bool, broken: Broken) -> Empirical:
    """The Empirical of what was written, after asking whether it is worth anything."""
    table, log_weights = writer.finish()
    executions = len(log_weights) + broken.number
    try:
        broken.conclude(len(log_weights))
    except PPLError as error:
        error.finished = Empirical(table, log_weights) if len(log_weights) else None
        raise
    unweighted = Empirical(table)
    check_names(job.observations, names_met(table), len(table), unweighted)
    check_weights(table, log_weights, unweighted)
    log_evidence = float(logsumexp(log_weights) - np.log(executions)) if evidence else None
    posterior = Empirical(table, log_weights, log_evidence=log_evidence, num_executions=executions)
    if job.score:
        warn_if_unreliable(posterior)
    return posterior
