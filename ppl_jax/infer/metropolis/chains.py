"""Chains of Metropolis-Hastings: how a chain runs its model, adapts its scales, and writes what it visits.

Most steps a chain makes by itself. For a whole new execution from a network it asks, so that those who run many chains
side by side can have the network evaluated for all of them together (see :mod:`ppl_jax.infer.guided.chains`).
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ppl_jax.infer.metropolis.kernels import FIRST_SCALE, TARGET_SCALAR, TARGET_VECTOR
from ppl_jax.infer.metropolis.replayed_steps import NotByRows, Refused, RowState, RowSteps
from ppl_jax.infer.metropolis.single_site import Settings, State, acceptance_of, start, step, table_of
from ppl_jax.language.site import Site
from ppl_jax.running.broken import FORGIVABLE, Broken
from ppl_jax.running.checks import LOOK_EARLY, warn_of_unmet_names
from ppl_jax.running.progress import Counter, Due
from ppl_jax.running.services import Request, Reruns, reruns, shares_stream
from ppl_jax.storage import TraceWriter
from ppl_jax.streams import CountedStream, Stream, counted_streams, derive_seed, streams

_STARTS, _STEPS, _CHOICES = range(3)  # labels of a chain's families of streams


class Scales:
    """Random-walk scale of every address, adapted towards an acceptance rate (Robbins-Monro) during burn-in.

    Where an execution has draws that are made afresh in every step (without control, or in a rejection scope), they
    decide acceptance too, and a walk of any scale may fall short of the usual rate. There every fourth proposal of an
    address moves by nothing, which tells the rate that the fresh draws alone allow, and the others are adapted to the
    usual share of it. (The best rate of a walk with a noisy density is near the product: Sherlock, Thiery, Roberts and
    Rosenthal, "On the efficiency of pseudo-marginal random walk Metropolis algorithms", Annals of Statistics 43, 2015.)

    Attributes:
      adapting: whether the chain is in its burn-in.
    """

    def __init__(self) -> None:
        self.adapting = True
        self._log_scales: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._still: dict[str, list[float]] = {}  # number of moves by nothing, and the sum of their acceptance

    def of(self, address: str) -> float:
        """The scale for proposals at this address."""
        if self.adapting and self._moves_by_nothing(address):
            return 0.0
        known = self._log_scales.get(address)
        return FIRST_SCALE if known is None else math.exp(known)

    def _moves_by_nothing(self, address: str) -> bool:
        return address in self._still and self._counts[address] % 4 == 3

    def learn(self, site: Site, acceptance: float, nuisances: bool) -> None:
        """Takes the acceptance probability of a proposal at ``site`` into account.

        Args:
          site: that was to move.
          acceptance: in [0, 1].
          nuisances: whether the execution has draws that are made afresh in every step.
        """
        address = site.address
        still = self._moves_by_nothing(address)
        count = self._counts[address] = self._counts.get(address, 0) + 1
        if nuisances and address not in self._still:
            self._still[address] = [1.0, 1.0]
        if still:
            self._still[address][0] += 1.0
            self._still[address][1] += acceptance
            return
        target = TARGET_SCALAR if site.distribution.shape == () else TARGET_VECTOR
        if address in self._still:
            number, total = self._still[address]
            target *= total / number
        known = self._log_scales.get(address, math.log(FIRST_SCALE))
        self._log_scales[address] = min(known + (acceptance - target) / count**0.6, math.log(10.0))


# -- two ways of running the model -------------------------------------------------------------------------------------


class ByStatements:
    """A chain that runs the model by calling it; its states are State."""

    def __init__(self, settings: Settings, broken: Broken | None):
        self.settings, self.broken = settings, broken

    def start(self, seed: int) -> Any:
        """The first state."""
        return self.adopted(start(self.settings, seed))

    def step(self, state: Any, scales: Scales, rng: Any) -> tuple[Any | None, float, Site]:
        """The accepted new state or None, the acceptance probability, and the site that was to move."""
        return step(self.settings, state, scales.of, rng, self.broken)

    def adopted(self, state: State) -> Any:
        """A state as this way keeps it."""
        return state

    def seen(self, state: Any) -> list[tuple[Site, bool]]:
        """The sites of a state that a network sees, in the order of the execution, and whether it proposes there."""
        return state.seen()

    def names(self, state: Any) -> set[str]:
        """The names of a state's sites."""
        return {site.name for site in state.trace.sites if site.name}

    def store(self, writer: TraceWriter, state: Any) -> None:
        """Writes the state's trace."""
        writer.append(state.trace, 0.0)


class ByRows(ByStatements):
    """A chain for a model that runs again by itself; its states are RowState, or State where that fails."""

    def __init__(self, settings: Settings, broken: Broken | None, runs: Reruns, request: Request):
        super().__init__(settings, broken)
        self.rows = RowSteps(runs, request, settings.kernel)

    def step(self, state: Any, scales: Scales, rng: Any) -> tuple[Any | None, float, Site]:
        if isinstance(state, RowState):
            try:
                return self._step(state, scales, CountedStream(rng.seed, rng.index))
            except (NotByRows, *FORGIVABLE):  # what fails is done again statement by statement, to know why
                trace, free, scoped = state.sites()
                state = State(trace, free, state.keys, state.log_likelihood, scoped, state.nuisances)
        new, acceptance, chosen = step(self.settings, state, scales.of, rng, self.broken)
        return None if new is None else self.adopted(new), acceptance, chosen

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
        acceptance = acceptance_of(log_ratio, new.table)
        return (None if rng.random() >= acceptance else new), acceptance, site

    def adopted(self, state: State) -> Any:
        return self.rows.adopt(state.trace, state.keys) or state

    def names(self, state: Any) -> set[str]:
        if isinstance(state, RowState):
            return {site.name for site in state.plan.layout.sites if site.name}
        return super().names(state)

    def store(self, writer: TraceWriter, state: Any) -> None:
        if isinstance(state, RowState):
            writer.extend(state.table(), np.zeros(1))
        else:
            super().store(writer, state)


def _way_of(settings: Settings, broken: Broken | None) -> ByStatements:
    """How the chain runs the model."""
    request = Request(settings.seed, settings.observations, True, settings.likelihood_importance)
    runs = reruns(settings.model, settings.ambient, request)
    return ByStatements(settings, broken) if runs is None else ByRows(settings, broken, runs, request)


# -- the chain ---------------------------------------------------------------------------------------------------------


class Question(NamedTuple):
    """A chain asks for a whole new execution from the network.

    Attributes:
      rng: the stream of the execution.
      gain: log prior minus log proposal density of the latents that the chain has now; None if it is not known.
      seen: where it is not known, the latents that the network sees, in the order of the execution, and whether it
        proposes there.
    """

    rng: Stream | CountedStream
    gain: float | None
    seen: list[tuple[Site, bool]]


class Answer(NamedTuple):
    """The new execution, None if its density is zero; its gain, and that of the latents that the chain has now."""

    state: State | None
    gain: float
    present_gain: float


Steps = Generator[Question, Answer, None]


def run_chain(
    settings: Settings, chain: int, length: int, writer: TraceWriter, progress: Counter, broken: Broken | None
) -> Steps:
    """Runs one chain and writes ``length`` traces; asks where a step is the network's.

    ``broken``, if given, counts the steps whose proposed values broke the model, which are refused.
    """
    seed = derive_seed(settings.seed, chain)
    way = _way_of(settings, broken)
    state = way.start(derive_seed(seed, _STARTS))
    scales = Scales()
    adapts, share = settings.kernel.adapts, settings.proposal_share
    choose = Stream(derive_seed(seed, _CHOICES)).random
    gain: float | None = None  # of the present state
    stored: Any = None
    accepted = unreported = 0
    due = Due()
    steps = settings.burn_in + length * settings.thinning
    met = [way.names(state)] if chain == 0 and settings.observations and steps > LOOK_EARLY else []
    counted = share > 0.0 and shares_stream(settings.model)
    own: Iterable[Any] = (counted_streams if counted else streams)(derive_seed(seed, _STEPS), 0, steps)
    for number, rng in enumerate(own):
        after_burn_in = number - settings.burn_in + 1
        scales.adapting = adapts and after_burn_in <= 0
        new = None
        if share and choose() < share:
            answer = yield Question(rng, gain, [] if gain is not None else way.seen(state))
            gain = answer.present_gain
            if _accepts(answer, state.log_likelihood, rng):
                assert answer.state is not None
                new, gain = way.adopted(answer.state), answer.gain
        elif state.keys:  # a network's execution may have none, and stays until the next one
            new, acceptance, chosen = way.step(state, scales, rng)
            if adapts and after_burn_in <= 0:
                scales.learn(chosen, acceptance, state.nuisances)
            if new is not None:
                gain = None
        if new is not None:
            state = new
            accepted += 1
        if met and len(met) < LOOK_EARLY:
            met.append(way.names(state))
            if len(met) == LOOK_EARLY:
                warn_of_unmet_names(settings.observations, met)
        if after_burn_in > 0 and after_burn_in % settings.thinning == 0:
            if state is stored:
                writer.repeat(0.0)
            else:
                stored = state
                way.store(writer, state)
        unreported += 1
        if due():
            progress.advance(unreported, f"chain {chain + 1}, {accepted / (number + 1):.0%} accepted")
            unreported = 0
    progress.advance(unreported, f"chain {chain + 1}, {accepted / steps:.0%} accepted" if steps else "")


def _accepts(answer: Answer, log_likelihood: float, rng: Stream | CountedStream) -> bool:
    """Whether an independent execution is accepted: with the ratio of the importance weights, at most 1."""
    new = answer.state
    if new is None:
        return False
    log_ratio = new.log_likelihood + answer.gain - (log_likelihood + answer.present_gain)
    return rng.random() < acceptance_of(log_ratio, partial(table_of, new.trace))
