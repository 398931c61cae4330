"""Single-site Metropolis-Hastings over traces of changing structure.

A step chooses one controlled latent uniformly, proposes a new value for it, and runs the model again; every other
controlled latent keeps its value as long as it is met at the same (address, instance) with the same family and shape.
Values of sites that appear are drawn from their prior, so that they cancel against their proposal, as do those that
vanish. With n controlled latents before and n' after, the step is accepted with probability min(1, r),

    log r = [log likelihood' - log likelihood] + sum over kept and moved sites of [log prior' - log prior]
            + log q(back) - log q(forth) + log n - log n'

Uncontrolled draws are made afresh from their prior in every step, which leaves the posterior invariant as well. So are
draws in a rejection scope.

A network can take its turn with these steps: it proposes whole new executions (see :mod:`ppl_jax.infer.guided.chains`),
which find what a walk of single sites would not, while the walk moves on where the network's proposals are refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ppl_jax.empirical import Empirical
from ppl_jax.infer.metropolis.chains import Steps, run_chain
from ppl_jax.infer.metropolis.kernels import Kernel, named_kernel
from ppl_jax.infer.metropolis.single_site import Settings
from ppl_jax.language.trace import Trace
from ppl_jax.running.broken import REFUSED, Broken
from ppl_jax.running.checks import (
    check_count,
    check_exponent,
    check_model,
    check_names,
    check_observations,
    gather,
    names_met,
    warn_if_unreliable,
)
from ppl_jax.running.execution import handlers_in_force
from ppl_jax.running.host import Job
from ppl_jax.running.progress import Counted, Counter, Progress, Tally
from ppl_jax.running.reproducible import warn_if_irreproducible
from ppl_jax.running.services import check_workers
from ppl_jax.running.workers import run_in_order, worked
from ppl_jax.storage import TraceTable, TraceWriter
from ppl_jax.streams import check_seed

_PROPOSAL_SHARE = 0.5  # of steps that are a network's


def metropolis_hastings(
    model: Callable[[], Any],
    observations: Mapping[str, Any] | None = None,
    num_traces: int = 1000,
    *,
    kernel: str | Kernel = "random_walk",
    proposal: Any = None,
    proposal_share: float | None = None,
    num_chains: int = 1,
    burn_in: int = 1000,
    thinning: int = 1,
    initial_trace: Trace | None = None,
    likelihood_importance: float = 1.0,
    seed: int | None = None,
    num_workers: int = 1,
    path: str | Path | None = None,
    progress: bool = True,
) -> Empirical:
    """Markov chains whose stationary distribution is the posterior, for any model; the reference for other engines.

    Args:
      model: a callable without arguments.
      observations: name -> observed value.
      num_traces: traces kept, over all chains together.
      kernel: "random_walk", "lightweight" (proposals from the prior), or a kernel such as ``RandomWalk(0.2)``.
      proposal: a network (see :func:`ppl_jax.train`) that proposes whole new executions in some of the steps, from
        which the kernel then goes on; None for none.
      proposal_share: the probability of such a step, in (0, 1]; with a network 0.5 by default.
      num_chains: independent chains, each with its own burn-in. With a network they run side by side, up to 32 (of a
        RemoteModel as many as it has processes), and those that must wait for their turn to be written do so in memory.
      burn_in: steps of each chain before the first trace is kept; random-walk scales are adapted in them only.
      thinning: steps per trace kept.
      initial_trace: where every chain starts; None draws a start of non-zero density from the prior for each.
      likelihood_importance: exponent of the likelihood; below 1 it tempers.
      seed: integer in [0, 2**64); None for a fresh one.
      num_workers: processes among which chains are divided; does not change the result. With a network all chains run
        in this process.
      path: a new folder to keep the traces in, memory-mapped; None keeps them in memory.
      progress: whether to show a progress bar.

    Returns:
      Empirical of Trace with equal weights, chain after chain (``num_chains`` says how many).

    Raises:
      NoLatentsError: there is no controlled latent.
      NetworkError: the network was trained on other observations, or on another model.
      DegenerateWeightsError: no start of non-zero density was found; names the site to blame.
      ObservationError, UnknownObservationError, ModelError: see :func:`ppl_jax.prior`.
    """
    check_workers(model, check_count("num_workers", num_workers))
    chains = check_count("num_chains", num_chains)
    num_traces = check_count("num_traces", num_traces, least=chains)
    settings = Settings(
        check_model(model),
        check_observations(observations),
        named_kernel(kernel),
        check_count("burn_in", burn_in, least=0),
        check_count("thinning", thinning),
        _check_initial_trace(initial_trace),
        check_exponent(likelihood_importance),
        handlers_in_force(),
        check_seed(seed),
        _check_share(proposal, proposal_share),
    )
    run = Job(
        settings.model, settings.observations, True, settings.likelihood_importance, settings.ambient, settings.seed
    )
    warn_if_irreproducible(run, num_traces)
    lengths = [len(part) for part in np.array_split(np.arange(num_traces), chains)]
    with Progress(settings.steps(lengths), "step", progress) as bar:
        if proposal is None:
            produce = partial(_run_chains, settings, lengths, num_workers, bar)
        else:
            produce = partial(_run_guided, settings, _check_network(proposal), lengths, bar)
        return gather(lambda writer: produce(writer), TraceWriter(path), partial(_conclude, settings, lengths))


def _check_initial_trace(trace: Any) -> Trace | None:
    if trace is not None and not isinstance(trace, Trace):
        raise TypeError(
            f"initial_trace must be a Trace of the model, got {trace!r}. Take one from a run, such as "
            "prior(model, 1)[0], or make one: handlers.trace(handlers.substitute(model, data={...})).get_trace()."
        )
    return trace


def _check_share(proposal: Any, share: Any) -> float:
    """The probability of a step from a network, 0 without one."""
    if proposal is None:
        if share is not None:
            raise ValueError(
                f"proposal_share={share!r} is the share of a network's steps, but there is no proposal. Give one."
            )
        return 0.0
    if share is None:
        return _PROPOSAL_SHARE
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0.0 < share <= 1.0:
        raise ValueError(
            f"proposal_share must be a probability above 0, got {share!r}. For no step from the network leave proposal "
            "out."
        )
    return float(share)


def _check_network(proposal: Any) -> Any:
    from ppl_jax.nn import Network  # only here and in _run_guided are JAX and Flax needed

    if not isinstance(proposal, Network):
        raise TypeError(
            f"proposal must be a network from ppl_jax.train, got {proposal!r}. For a site at a time give a kernel."
        )
    return proposal


def _run_guided(settings: Settings, network: Any, lengths: list[int], progress: Progress, writer: TraceWriter) -> None:
    from ppl_jax.infer.guided.chains import run_guided_chains

    run_guided_chains(settings, network, lengths, writer, progress)


def _run_chains(
    settings: Settings, lengths: list[int], num_workers: int, progress: Progress, writer: TraceWriter
) -> None:
    broken = Broken(REFUSED)

    def run(chain: int, part: TraceWriter, counter: Counter) -> None:
        """A chain in this process."""
        own = Broken(any_numerical=False)
        _run(run_chain(settings, chain, lengths[chain], part, counter, own))
        broken.add(own)

    if min(num_workers, len(lengths)) == 1:
        for chain in range(len(lengths)):
            run(chain, writer, progress)
        broken.conclude(settings.steps(lengths) - broken.number)
        return

    here, tally = os.getpid(), Tally(len(lengths), progress)

    def task(chain: int) -> tuple[TraceTable, np.ndarray]:
        def work(part: TraceWriter) -> None:
            if os.getpid() == here:
                run(chain, part, Counted(tally, chain))
            else:  # one that must forgive a step fails, and is repeated in the parent, where they are counted
                _run(run_chain(settings, chain, lengths[chain], part, Counted(tally, chain), None))

        return worked(work, here, writer)

    def receive(table: TraceTable, log_weights: np.ndarray) -> None:
        writer.extend(table, log_weights)
        tally.show()

    run_in_order(task, len(lengths), num_workers, receive, tally.show)
    broken.conclude(settings.steps(lengths) - broken.number)


def _run(steps: Steps) -> None:
    """A chain that never asks."""
    for _ in steps:
        raise AssertionError("unreachable: there is no network to ask")


def _conclude(settings: Settings, lengths: list[int], writer: TraceWriter) -> Empirical:
    table, log_weights = writer.finish()
    whole = len(table) == sum(lengths)  # an interrupted run has chains of unequal length
    posterior = Empirical(table, log_weights, num_chains=len(lengths) if whole else 1, is_chain=True)
    check_names(settings.observations, names_met(table), len(table), posterior)
    warn_if_unreliable(posterior)
    return posterior
