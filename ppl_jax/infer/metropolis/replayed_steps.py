"""Steps of Metropolis-Hastings on rows of numbers, for models that run again by themselves with kept values.

The step is that of :mod:`ppl_jax.infer.metropolis.engine`, number for number; only what it costs is different. Where
the new execution has the structure of the present one, the two rows are compared as arrays, and densities are
evaluated only where numbers have changed.

Draws in a rejection loop of the simulator are made afresh in every step, as uncontrolled ones are: of their prior only
the accepted pass is known, not the probability of acceptance by which it is normalised.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ppl_jax.distributions.layouts import rebuild
from ppl_jax.infer.metropolis.kernels import Kernel
from ppl_jax.infer.metropolis.other_choices import number_of_choices
from ppl_jax.language.site import FACTOR, SAMPLE, TAG, Site, total_log_prob
from ppl_jax.language.trace import Scope, Trace
from ppl_jax.running.services import Record, Request, Reruns
from ppl_jax.storage import RowLayout, TraceTable, TraceWriter
from ppl_jax.storage.layouts import SiteLayout
from ppl_jax.streams import CountedStream

Key = tuple[str, int]  # address and instance

_KNOWN_PLANS = 4096  # layouts that are remembered


class Plan:
    """What a step needs to know of a layout.

    Attributes:
      keys: address and instance of every site; ``position`` leads back.
      free: positions of latents that can move, ``free_keys`` their keys; ``is_free`` the same as a mask.
      scoped: positions of controlled latents in rejection loops.
      weighed: positions of observed values and factors.
      latents: positions of all latents.
      first_fresh: position of the first latent that is drawn in every step; the number of sites if there is none.
      site_of: for each number of a row the site that it belongs to, -1 for the weight, tags and the result.
    """

    def __init__(self, layout: RowLayout, scopes: tuple[Scope, ...]):
        self.layout = layout
        sites = layout.sites
        self.looped = np.zeros(len(sites), bool)
        for scope in scopes:
            self.looped[scope.first : scope.last] = True
        self.keys: list[Key] = [(site.address, site.instance) for site in sites]
        self.position = {key: place for place, key in enumerate(self.keys)}
        latents = [place for place, site in enumerate(sites) if site.kind == SAMPLE and not site.observed]
        self.latents = np.array(latents, dtype=np.int64)
        self.free = [place for place in latents if sites[place].control and not self.looped[place]]
        self.scoped = [place for place in latents if sites[place].control and self.looped[place]]
        self.free_keys = [self.keys[place] for place in self.free]
        self.is_free = np.zeros(len(sites), bool)
        self.is_free[self.free] = True
        self.first_fresh = next((place for place in latents if not self.is_free[place]), len(sites))
        self.weighed = np.array([place for place, site in enumerate(sites) if site.observed], dtype=np.int64)
        self.site_of = np.full(layout.width, -1, dtype=np.int64)
        for place, (site, slot) in enumerate(zip(sites, layout.slots, strict=True)):
            if site.kind != TAG:
                self.site_of[slot.start : slot.proposal] = place


class RowState(NamedTuple):
    """Where a chain is.

    Attributes:
      record: the execution.
      plan: of its layout.
      keys: those that can be chosen, in the order in which they are numbered.
      terms: for each site its log prior, or its log likelihood times its importance; float64.
      log_likelihood: sum of the latter.
    """

    record: Record
    plan: Plan
    keys: list[Key]
    terms: np.ndarray
    log_likelihood: float

    @property
    def nuisances(self) -> bool:
        """Whether there are latents that cannot move, and are drawn afresh in every step."""
        return self.plan.first_fresh < len(self.plan.keys)

    def site(self, key: Key) -> Site:
        """The site of this key."""
        return self.plan.layout.site(self.plan.position[key], self.record.row, [])

    def sites(self) -> tuple[Trace, dict[Key, Site], dict[Key, Site]]:
        """The trace with its sites, those that can be chosen, and controlled latents in rejection loops."""
        plan, layout, row = self.plan, self.plan.layout, self.record.row
        sites = [layout.site(place, row, []) for place in range(len(layout.sites))]
        free = {plan.keys[place]: sites[place] for place in plan.free}
        scoped = {plan.keys[place]: sites[place] for place in plan.scoped}
        return Trace(sites, layout.result_of(row, []), 0.0), free, scoped

    def seen(self) -> list[tuple[Site, bool]]:
        """The sites that a network sees, in their order, and whether it proposes there."""
        plan, layout, row = self.plan, self.plan.layout, self.record.row
        return [(layout.site(place, row, []), bool(plan.is_free[place])) for place in sorted(plan.free + plan.scoped)]

    def table(self) -> TraceTable:
        """The trace as a table of one."""
        row = self.record.row
        return TraceTable([self.plan.layout], row, np.zeros(1, np.int64), np.zeros(1, np.int32), [])


class Move(NamedTuple):
    """A proposed state, and the log ratio of acceptance but for the numbers of sites that can be chosen."""

    state: RowState
    log_ratio: float


class Refused(Exception):
    """The proposal has density zero."""


class NotByRows(Exception):
    """This step must be made statement by statement."""


class RowSteps:
    """Proposes executions for a chain.

    Args:
      reruns: the model's way to run again.
      request: observations and their importance.
      kernel: moves the chosen value.
    """

    def __init__(self, reruns: Reruns, request: Request, kernel: Kernel):
        self._reruns = reruns
        self._importance = request.likelihood_importance
        self._kernel = kernel
        self._plans: dict[int, Plan] = {}

    def plan(self, record: Record) -> Plan:
        """The plan of a record's layout."""
        layout = record.layout
        known = self._plans.get(id(layout))
        if known is None or known.layout is not layout:
            if len(self._plans) >= _KNOWN_PLANS:
                self._plans.clear()
            known = self._plans[id(layout)] = Plan(layout, record.scopes)
        return known

    def adopt(self, trace: Trace, keys: list[Key]) -> RowState | None:
        """The state that the chain has with this trace; None if the model does not do the same when it runs again."""
        writer = TraceWriter()
        writer.append(trace, 0.0)
        table, _ = writer.finish()
        given = Record(table.layouts[0], table.heap)
        before = self.plan(given)
        record = self._reruns.run(given, before.latents, CountedStream(0, 0))
        if record is None:
            return None
        plan = self.plan(record)
        same = (
            [before.keys[place] for place in before.latents] == [plan.keys[place] for place in plan.latents]
            and set(plan.free_keys) == set(keys)
            and all(
                np.array_equal(before.layout.value(here, given.row, []), plan.layout.value(there, record.row, []))
                for here, there in zip(before.latents.tolist(), plan.latents.tolist(), strict=True)
            )
        )
        if not same:
            return None
        terms = np.zeros(len(plan.keys))
        for place in plan.free + plan.weighed.tolist():
            terms[place] = self._term(plan, place, record.row)
        return RowState(record, plan, keys, terms, _sum(terms[plan.weighed]))

    def propose(self, state: RowState, chosen: Key, scale: float, rng: CountedStream) -> Move:
        """Moves the chosen value and runs the model again.

        Raises:
          Refused, NotByRows: see there.
        """
        record, plan = state.record, state.plan
        place, kept = plan.position[chosen], plan.is_free.copy()
        mover = Mover(self._kernel, plan.layout.site(place, record.row, []), scale, rng)
        if place < plan.first_fresh:
            slot, row = plan.layout.slots[place], record.row.copy()
            row[slot.start : slot.distribution] = np.ravel(mover.move())
            new = self._reruns.run(record._replace(row=row), np.flatnonzero(kept), rng)
        else:  # draws before it may change its distribution: its value can be chosen only when it is met
            kept[place] = False
            new = self._reruns.run(record, np.flatnonzero(kept), rng, place, mover)
            kept[place] = mover.by_kernel
        if new is None:
            raise NotByRows
        there = self.plan(new)
        if new.scopes and there is not plan and _loops_kept(plan, kept, there):
            raise NotByRows
        met = there.position.get(chosen)
        if not mover.moved or met is None or not there.is_free[met]:
            raise Refused
        proposed = _Proposed(self, state, new, there, kept, place, mover)
        if there is plan:
            return proposed.same_structure()
        return proposed.other_structure()

    def _term(self, plan: Plan, place: int, row: np.ndarray) -> float:
        site, slot = plan.layout.sites[place], plan.layout.slots[place]
        if site.kind == FACTOR:
            return self._importance * float(row[slot.distribution])
        distribution = rebuild(site.distribution, row[slot.distribution : slot.proposal].tolist())
        log_prob = total_log_prob(distribution, plan.layout.value(place, row, []))
        return self._importance * log_prob if site.observed else log_prob


class Mover:
    """Moves the chosen site, when it is its turn to draw."""

    def __init__(self, kernel: Kernel, old: Site, scale: float, rng: CountedStream):
        self.kernel = kernel
        self.old = old
        self.scale = scale
        self.rng = rng
        self.log_kernel_ratio = 0.0
        self.by_kernel = False
        self.moved = False

    def move(self) -> Any:
        """The kernel's value, if it can be."""
        value, self.log_kernel_ratio = self.kernel.move(self.old.distribution, self.old.value, self.scale, self.rng)
        self.by_kernel = self.moved = True
        if total_log_prob(self.old.distribution, value) == -math.inf:
            raise Refused
        return value

    def __call__(self, site: Site) -> Any:
        """The value where draws before the site may have changed its distribution."""
        self.by_kernel = self.moved = False
        old, new = self.old.distribution, site.distribution
        if old.shape != new.shape or families(old.layout()) != families(new.layout()):
            return new.sample(self.rng)
        if new.numbers() == old.numbers():
            return self.move()
        self.moved = True  # the prior is proposed, both forth and back
        return new.sample(self.rng)


class _Proposed:
    """The densities of a new execution against those of the present one."""

    def __init__(
        self, steps: RowSteps, state: RowState, new: Record, plan: Plan, kept: np.ndarray, place: int, mover: Mover
    ):
        self.steps, self.state, self.new, self.plan = steps, state, new, plan
        self.kept, self.place, self.mover = kept, place, mover
        self.log_ratio = 0.0

    def same_structure(self) -> Move:
        """Both rows have the same layout: only numbers that differ are looked at."""
        state, plan, row = self.state, self.plan, self.new.row
        changed = np.unique(plan.site_of[np.flatnonzero(row != state.record.row)])
        places = sorted({*changed.tolist(), self.place} - {-1})
        terms = state.terms.copy()
        for place in places:
            if plan.is_free[place] or plan.layout.sites[place].observed:
                terms[place] = self.steps._term(plan, place, row)
                self._count(place, place, terms[place])
        return self._finish(terms, state.keys)

    def other_structure(self) -> Move:
        """The layouts differ: sites are matched by address and instance."""
        state, plan, row = self.state, self.plan, self.new.row
        before, old_row = state.plan, state.record.row
        sites, slots, old_slots = plan.layout.sites, plan.layout.slots, before.layout.slots
        terms = np.zeros(len(sites))
        for place, site in enumerate(sites):
            if not (plan.is_free[place] or site.observed):
                continue
            earlier = before.position.get(plan.keys[place])
            old = None if earlier is None else before.layout.sites[earlier]
            if old is not None and old == site:
                here, there = slots[place], old_slots[earlier]  # type: ignore[index]
                if np.array_equal(row[here.start : here.end], old_row[there.start : there.end]):
                    terms[place] = state.terms[earlier]
                    self._count(place, earlier, terms[place])
                    continue
            carried = earlier is not None and old is not None and self.kept[earlier] and plan.is_free[place]
            if carried and number_of_choices(old.distribution) != number_of_choices(site.distribution):  # type: ignore[union-attr]
                raise NotByRows  # the value goes by a rule of its own
            terms[place] = self.steps._term(plan, place, row)
            self._count(place, earlier if old is not None and reusable(old, site) else None, terms[place])
        same_keys = len(plan.free) == len(state.keys) and set(plan.free_keys) == set(state.keys)
        return self._finish(terms, state.keys if same_keys else plan.free_keys)

    def _count(self, place: int, earlier: int | None, term: float) -> None:
        """Takes a term into account; ``earlier`` is the site's place in the present execution, None if it is new."""
        if not self.plan.is_free[place]:
            if term == -math.inf:
                raise Refused
            return
        if earlier is None or not self.kept[earlier]:
            return
        if term == -math.inf:
            raise Refused
        if earlier == self.place:
            self.log_ratio += self.mover.log_kernel_ratio
        self.log_ratio += term - float(self.state.terms[earlier])

    def _finish(self, terms: np.ndarray, keys: list[Key]) -> Move:
        log_likelihood = _sum(terms[self.plan.weighed])
        log_ratio = self.log_ratio + log_likelihood - self.state.log_likelihood
        return Move(RowState(self.new, self.plan, keys, terms, log_likelihood), log_ratio)


def _sum(terms: np.ndarray) -> float:
    """The sum in the order of the terms, as an execution adds them up."""
    return float(np.cumsum(terms)[-1]) if len(terms) else 0.0


def _loops_kept(plan: Plan, kept: np.ndarray, there: Plan) -> bool:
    """Whether a value that was kept has come to stand in a rejection loop."""
    looped = {there.keys[place] for place in np.flatnonzero(there.looped).tolist()}
    return not looped.isdisjoint(plan.keys[place] for place in np.flatnonzero(kept).tolist())


def reusable(old: SiteLayout, new: SiteLayout) -> bool:
    """Whether a value drawn at ``old`` may stand at ``new``: same families and shape."""
    return (
        old.kind == new.kind
        and old.observed == new.observed
        and old.value == new.value
        and families(old.distribution) == families(new.distribution)
    )


def families(layout: Any) -> Any:
    """The families in a distribution's layout, without the shapes of parameters."""
    if layout[0] == "Mixture":
        return ("Mixture", *(families(component) for component in layout[2]))
    return layout[0]
