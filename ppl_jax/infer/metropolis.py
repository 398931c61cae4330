"""Single-site Metropolis-Hastings over traces of changing structure.

A step chooses one controlled latent uniformly, proposes a new value for it, and runs the model again; every other
controlled latent keeps its value as long as it is met at the same (address, instance) with the same family and shape.
Values of sites that appear are drawn from their prior, so that they cancel against their proposal, as do those that
vanish. With n controlled latents before and n' after, the step is accepted with probability min(1, r),

    log r = [log likelihood' - log likelihood] + sum over kept and moved sites of [log prior' - log prior]
            + log q(back) - log q(forth) + log n - log n'

Uncontrolled draws are made afresh from their prior in every step, which leaves the posterior invariant as well. So are
draws in a rejection loop that the model marks (see PPX's rejection scopes).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppl_jax.empirical import Empirical
from ppl_jax.errors import DegenerateWeightsError, NoLatentsError
from ppl_jax.execution import Execution, execute, handlers_in_force
from ppl_jax.handlers import reusable
from ppl_jax.infer.kernels import FIRST_SCALE, TARGET_SCALAR, TARGET_VECTOR, Kernel, named_kernel
from ppl_jax.infer.progress import Progress
from ppl_jax.infer.rowwise import NotByRows, Refused, RowState, RowSteps
from ppl_jax.infer.runs import (
    check_count,
    check_exponent,
    check_model,
    check_names,
    check_observations,
    check_weights,
    gather,
    names_met,
)
from ppl_jax.infer.workers import run_in_order
from ppl_jax.models import Request, Reruns, check_workers, reruns
from ppl_jax.primitives import Site
from ppl_jax.storage import TraceTable, TraceWriter
from ppl_jax.streams import CountedStream, Stream, check_seed, derive_seed, streams
from ppl_jax.traces import Trace

START_TRIES = 10_000  # prior executions among which a starting point of non-zero density is looked for
_STARTS, _STEPS = range(2)  # labels of a chain's two families of streams
_REPORT_EVERY = 256  # steps between updates of the progress bar

Sites = dict[tuple[str, int], Site]


def metropolis_hastings(
    model: Callable[[], Any],
    observations: Mapping[str, Any] | None = None,
    num_traces: int = 1000,
    *,
    kernel: str | Kernel = "random_walk",
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
      num_chains: independent chains, each with its own burn-in.
      burn_in: steps of each chain before the first trace is kept; random-walk scales are adapted in them only.
      thinning: steps per trace kept.
      initial_trace: where every chain starts; None draws a start of non-zero density from the prior for each.
      likelihood_importance: exponent of the likelihood; below 1 it tempers.
      seed: integer in [0, 2**64); None for a fresh one.
      num_workers: processes among which chains are divided; does not change the result.
      path: a new folder to keep the traces in, memory-mapped; None keeps them in memory.
      progress: whether to show a progress bar.

    Returns:
      Empirical of Trace with equal weights, chain after chain (``num_chains`` says how many).

    Raises:
      NoLatentsError: there is no controlled latent.
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
    )
    lengths = [len(part) for part in np.array_split(np.arange(num_traces), chains)]
    steps = chains * settings.burn_in + num_traces * settings.thinning
    with Progress(steps, "step", progress) as bar:
        produce = partial(_run_chains, settings, lengths, check_count("num_workers", num_workers), bar)
        return gather(lambda writer: produce(writer), TraceWriter(path), partial(_conclude, settings, lengths))


def _check_initial_trace(trace: Any) -> Trace | None:
    if trace is not None and not isinstance(trace, Trace):
        raise TypeError(
            f"initial_trace must be a Trace of the model, got {trace!r}. Take one from a run, such as "
            "prior(model, 1)[0], or make one: handlers.trace(handlers.substitute(model, data={...})).get_trace()."
        )
    return trace


class Settings(NamedTuple):
    """What all chains share."""

    model: Callable[[], Any]
    observations: Mapping[str, Any]
    kernel: Kernel
    burn_in: int
    thinning: int
    initial_trace: Trace | None
    likelihood_importance: float
    ambient: tuple
    seed: int


def _run_chains(
    settings: Settings, lengths: list[int], num_workers: int, progress: Progress, writer: TraceWriter
) -> None:
    if min(num_workers, len(lengths)) == 1:
        for chain, length in enumerate(lengths):
            run_chain(settings, chain, length, writer, progress)
        return

    here = os.getpid()

    def task(chain: int) -> tuple[TraceTable, np.ndarray]:
        part = TraceWriter()
        try:
            run_chain(settings, chain, lengths[chain], part, Progress(0, "step", show=False))
        except BaseException as error:
            if os.getpid() == here:  # a failed chain is repeated here: keep what it finished
                writer.extend(*part.finish())
                raise
            if not isinstance(error, KeyboardInterrupt):
                raise
        return part.finish()

    def receive(table: TraceTable, log_weights: np.ndarray) -> None:
        writer.extend(table, log_weights)
        progress.advance(settings.burn_in + len(table) * settings.thinning)

    run_in_order(task, len(lengths), num_workers, receive)


def _conclude(settings: Settings, lengths: list[int], writer: TraceWriter) -> Empirical:
    table, log_weights = writer.finish()
    whole = len(table) == sum(lengths)  # an interrupted run has chains of unequal length
    posterior = Empirical(table, log_weights, num_chains=len(lengths) if whole else 1)
    check_names(settings.observations, names_met(table), len(table), posterior)
    return posterior


# -- one chain ---------------------------------------------------------------------------------------------------------


class Impossible(BaseException):
    """Ends an execution that will be rejected anyway; not an Exception, so that models do not catch it."""


class Proposal(Execution):
    """An execution that keeps the values of ``previous`` and moves the one at ``chosen``.

    It is given up (Impossible) as soon as its density is zero: no model ever runs on with an impossible value.
    ``free`` holds the sites that can be chosen next; ``log_ratio`` the priors of kept and moved sites, new over old,
    and the kernel's correction; ``moved`` whether the chosen site was met.
    """

    __slots__ = ("chosen", "free", "kernel", "log_ratio", "loops", "moved", "previous", "scale")

    def __init__(self, rng: Any, settings: Settings, previous: Sites, chosen: tuple[str, int] | None, scale: float):
        super().__init__(rng, settings.observations, True, settings.likelihood_importance)
        self.previous = previous
        self.chosen = chosen
        self.kernel = settings.kernel
        self.scale = scale
        self.free: Sites = {}
        self.log_ratio = 0.0
        self.moved = False
        self.loops = 0  # rejection loops that are open: see rowwise

    def mark(self) -> Any:
        """The beginning of a rejection loop, or of another pass; nothing in it is kept or moved."""
        self.loops += 1
        return super().mark(), self.loops - 1

    def rewind(self, mark: Any) -> None:
        """Forgets a rejected pass."""
        super().rewind(mark[0])
        self.loops = mark[1]

    def leave(self, mark: Any) -> None:
        """The end of a rejection loop."""
        self.loops = mark[1]

    def settle_latent(self, site: Site) -> None:
        """Keeps, moves or draws the value."""
        site.proposal = None  # proposals of inner handlers are for importance sampling
        if not site.control or self.loops:
            # Only an initial trace gives values of uncontrolled draws.
            given = None if self.loops else self.previous.get((site.address, site.instance))
            if given is not None and reusable(given, site):
                site.value = given.value
            else:
                site.value = site.distribution.sample(self.rng)
            return
        key = (site.address, site.instance)
        self.free[key] = site
        old = self.previous.get(key)
        if old is None or not reusable(old, site):
            site.value = site.distribution.sample(self.rng)
        elif key != self.chosen:
            site.value = old.value
            self.add_prior(site, old)
        elif site.distribution.numbers() == old.distribution.numbers():
            site.value, log_kernel_ratio = self.kernel.move(site.distribution, old.value, self.scale, self.rng)
            self.log_ratio += log_kernel_ratio
            self.add_prior(site, old)
            self.moved = True
        else:  # a fresh uncontrolled draw changed the prior here: the prior is proposed, both forth and back
            site.value = site.distribution.sample(self.rng)
            self.moved = True

    def add_prior(self, site: Site, old: Site) -> None:
        """Adds the ratio of the prior densities of a kept or moved value."""
        log_prob = site.log_prob
        if log_prob == -math.inf and self.chosen is not None:
            raise Impossible
        self.log_ratio += log_prob - old.log_prob

    def settle_observed(self, site: Site) -> None:
        """Weighs the value."""
        super().settle_observed(site)
        if self.log_weight == -math.inf and self.chosen is not None and not self.loops:
            raise Impossible

    def settle_fixed(self, site: Site) -> None:
        """A latent fixed by an inner handler counts as part of the target, whatever it hangs on."""
        self.log_weight += site.log_prob


class State(NamedTuple):
    """Where a chain is: the trace, its sites that can move, their keys, and its log likelihood."""

    trace: Trace
    free: Sites
    keys: list[tuple[str, int]]
    log_likelihood: float


class Scales:
    """Random-walk scale of every address, adapted towards an acceptance rate (Robbins-Monro) during burn-in."""

    def __init__(self) -> None:
        self._log_scales: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def of(self, address: str) -> float:
        """The scale for proposals at this address."""
        known = self._log_scales.get(address)
        return FIRST_SCALE if known is None else math.exp(known)

    def learn(self, site: Site, acceptance: float) -> None:
        """Takes the acceptance probability of a proposal at ``site`` into account."""
        address = site.address
        count = self._counts[address] = self._counts.get(address, 0) + 1
        target = TARGET_SCALAR if site.distribution.shape == () else TARGET_VECTOR
        known = self._log_scales.get(address, math.log(FIRST_SCALE))
        self._log_scales[address] = min(known + (acceptance - target) / count**0.6, math.log(10.0))


class ByStatements:
    """A chain that runs the model by calling it; its states are State."""

    def __init__(self, settings: Settings):
        self.settings = settings

    def start(self, seed: int) -> Any:
        """The first state."""
        return _start(self.settings, seed)

    def step(self, state: Any, scales: Scales, rng: Any) -> tuple[Any | None, float, Site]:
        """The accepted new state or None, the acceptance probability, and the site that was to move."""
        return _step(self.settings, state, scales, rng)

    def store(self, writer: TraceWriter, state: Any) -> None:
        """Writes the state's trace."""
        writer.append(state.trace, 0.0)


class ByRows(ByStatements):
    """A chain for a model that runs again by itself; its states are RowState, or State where that fails."""

    def __init__(self, settings: Settings, runs: Reruns, request: Request):
        super().__init__(settings)
        self.rows = RowSteps(runs, request, settings.kernel)

    def start(self, seed: int) -> Any:
        return self._adopted(_start(self.settings, seed))

    def step(self, state: Any, scales: Scales, rng: Any) -> tuple[Any | None, float, Site]:
        if isinstance(state, RowState):
            try:
                return self._step(state, scales, CountedStream(rng.seed, rng.index))
            except NotByRows:
                trace, free = state.sites()
                state = State(trace, free, state.keys, state.log_likelihood)
        new, acceptance, chosen = _step(self.settings, state, scales, rng)
        return None if new is None else self._adopted(new), acceptance, chosen

    def _step(self, state: RowState, scales: Scales, rng: CountedStream) -> tuple[RowState | None, float, Site]:
        keys = state.keys
        chosen = keys[int(rng.random() * len(keys))]
        site = state.site(chosen)
        try:
            new, log_ratio = self.rows.propose(state, chosen, scales.of(chosen[0]), rng)
        except Refused:
            return None, 0.0, site
        if len(new.plan.free) != len(keys):
            log_ratio += math.log(len(keys) / len(new.plan.free))
        if math.isnan(log_ratio):
            check_weights(new.table(), np.array([log_ratio]))
        acceptance = 1.0 if log_ratio >= 0.0 else math.exp(log_ratio)
        return (None if rng.random() >= acceptance else new), acceptance, site

    def _adopted(self, state: State) -> Any:
        return self.rows.adopt(state.trace, state.keys) or state

    def store(self, writer: TraceWriter, state: Any) -> None:
        if isinstance(state, RowState):
            writer.extend(state.table(), np.zeros(1))
        else:
            super().store(writer, state)


def _way_of(settings: Settings) -> ByStatements:
    """How the chain runs the model."""
    request = Request(settings.seed, settings.observations, True, settings.likelihood_importance)
    runs = reruns(settings.model, settings.ambient, request)
    return ByStatements(settings) if runs is None else ByRows(settings, runs, request)


def run_chain(settings: Settings, chain: int, length: int, writer: TraceWriter, progress: Progress) -> None:
    """Runs one chain and writes ``length`` traces."""
    seed = derive_seed(settings.seed, chain)
    way = _way_of(settings)
    state = way.start(derive_seed(seed, _STARTS))
    scales = Scales()
    adapts = settings.kernel.adapts
    stored: Any = None
    accepted = 0
    steps = settings.burn_in + length * settings.thinning
    for number, rng in enumerate(streams(derive_seed(seed, _STEPS), 0, steps)):
        after_burn_in = number - settings.burn_in + 1
        new, acceptance, chosen = way.step(state, scales, rng)
        if adapts and after_burn_in <= 0:
            scales.learn(chosen, acceptance)
        if new is not None:
            state = new
            accepted += 1
        if after_burn_in > 0 and after_burn_in % settings.thinning == 0:
            if state is stored:
                writer.repeat(0.0)
            else:
                stored = state
                way.store(writer, state)
        if (number + 1) % _REPORT_EVERY == 0:
            progress.advance(_REPORT_EVERY, f"chain {chain + 1}, {accepted / (number + 1):.0%} accepted")
    progress.advance(steps % _REPORT_EVERY)


def _step(settings: Settings, state: State, scales: Scales, rng: Any) -> tuple[State | None, float, Site]:
    """The accepted new state or None, the acceptance probability, and the site that was to move."""
    keys = state.keys
    chosen = keys[int(rng.random() * len(keys))]
    execution = Proposal(rng, settings, state.free, chosen, scales.of(chosen[0]))
    try:
        trace = execute(execution, settings.model, settings.ambient)
    except Impossible:
        return None, 0.0, state.free[chosen]
    free = execution.free
    if not (execution.moved and free):
        return None, 0.0, state.free[chosen]
    log_ratio = execution.log_ratio + execution.log_weight - state.log_likelihood
    if len(free) != len(keys):
        log_ratio += math.log(len(keys) / len(free))
    if math.isnan(log_ratio):
        check_weights(_table_of(trace), np.array([log_ratio]))
    acceptance = 1.0 if log_ratio >= 0.0 else math.exp(log_ratio)
    if rng.random() >= acceptance:
        return None, acceptance, state.free[chosen]
    trace = Trace(trace.sites, trace.result, 0.0)
    same_keys = len(free) == len(keys) and free.keys() == state.free.keys()
    return State(trace, free, keys if same_keys else list(free), execution.log_weight), acceptance, state.free[chosen]


def _start(settings: Settings, seed: int) -> State:
    """The initial trace, or the first prior execution of non-zero density."""
    given = settings.initial_trace
    previous = {(site.address, site.instance): site for site in given.latents} if given is not None else {}
    tries = 1 if given is not None else START_TRIES
    trace: Trace
    for index in range(tries):
        execution = Proposal(Stream(seed, index), settings, previous, None, FIRST_SCALE)
        trace = execute(execution, settings.model, settings.ambient)
        if not execution.free:
            raise NoLatentsError(
                "The model has no controlled latent variable for Metropolis-Hastings to move: it calls sample only "
                "with control=False, on conditioned names, or never. Use importance_sampling, or control a draw."
            )
        log_density = execution.log_weight + sum(site.log_prob for site in execution.free.values())
        if -math.inf < log_density < math.inf:
            return State(
                Trace(trace.sites, trace.result, 0.0), execution.free, list(execution.free), execution.log_weight
            )
    start = f"None of {tries} starts drawn from the prior has" if given is None else "The initial trace does not have"
    try:
        check_weights(_table_of(trace), np.array([log_density]))
    except DegenerateWeightsError as error:
        raise DegenerateWeightsError(
            f"{start} a posterior density that is finite and not zero. Give an initial_trace that has. {error}"
        ) from None
    raise AssertionError("unreachable: the density is zero, infinite or not a number")


def _table_of(trace: Trace) -> TraceTable:
    writer = TraceWriter()
    writer.append(trace, 0.0)
    return writer.finish()[0]
