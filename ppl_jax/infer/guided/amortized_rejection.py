"""Rejection scopes under a network: importance weights of finite variance, by amortized rejection sampling.

A loop that draws z from the prior p until it is accepted (z in A) makes z of density p(z) / p(A). Under proposals q it
makes it of density q(z) / q(A), so that its importance weight is

    p(z) / q(z) * q(A) / p(A),        in which the network knows neither q(A) nor p(A).

To multiply the ratios p / q of all passes instead, rejected ones included, is right on average; but the variance is
infinite as soon as E_q[(p(z) / q(z))^2, z not in A] >= 1, which good proposals reach easily. So only the accepted pass
is weighed, and unbiased estimates stand for the rest (Naderiparizi et al., "Amortized rejection sampling in universal
probabilistic programming", AISTATS 2022, arXiv:1910.09056, definition 3.2):

    q(A) by K / N, the acceptances among N = max(M, 10) fresh passes under the proposals,
    1 / p(A) by T, the mean number of passes of M fresh loops under the prior,

neither of which depends on the accepted z. With both the weights estimate the evidence without bias. Scopes nest: of an
outer scope the accepted pass is weighed with the inner scopes in it, each with its own K T / N; its fresh passes run
their inner loops to acceptance and weigh nothing.

A pass runs again by running the execution again: with the values that it had up to the scope, and then with fresh ones.
That is done when the execution has come to its end, in its own greenlet and from its own stream, so that fresh passes
of many executions are proposed for side by side, and results do not depend on how many. The network goes on from the
state that it had where the scope began; so it does in every pass, because it was trained on accepted passes alone.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ppl_jax.errors import ScopeError, describe_scope, describe_site
from ppl_jax.infer.guided.evaluator import Evaluator, Guided, Token
from ppl_jax.infer.smc import RecordingStream
from ppl_jax.language.site import FACTOR, TAG, Site
from ppl_jax.language.trace import Trace
from ppl_jax.nn.network import Network
from ppl_jax.running.execution import Execution, execute
from ppl_jax.running.host import Job
from ppl_jax.running.services import StartAgain
from ppl_jax.streams import CountedStream

# M, of every scope of an execution. For a half-normal by hand-made proposals the effective sample size was 67, 86, 95
# and 99 % of that of M = 100 with M = 1, 3, 10 and 30, at 12, 11, 17 and 39 % of its time.
LOOPS = 10
LEAST_PASSES = 10  # of N


class Loops(NamedTuple):
    """How the rejection scopes of executions are treated.

    Attributes:
      number: M, fresh loops under the prior of every scope; 0 draws from the prior in scopes: nothing is to correct.
      remote: whether that is so for scopes in simulators in other processes too, or these draw from the prior.
    """

    number: int = LOOPS
    remote: bool = False

    @property
    def passes(self) -> int:
        """N, fresh passes under the proposals."""
        return max(self.number, LEAST_PASSES)


class Entry(NamedTuple):
    """What is to be known where a scope begins.

    Attributes:
      proposes: whether the network proposes in it; ``outside``: whether it does around it.
      previous, state: of the network; no state is needed before its first draw.
      hidden: how many uniforms the draws have spent that handlers hide from the engine.
    """

    proposes: bool
    outside: bool
    previous: tuple[int, int, float] | None
    state: Any
    hidden: int


class Ended(BaseException):
    """Ends an execution of which nothing more is wanted; not an Exception, so that models do not catch it."""


class Looping(Guided):
    """A guided execution whose every pass of a loop begins where the loop began, the network's state included.

    Attributes:
      proposes: whether the network proposes, and not the prior.
      entries: of the scopes so far, beside ``scopes``.
      own: the stream of its draws; ``rng`` is where draws that it does not see take theirs from, between two sites.
      asks_all: see :class:`ppl_jax.running.services.Sharing`.
    """

    __slots__ = ("asks_all", "entries", "evaluator", "hidden", "job", "own", "proposes", "treatment")
    rng: Any

    def __init__(self, rng: Any, job: Job, network: Network, slot: int, evaluator: Evaluator, loops: Loops):
        super().__init__(rng, job, network, slot)
        self.job = job
        self.evaluator = evaluator
        self.coverage = evaluator.coverage
        self.treatment = loops
        self.proposes = True
        self.entries: list[Entry] = []
        self.own = rng
        self.rng = self.hidden = RecordingStream(rng, [])
        self.asks_all = False

    def perform(self) -> Trace:
        """The execution to its end; see :func:`ppl_jax.running.execution.execute`."""
        try:
            return execute(self, self.job.model, self.job.ambient)
        except StartAgain:
            self.start_again()
            return execute(self, self.job.model, self.job.ambient)

    def start_again(self) -> None:
        """Goes back to the beginning, to be done draw by draw."""
        self.asks_all = True
        self.sites, self.counts, self.scopes, self.entries = [], {}, [], []
        self.log_weight, self.loops, self.proposes = 0.0, 0, True
        self.token = self.previous = None
        self.steered = []
        self.own.move_to(0)
        self.rng = self.hidden = RecordingStream(self.own, [])

    def shared_stream(self) -> CountedStream | None:
        """See :class:`ppl_jax.running.services.Sharing`; None within a scope of this process.

        There the network may propose.
        """
        remote = self.treatment.number > 0 and self.treatment.remote
        return self.own if isinstance(self.own, CountedStream) and not self.loops and not remote else None

    def take(self, site: Site) -> None:
        """Processes a site whose value the model drew itself, as if it were drawn here."""
        if not site.control and site.name not in self.observations:  # nobody proposes for it: it is only noted down
            site.instance = self.counts[site.address] = self.counts.get(site.address, 0) + 1
            self.sites.append(site)
            return
        self.drawn, site.value = site.value, None
        try:
            self.process(site)
        finally:
            self.drawn = None

    def process(self, site: Site) -> None:
        """Gives the site its value."""
        self.rng = self.own
        super().process(site)
        self.rng = self.hidden

    def settle_latent(self, site: Site) -> None:
        """Asks for a value."""
        if not self.proposes:
            site.proposal = None
        seen = site.control and self.network.row(site.address, site.distribution.family) > 0
        if self.drawn is None or seen:
            super().settle_latent(site)
        else:
            site.value = self.drawn
            if site.control and self.proposes and self.coverage is not None:
                self.coverage.miss(site)

    def _ask(self, token: Token) -> tuple[Any, float]:
        """Where nothing is proposed the network only sees the draw, as it did in its training."""
        return super()._ask(token if self.proposes else token._replace(from_prior=True))

    def mark(self, scope: Any) -> Any:
        """The beginning of a pass."""
        mark = super().mark(scope)
        if scope.rejected == 0:
            loops, outside = self.treatment, self.proposes
            proposes = outside and scope.control and loops.number > 0 and (scope.local or loops.remote)
            state = None if self.previous is None else self.evaluator.kept(self.slot)
            self.entries.append(Entry(proposes, outside, self.previous, state, len(self.hidden.used)))
            self.proposes = proposes
        return mark

    def rewind(self, mark: Any) -> None:
        """Forgets a rejected pass, with what it weighs."""
        super().rewind(mark)
        self.log_weight = mark.log_weight
        del self.entries[mark.scopes :]
        self.return_to(self.entries[-1])

    def return_to(self, entry: Entry) -> None:
        """Goes back to where a scope began."""
        del self.hidden.used[entry.hidden :]
        self.proposes = entry.proposes
        self.previous = entry.previous
        if entry.state is not None:
            self.evaluator.put_back(self.slot, entry.state)

    def leave(self, mark: Any) -> None:
        """The scope ends with the present pass."""
        super().leave(mark)
        entry = self.entries[mark.scopes - 1]
        self.proposes = entry.outside
        if not entry.proposes:
            self.entries[mark.scopes - 1] = entry._replace(state=None)  # it is not needed again


class Steered(Looping):
    """An execution under a network that is to become a weighted trace; ``run()`` does all of it."""

    __slots__ = ("_fresh",)

    def __init__(self, rng: Any, job: Job, network: Network, slot: int, evaluator: Evaluator, loops: Loops):
        super().__init__(rng, job, network, slot, evaluator, loops)
        self._fresh: Again | None = None  # under way

    @property
    def asking(self) -> Guided:
        """See :class:`ppl_jax.infer.guided.evaluator.Guided`."""
        return self if self._fresh is None else self._fresh

    def run(self) -> Trace:
        """The trace, whose weight has the corrections of its rejection scopes.

        Raises:
          ModelError, PPLError: see :func:`ppl_jax.running.execution.execute`.
          ScopeError: the model is not the same when it is run again.
        """
        trace = self.perform()
        if not any(entry.proposes for entry in self.entries):
            return trace
        for number, entry in enumerate(self.entries):
            if entry.proposes and self.log_weight > -math.inf:
                self.log_weight += self._log_correction(number)
        return Trace(trace.sites, trace.result, self.log_weight, trace.scopes)

    def _log_correction(self, number: int) -> float:
        """log(K T / N) of a scope."""
        loops = self.treatment
        done = accepted = 0
        while done < loops.passes:
            again = self._again(number, True, loops.passes - done)
            done, accepted = done + again.passes, accepted + again.accepted
        if accepted == 0:
            return -math.inf
        trials = sum(self._again(number, False, None).passes for _ in range(loops.number))
        return math.log(accepted / loops.passes) + math.log(trials / loops.number)

    def _again(self, number: int, proposes: bool, most: int | None) -> Again:
        """Fresh passes of a scope to the first acceptance, or to ``most`` of them."""
        self._fresh = again = Again(self, number, proposes, most)
        try:
            execute(again, self.job.model, self.job.ambient)
        except Ended:
            return again
        finally:
            self._fresh = None
        again.close()
        return again


class Again(Looping):
    """Does again what an execution did up to one of its scopes, and there fresh passes to the first acceptance.

    Args:
      earlier: the execution, at its end.
      number: of the scope.
      guided: whether the network proposes; if not, draws come from the prior.
      most: passes after which to end; None for no end.

    Attributes:
      passes: how many passes were done; ``accepted``: how many of them were accepted, 0 or 1.
    """

    __slots__ = ("accepted", "earlier", "ended", "guided", "most", "number", "passes", "reached")

    def __init__(self, earlier: Steered, number: int, guided: bool, most: int | None):
        super().__init__(earlier.own, earlier.job, earlier.network, earlier.slot, earlier.evaluator, earlier.treatment)
        self.coverage = None  # what is run again was counted
        self.earlier = earlier
        self.number = number
        self.guided = guided
        self.most = most
        self.reached = self.ended = False
        self.passes = self.accepted = 0
        spent = earlier.hidden.used[: earlier.entries[number].hidden]
        self.rng = self.hidden = RecordingStream(self.own, spent)

    def shared_stream(self) -> None:
        """Everything is asked for."""

    def process(self, site: Site) -> None:
        """Gives the value that was there before the scope; in it, a fresh one."""
        if self.ended:  # the model caught what was to end it
            raise Ended
        if self.reached:
            super().process(site)
            return
        place = len(self.sites)
        before = self.earlier.sites[place] if place < self.earlier.scopes[self.number].first else None
        if before is None or (before.kind, before.address) != (site.kind, site.address):
            raise self.strayed(f"it came to the {describe_site(site)}")
        site.instance = self.counts[site.address] = self.counts.get(site.address, 0) + 1
        self.sites.append(site)
        if site.kind is not TAG and site.kind is not FACTOR:
            site.value, site.observed = before.value, before.observed

    def settle_latent(self, site: Site) -> None:
        if self.guided:
            super().settle_latent(site)
        else:
            site.proposal = None
            site.value = site.distribution.sample(self.rng)

    def mark(self, scope: Any) -> Any:
        """The beginning of a pass; of the scope that is sought, where everything is fresh from then on."""
        if self.reached and self.guided:
            return super().mark(scope)
        mark = Execution.mark(self, scope)
        if self.reached or scope.rejected:
            return mark
        here = len(self.scopes) - 1
        known = self.earlier.scopes[here] if here <= self.number else None
        if known is None or (known.key, known.first) != (scope.key, len(self.sites)):
            raise self.strayed(f"it came to {describe_scope(scope.key)}")
        self.entries.append(self.earlier.entries[here])
        if here == self.number:
            self.reached = True
            if self.guided:
                self.return_to(self.entries[-1])
        return mark

    def rewind(self, mark: Any) -> None:
        """A pass was rejected. Where it is one of a scope around the one that is sought, that one has ended."""
        if not self.reached:
            raise self.strayed(f"a pass of {describe_scope(mark.scope.key)} was rejected")
        here = mark.scopes - 1
        if here <= self.number:
            self._count(accepted=here < self.number)
        if self.guided:
            super().rewind(mark)
        else:
            Execution.rewind(self, mark)

    def leave(self, mark: Any) -> None:
        """A pass was accepted."""
        error = mark.scope.error
        if error is not None and not isinstance(error, Exception):  # the execution is on its way to its end
            return
        if self.reached and mark.scopes - 1 <= self.number:
            self._count(accepted=True)
        if self.reached and self.guided:
            super().leave(mark)
        else:
            Execution.leave(self, mark)

    def _count(self, accepted: bool) -> None:
        self.passes += 1
        self.accepted += accepted
        if accepted or self.passes == self.most:
            self.ended = True
            raise Ended

    def close(self) -> None:
        """The model has come to its end: a simulator may leave a scope open there."""
        if not self.reached:
            raise self.strayed("it ended")
        if not self.ended:
            self.passes += 1
            self.accepted += 1

    def strayed(self, what: str) -> ScopeError:
        """The error of a model that is not the same again."""
        scope = self.earlier.scopes[self.number]
        return ScopeError(
            "The model did other things when it was run again with the same draws, up to "
            f"{describe_scope(scope.key)}: {what} (execution {self.own.index} of seed {self.own.seed}). Take all its "
            "randomness from ppl_jax.sample and no state from outside; or leave the draws in the scope to the prior, "
            "by rejection_scope(control=False) or importance_sampling(..., fresh_loops=0)."
        )
