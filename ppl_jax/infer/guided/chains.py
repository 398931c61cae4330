"""Networks as proposals of Metropolis-Hastings: whole new executions, for many chains side by side.

The kernel is an independence sampler. A new execution is guided by the network as in importance sampling; with w prior
times likelihood over proposal density, it is accepted with probability min(1, w' / w) (Tierney, Annals of Statistics
22, 1994, section 2.3.3). Latents for which the network does not propose (nuisances, draws in rejection scopes, unknown
call sites) come from their prior in both executions, and cancel; of those in scopes it sees the accepted pass, as in
its training.

For w the network follows the chain's present execution, draw by draw in the same blocks in which it guides new ones,
so that the density of a draw does not depend on which of the two it was: w is a function of the execution, to the bit.
That costs next to nothing beside a new execution: both go on in the same evaluations.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ppl_jax.errors import NetworkError, describe_site
from ppl_jax.infer.guided.amortized_rejection import Looping, Loops
from ppl_jax.infer.guided.evaluator import Evaluator, Guided, Pending, Token, log_priors
from ppl_jax.infer.guided.tasks import Task
from ppl_jax.infer.metropolis.chains import Answer, Question, Steps, run_chain
from ppl_jax.infer.metropolis.single_site import Impossible, Proposed, Settings, State
from ppl_jax.language.site import SAMPLE, Site
from ppl_jax.language.trace import Trace
from ppl_jax.nn.draws import log_densities, mixed_with_prior, proposals_of
from ppl_jax.nn.network import Network
from ppl_jax.running.broken import FORGIVABLE, REFUSED, Broken, check_number
from ppl_jax.running.host import Job
from ppl_jax.running.progress import Progress
from ppl_jax.running.services import at_once
from ppl_jax.storage import TraceWriter
from ppl_jax.streams import CountedStream, Stream

SIDE_BY_SIDE = 32  # chains; each has up to two executions in a block of the network's


class Fresh(Proposed, Looping):
    """A new execution, guided by the network.

    Attributes:
      gain: log prior minus log proposal density of the latents so far.
    """

    __slots__ = ("free", "gain", "scoped")

    def __init__(self, rng: Stream | CountedStream, job: Job, network: Network, slot: int, evaluator: Evaluator):
        super().__init__(rng, job, network, slot, evaluator, Loops(0))
        self.free = {}
        self.scoped = {}
        self.gain = 0.0

    def start_again(self) -> None:
        """Goes back to the beginning."""
        super().start_again()
        self.free, self.scoped, self.gain = {}, {}, 0.0

    def settle_latent(self, site: Site) -> None:
        """Asks for a value, or draws it from the prior."""
        site.proposal = None  # proposals of inner handlers are for importance sampling
        if not site.control:
            site.value = site.distribution.sample(self.rng) if self.drawn is None else self.drawn
            return
        log_likelihood, self.log_weight = self.log_weight, 0.0
        super().settle_latent(site)
        gain, self.log_weight = self.log_weight, log_likelihood
        if self.loops:  # the network only saw it
            self.scoped[site.address, site.instance] = site
            return
        self.free[site.address, site.instance] = site
        self.gain += gain
        if self.gain == -math.inf:
            self.give_up()


class Followed(Guided):
    """An execution that is there already: the network sees its latents one after the other.

    Attributes:
      given: the value of the draw that is pending.
      proposes: whether the network proposes for it.
    """

    __slots__ = ("_elements", "given", "proposes")

    def __init__(self, job: Job, network: Network, slot: int):
        super().__init__(Stream(0), job, network, slot)  # nothing that it draws is kept
        self._elements: Iterator[float] = iter(())
        self.given = 0.0
        self.proposes = True

    def follow(self, seen: list[tuple[Site, bool]]) -> float:
        """Log prior minus log proposal density of latents, added up in the order of :class:`Fresh`.

        Args:
          seen: the latents, and whether the network proposes for each.
        """
        gain = 0.0
        for site, self.proposes in seen:
            if self.network.row(site.address, site.distribution.family):
                again = Site(SAMPLE, site.distribution, None, site.name, site.address, True, False)
                again.instance = site.instance
                self._elements = iter(np.ravel(site.value).tolist())
                self.log_weight = 0.0
                self.settle_latent(again)
                gain += self.log_weight if self.proposes else 0.0
        return gain

    def _ask(self, token: Token) -> tuple[Any, float]:
        self.given = next(self._elements)
        return super()._ask(token._replace(from_prior=not self.proposes))


class ChainsEvaluator(Evaluator):
    """An Evaluator that draws for new executions, and weighs the values of those that are followed."""

    def _settle(self, pending: Pending) -> tuple[np.ndarray, np.ndarray]:
        is_followed = np.array([isinstance(execution, Followed) for execution in pending.executions])
        if not is_followed.any():
            return super()._settle(pending)
        values, log_density = np.empty(len(is_followed)), np.empty(len(is_followed))
        fresh, followed = np.flatnonzero(~is_followed), np.flatnonzero(is_followed)
        if len(fresh):
            values[fresh], log_density[fresh] = super()._settle(pending.take(fresh))
        values[followed], log_density[followed] = self._weigh(pending.take(followed))
        return values, log_density

    def _weigh(self, pending: Pending) -> tuple[np.ndarray, np.ndarray]:
        """The values that are there, and their log densities."""
        values = np.array([execution.given for execution in pending.executions], np.float64)  # type: ignore[attr-defined]
        log_prior = log_priors([token.prior for token in pending.tokens], values)
        log_density = log_prior.copy()
        where = np.flatnonzero(pending.able)
        if len(where):
            part = None if pending.log_probs is None else pending.log_probs[where]
            own = proposals_of(pending.raw[where], pending.frames.take(where), part, self._config.components)
            proposed = log_densities(own, values[where])
            log_density[where] = mixed_with_prior(proposed, log_prior[where], self._config.prior_share)
        return values, log_density


class _Chain:
    """A chain under way, and the executions for which it waits."""

    def __init__(self, number: int, steps: Steps, writer: TraceWriter, slot: int, broken: Broken):
        self.number, self.steps, self.writer, self.slot, self.broken = number, steps, writer, slot, broken
        self.tasks: list[Task[Any]] = []
        self.question: Question | None = None

    def under_way(self) -> list[Task[Any]]:
        """The executions that are not at their end."""
        return [task for task in self.tasks if not task.done]

    def waits(self) -> bool:
        """Whether one of them waits for another process."""
        return any(task.waits for task in self.tasks)

    def answer(self) -> Answer | None:
        """The answer to the question, once it is there; None before the first question."""
        if self.question is None:
            return None
        state, gain = self.tasks[0].result
        known = self.question.gain
        return Answer(state, gain, self.tasks[1].result if known is None else known)


class SideBySide:
    """Runs chains side by side and answers their questions.

    Args:
      settings: of the chains.
      network: proposes.
      lengths: how many traces each chain is to write.
      width: how many chains are under way at once.
    """

    def __init__(self, settings: Settings, network: Network, lengths: Sequence[int], width: int):
        self._settings, self._network, self._lengths = settings, network, lengths
        self._job = Job(
            settings.model, settings.observations, True, settings.likelihood_importance, settings.ambient, settings.seed
        )
        self._width = min(width, len(lengths))
        self._evaluator = ChainsEvaluator(network, settings.observations, 2 * self._width)
        self._finished: dict[int, TraceWriter] = {}
        self._broken, self._steps = Broken(), 0  # of the network's executions
        self._refused = Broken(REFUSED)  # of all steps
        self._written = 0

    def run(self, writer: TraceWriter, progress: Progress) -> None:
        """All chains, written in their order, also where the run is interrupted."""
        waiting = iter(range(len(self._lengths)))
        running: list[_Chain] = []
        try:
            for slot in range(self._width):
                self._begin(next(waiting), slot, running, writer, progress)
            while running:
                queue = deque((chain, True) for chain in running)
                while queue:
                    chain, answered = queue.popleft()
                    if not self._advance(chain, answered):
                        running.remove(chain)
                        self._finished[chain.number] = chain.writer
                        self._refused.add(chain.broken)
                        self._write(writer)
                        following = next(waiting, None)
                        if following is not None:
                            queue.append((self._begin(following, chain.slot, running, writer, progress), False))
                    elif chain.waits():
                        queue.append((chain, False))
                tasks = [task for chain in running for task in chain.under_way()]
                if tasks:
                    self._evaluator.answer([task.execution for task in tasks])
            self._refused.add(self._broken)
            self._refused.conclude(self._settings.steps(self._lengths) - self._refused.number)
            self._evaluator.coverage.conclude(self._steps)
        finally:
            for chain in running:
                for task in chain.under_way():
                    task.end()
                self._finished[chain.number] = chain.writer
            for number in sorted(self._finished):
                self._copy(self._finished.pop(number), writer)

    def _begin(self, number: int, slot: int, running: list[_Chain], writer: TraceWriter, progress: Progress) -> _Chain:
        """Puts a chain into a slot. It writes into memory where others are under way that come before it."""
        own = writer if self._width == 1 else TraceWriter()
        broken = Broken(any_numerical=False)
        steps = run_chain(self._settings, number, self._lengths[number], own, progress, broken)
        chain = _Chain(number, steps, own, slot, broken)
        running.append(chain)
        return chain

    def _advance(self, chain: _Chain, answered: bool) -> bool:
        """Runs a chain to its next draws that are to be answered, or to where it must wait; False at its end."""
        for task in chain.under_way():
            if answered or task.waits:
                task.go_on()
        while not chain.under_way():
            try:
                question = chain.steps.send(chain.answer())  # type: ignore[arg-type]
            except StopIteration:
                return False
            self._check_known(chain, question)
            chain.question, chain.tasks = question, []
            chain.tasks.append(self._fresh(question, 2 * chain.slot))
            if question.gain is None:
                chain.tasks.append(self._followed(question, 2 * chain.slot + 1))
            for task in chain.tasks:
                task.go_on()
        return True

    def _fresh(self, question: Question, slot: int) -> Task[Any]:
        execution = Fresh(question.rng, self._job, self._network, slot, self._evaluator)

        def run() -> tuple[State | None, float]:
            self._steps += 1
            try:
                trace = execution.perform()
                check_number(execution.log_weight, execution)
            except Impossible:
                return None, 0.0
            except FORGIVABLE as error:
                self._broken.forgive(error, execution, self._steps - 1 - self._broken.number)
                return None, 0.0  # a proposal of density zero, which is rejected
            trace = Trace(trace.sites, trace.result, 0.0, trace.scopes)
            free = execution.free
            nuisances = any(site.is_latent and (site.address, site.instance) not in free for site in trace.sites)
            state = State(trace, free, list(free), execution.log_weight, execution.scoped, nuisances)
            return state, execution.gain

        return Task(execution, run)

    def _followed(self, question: Question, slot: int) -> Task[Any]:
        execution = Followed(self._job, self._network, slot)
        return Task(execution, lambda: execution.follow(question.seen))

    def _check_known(self, chain: _Chain, question: Question) -> None:
        """Raises NetworkError if the first chain begins where the network knows nothing."""
        if chain.number or chain.question is not None or not question.seen:
            return
        sites = [site for site, _ in question.seen]
        if not any(self._network.sites.row(site.address, site.distribution.family) for site in sites):
            raise NetworkError(
                f"The network knows none of the {len(sites)} latents where the chain begins, of which the first is the "
                f"{describe_site(sites[0])}: it was trained on another model, or on one that has changed since. Its "
                f"call sites are {', '.join(address for address, _ in self._network.sites.known[:5]) or 'none'}. Train "
                "one on this model, or leave proposal out."
            )

    def _write(self, writer: TraceWriter) -> None:
        """Writes what is finished and has its turn."""
        while self._written in self._finished:
            self._copy(self._finished.pop(self._written), writer)
            self._written += 1

    @staticmethod
    def _copy(part: TraceWriter, writer: TraceWriter) -> None:
        if part is not writer:
            writer.extend(*part.finish())


def run_guided_chains(
    settings: Settings, network: Network, lengths: Sequence[int], writer: TraceWriter, progress: Progress
) -> None:
    """All chains of a run in which a network proposes, written in their order.

    Raises:
      NetworkError: the network was trained on other observations, or on another model.
    """
    SideBySide(settings, network, lengths, at_once(settings.model, SIDE_BY_SIDE)).run(writer, progress)
