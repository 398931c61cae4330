"""The single-site step of Metropolis-Hastings, and where a chain starts: executions of a model that is called.

The step is described in :mod:`ppl_jax.infer.metropolis.engine`; chains are made of it in
:mod:`ppl_jax.infer.metropolis.chains`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ppl_jax.errors import DegenerateWeightsError, NoLatentsError
from ppl_jax.infer.metropolis.kernels import FIRST_SCALE, Kernel
from ppl_jax.infer.metropolis.other_choices import carried_over, has_other_choices
from ppl_jax.language.handlers import reusable
from ppl_jax.language.site import Site
from ppl_jax.language.trace import Trace
from ppl_jax.running.broken import FORGIVABLE, Broken
from ppl_jax.running.checks import check_weights
from ppl_jax.running.execution import Execution, execute
from ppl_jax.storage import TraceTable, TraceWriter
from ppl_jax.streams import Stream

START_TRIES = 10_000  # prior executions among which a starting point of non-zero density is looked for

Key = tuple[str, int]  # address and instance
Sites = dict[Key, Site]


class Settings(NamedTuple):
    """What all chains share; ``proposal_share`` is the probability of a step from a network, 0 without one."""

    model: Callable[[], Any]
    observations: Mapping[str, Any]
    kernel: Kernel
    burn_in: int
    thinning: int
    initial_trace: Trace | None
    likelihood_importance: float
    ambient: tuple
    seed: int
    proposal_share: float

    def steps(self, lengths: Sequence[int]) -> int:
        """How many steps chains of these numbers of traces make together."""
        return sum(self.burn_in + length * self.thinning for length in lengths)


class Impossible(BaseException):
    """Ends an execution that will be rejected anyway; not an Exception, so that models do not catch it."""


class Proposed(Execution):
    """An execution that may become a chain's next one: its ``log_weight`` is the part of the target beside the priors.

    A latent fixed by an inner handler counts as part of the target. An execution of density zero is given up. Draws in
    a rejection scope are nuisances, for of their prior only the accepted pass is known, not the probability of
    acceptance by which it is normalised; an execution keeps and moves none of them, and draws them afresh as a whole.

    Attributes, of which subclasses have slots:
      free: the controlled latents outside rejection scopes, by key, in the order in which they are met.
      scoped: those within, those of rejected passes included.
    """

    __slots__ = ()

    free: Sites
    scoped: Sites

    def settle_observed(self, site: Site) -> None:
        """Weighs the value."""
        super().settle_observed(site)
        if self.log_weight == -math.inf:
            self.give_up()

    def settle_fixed(self, site: Site) -> None:
        """A latent fixed by an inner handler counts as part of the target, whatever it hangs on."""
        self.log_weight += site.log_prob

    def give_up(self) -> None:
        """Called when the density is zero: no model ever runs on with an impossible value."""
        raise Impossible


class Proposal(Proposed):
    """An execution that keeps the values of ``previous`` and moves the one at ``chosen``.

    ``log_ratio`` has the priors of kept and moved sites, new over old, and the kernel's correction; ``moved`` tells
    whether the chosen site was met, ``nuisances`` whether there are draws that are made afresh in every step. With
    nothing chosen it is a chain's start, which is never given up.
    """

    proposer = "the chain"

    __slots__ = ("chosen", "free", "kernel", "log_ratio", "moved", "nuisances", "previous", "scale", "scoped")

    def __init__(self, rng: Any, settings: Settings, previous: Sites, chosen: Key | None, scale: float):
        super().__init__(rng, settings.observations, True, settings.likelihood_importance)
        self.previous = previous
        self.chosen = chosen
        self.kernel = settings.kernel
        self.scale = scale
        self.free = {}
        self.scoped = {}
        self.log_ratio = 0.0
        self.moved = False
        self.nuisances = False

    @property
    def steered(self) -> list[Site]:
        """The latents so far whose values may be no draws from their priors: kept under another prior, or moved."""
        if self.chosen is None:
            return []
        kept = [(self.previous[key], site) for key, site in self.free.items() if key in self.previous]
        kept = [(old, site) for old, site in kept if site.value is not None and reusable(old, site)]
        moved = [site for _, site in kept if (site.address, site.instance) == self.chosen]
        changed = [site for old, site in kept if site.distribution.numbers() != old.distribution.numbers()]
        return changed + moved

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
            if site.control:
                self.scoped[site.address, site.instance] = site
            self.nuisances = True
            return
        key = (site.address, site.instance)
        self.free[key] = site
        old = self.previous.get(key)
        if old is None or not reusable(old, site):
            site.value = site.distribution.sample(self.rng)
        elif key != self.chosen:
            if has_other_choices(old.distribution, site.distribution):
                site.value, log_factor = carried_over(old.distribution, old.value, site.distribution, self.rng)
                if log_factor == -math.inf:
                    self.give_up()
                self.log_ratio += log_factor
                return
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
        if log_prob == -math.inf:
            self.give_up()
        self.log_ratio += log_prob - old.log_prob

    def give_up(self) -> None:
        """See :class:`Proposed`."""
        if self.chosen is not None:
            raise Impossible


class State(NamedTuple):
    """Where a chain is.

    Attributes:
      trace: the execution.
      free: its sites that can move, in their order; ``keys`` their keys, in the order in which they are numbered.
      log_likelihood: log density of all else that belongs to the target.
      scoped: controlled latents in rejection scopes, and perhaps others that were in rejected passes.
      nuisances: whether it has latents that cannot move, and are drawn afresh in every step.
    """

    trace: Trace
    free: Sites
    keys: list[Key]
    log_likelihood: float
    scoped: Sites
    nuisances: bool = False

    def seen(self) -> list[tuple[Site, bool]]:
        """The sites that a network sees, in their order, and whether it proposes there."""
        if not self.scoped:
            return [(site, True) for site in self.free.values()]
        found = []
        for site in self.trace.sites:
            key = (site.address, site.instance)
            if self.free.get(key) is site:
                found.append((site, True))
            elif self.scoped.get(key) is site:
                found.append((site, False))
        return found


def step(
    settings: Settings, state: State, scale_of: Callable[[str], float], rng: Any, broken: Broken | None = None
) -> tuple[State | None, float, Site]:
    """One single-site step: the accepted new state or None, the acceptance probability, and the site to move.

    A step that the moved value broke is refused, where ``broken`` counts them.
    """
    keys = state.keys
    chosen = keys[int(rng.random() * len(keys))]
    execution = Proposal(rng, settings, state.free, chosen, scale_of(chosen[0]))
    try:
        trace = execute(execution, settings.model, settings.ambient)
    except Impossible:
        return None, 0.0, state.free[chosen]
    except FORGIVABLE as error:
        if broken is None:
            raise
        broken.forgive(error, execution, rng.index - broken.number)
        return None, 0.0, state.free[chosen]
    free = execution.free
    if not (execution.moved and free):
        return None, 0.0, state.free[chosen]
    log_ratio = execution.log_ratio + execution.log_weight - state.log_likelihood
    if len(free) != len(keys):
        log_ratio += math.log(len(keys) / len(free))
    acceptance = acceptance_of(log_ratio, partial(table_of, trace))
    if rng.random() >= acceptance:
        return None, acceptance, state.free[chosen]
    trace = Trace(trace.sites, trace.result, 0.0, trace.scopes)
    same_keys = len(free) == len(keys) and free.keys() == state.free.keys()
    keys = keys if same_keys else list(free)
    new = State(trace, free, keys, execution.log_weight, execution.scoped, execution.nuisances)
    return new, acceptance, state.free[chosen]


def start(settings: Settings, seed: int) -> State:
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
                "with control=False, in rejection scopes, on conditioned names, or never. Use importance_sampling, or "
                "control a draw."
            )
        log_density = execution.log_weight + sum(site.log_prob for site in execution.free.values())
        if -math.inf < log_density < math.inf:
            trace = Trace(trace.sites, trace.result, 0.0, trace.scopes)
            free = execution.free
            return State(trace, free, list(free), execution.log_weight, execution.scoped, execution.nuisances)
    start = f"None of {tries} starts drawn from the prior has" if given is None else "The initial trace does not have"
    try:
        check_weights(table_of(trace), np.array([log_density]))
    except DegenerateWeightsError as error:
        raise DegenerateWeightsError(
            f"{start} a posterior density that is finite and not zero. Give an initial_trace that has. {error}"
        ) from None
    raise AssertionError("unreachable: the density is zero, infinite or not a number")


def acceptance_of(log_ratio: float, table: Callable[[], TraceTable]) -> float:
    """The probability of accepting an execution, of the logarithm of its ratio; ``table`` gives it to blame.

    Raises:
      DegenerateWeightsError: it is not a number; names the site to blame.
    """
    if math.isnan(log_ratio):
        check_weights(table(), np.array([log_ratio]))
    return 1.0 if log_ratio >= 0.0 else math.exp(log_ratio)


def table_of(trace: Trace) -> TraceTable:
    """A table of one trace."""
    writer = TraceWriter()
    writer.append(trace, 0.0)
    return writer.finish()[0]
