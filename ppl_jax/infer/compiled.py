"""Inference compilation: executions guided by a proposal network, many of them side by side.

One proposal for one execution would waste the machine, so executions run in greenlets that stop at every controlled
draw; the draws that are pending are answered together. What a draw is answered depends on its own execution alone, bit
for bit: the network is always evaluated on blocks of the same number of rows, the draw spends uniforms of the
execution's own stream, and everything else is done row by row. The lockstep width therefore changes the speed and
nothing else.

The first draw of all executions looks alike (the same call site, prior and data), so its proposal is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from greenlet import getcurrent, greenlet

from ppl_jax.data.batches import places
from ppl_jax.data.coordinates import (
    CATEGORY,
    MOST_ELEMENTS,
    PRIOR,
    Frames,
    blank,
    conditional_normal,
    coordinates,
    element_priors,
    family_number,
    frame_of,
    frames_of,
    is_vectorised,
)
from ppl_jax.data.tokens import IMPOSSIBLE
from ppl_jax.distributions.base import Distribution
from ppl_jax.distributions.bernoulli import Bernoulli
from ppl_jax.distributions.categorical import Categorical
from ppl_jax.distributions.multivariate_normal import MultivariateNormal
from ppl_jax.execution import Execution, execute
from ppl_jax.infer.host import Job
from ppl_jax.infer.progress import Progress
from ppl_jax.nn.cores import initial_state
from ppl_jax.nn.draws import draw, mixed_with_prior
from ppl_jax.nn.network import Network, compiled_observer, compiled_step
from ppl_jax.primitives import Site
from ppl_jax.storage import TraceWriter
from ppl_jax.streams import streams
from ppl_jax.traces import Trace

BLOCK = 64  # executions for which the network is evaluated at once; fewer are filled up
LOCKSTEP = 512  # executions side by side


class Token(NamedTuple):
    """A scalar draw that is pending: where it is, and its prior."""

    row: int
    family: str
    instance: int
    element: int
    prior: Distribution


class Pending(NamedTuple):
    """Draws that wait for an answer: of which executions, where and with which priors, and what is proposed for them.

    Attributes:
      executions, tokens: n of each.
      frames: of the draws.
      log_probs: log probabilities of choices under the prior, float64 (n, categories); None without categories.
      able: where the network proposes; the others get the prior. bool (n,).
      raw: raw numbers of the proposals, float32 (n, width).
    """

    executions: Sequence[Guided]
    tokens: list[Token]
    frames: Frames
    log_probs: np.ndarray | None
    able: np.ndarray
    raw: np.ndarray


class Guided(Execution):
    """An execution that stops at its controlled draws until it is answered.

    Attributes:
      network: whose call sites are proposed for; draws elsewhere come from the prior.
      token: the draw that is pending.
      answer: its value and log density; set from outside.
      slot: where its state is kept.
      previous: call site, kind and coordinate of the draw before; None before the first.
    """

    __slots__ = ("answer", "network", "previous", "slot", "token")

    def __init__(self, rng: Any, job: Job, network: Network, slot: int):
        super().__init__(rng, job.observations, job.score, job.likelihood_importance)
        self.network = network
        self.slot = slot
        self.previous: tuple[int, int, float] | None = None
        self.token: Token | None = None
        self.answer = (0.0, 0.0)

    def settle_latent(self, site: Site) -> None:
        """Asks for a proposal, where there can be one."""
        prior = site.distribution
        row = self.network.row(site.address, prior.family) if site.control and site.proposal is None else 0
        if row == 0:
            super().settle_latent(site)
        elif prior.shape == ():
            site.value, log_density = self._ask(Token(row, prior.family, site.instance, 0, prior))
            self.log_weight += site.log_prob - log_density
        elif not self._settle_vector(site, row):
            super().settle_latent(site)

    def _settle_vector(self, site: Site, row: int) -> bool:
        """Draws a vector element by element; False if it cannot be divided."""
        prior = site.distribution
        size = int(np.prod(prior.shape))
        parts: Sequence[Distribution] | None = None
        if size > MOST_ELEMENTS:
            return False
        if not isinstance(prior, MultivariateNormal):
            parts = element_priors(prior)
            if parts is None:
                return False
        values: list[Any] = []
        for element in range(size):
            part = parts[element] if parts is not None else conditional_normal(prior, values)
            value, log_density = self._ask(Token(row, prior.family, site.instance, element, part))
            values.append(value)
            self.log_weight += part.log_prob(value) - log_density
        site.value = np.array(values, np.int64 if prior.discrete else np.float64).reshape(prior.shape)
        return True

    def _ask(self, token: Token) -> tuple[Any, float]:
        self.token = token
        getcurrent().parent.switch()
        value, log_density = self.answer
        return (int(value) if token.prior.discrete else value), log_density


class Lockstep:
    """Runs executions side by side and answers their draws.

    Args:
      job: what to run.
      network: proposes.
      num_traces: executions 0 ... num_traces - 1.
      width: how many are on their way at once.
    """

    def __init__(self, job: Job, network: Network, num_traces: int, width: int):
        self._job, self._network = job, network
        self._waiting = iter(streams(job.seed, 0, num_traces))
        self._width = min(width, num_traces)
        self._evaluator = Evaluator(network, job.observations, self._width)
        self._finished: dict[int, tuple[Trace, float]] = {}
        self._written = 0

    def run(self, writer: TraceWriter, progress: Progress) -> None:
        """All executions, written in their order."""
        running: list[tuple[Guided, greenlet]] = []
        try:
            for slot in range(self._width):
                self._start(slot, running)
            self._write(writer, progress)
            while running:
                self._evaluator.answer([execution for execution, _ in running])
                still: list[tuple[Guided, greenlet]] = []
                for execution, thread in running:
                    self._advance(execution, thread, still)
                running = still
                self._write(writer, progress)
        finally:
            for _, thread in running:
                if not thread.dead:
                    thread.throw()
            for index in sorted(self._finished):  # an interrupted run keeps what was finished out of turn
                writer.append(*self._finished.pop(index))

    def _start(self, slot: int, running: list[tuple[Guided, greenlet]]) -> None:
        """Starts the next execution in a slot."""
        rng = next(self._waiting, None)
        if rng is not None:
            execution = Guided(rng, self._job, self._network, slot)
            self._advance(execution, self._thread(execution), running)

    def _advance(self, execution: Guided, thread: greenlet, running: list[tuple[Guided, greenlet]]) -> None:
        """Runs an execution to its next pending draw; at its end, another one takes its place."""
        while True:
            outcome = thread.switch()
            if not thread.dead:
                running.append((execution, thread))
                return
            self._finished[execution.rng.index] = (outcome, execution.log_weight)
            rng = next(self._waiting, None)
            if rng is None:
                return
            execution = Guided(rng, self._job, self._network, execution.slot)
            thread = self._thread(execution)

    def _thread(self, execution: Guided) -> greenlet:
        thread = greenlet(lambda: execute(execution, self._job.model, self._job.ambient))
        thread.gr_context = copy_context()
        return thread

    def _write(self, writer: TraceWriter, progress: Progress) -> None:
        """Writes what is finished and has its turn."""
        log_weights = []
        while self._written in self._finished:
            trace, log_weight = self._finished.pop(self._written)
            self._written += 1
            writer.append(trace, log_weight)
            log_weights.append(log_weight)
        if log_weights:
            progress.advance_weighted(np.array(log_weights))


class Evaluator:
    """The network, given data: answers pending draws, and keeps the states of executions.

    Args:
      network: the network.
      observations: the data.
      width: number of slots for states.
    """

    def __init__(self, network: Network, observations: Any, width: int):
        self._network, self._config = network, network.config
        self._params = jax.device_put(network.params)
        standardised, presence = network.standardised(observations)
        self._embedded = compiled_observer(self._config)(self._params, standardised, presence)[0]
        self._step = compiled_step(self._config)
        self._states = initial_state(self._config.core, width)
        self._nothing = initial_state(self._config.core, BLOCK)
        self._begun: dict[tuple, tuple[np.ndarray, Any]] = {}  # raw numbers and state after the first draw

    def answer(self, executions: Sequence[Guided]) -> None:
        """Gives every execution the value of its pending draw, and its log density."""
        tokens: list[Token] = [execution.token for execution in executions]  # type: ignore[misc]
        frames, log_probs = frames_of_tokens(tokens, self._config.categories)
        able = (frames.kind != PRIOR) & ((frames.kind != CATEGORY) | (frames.high < self._config.categories))
        able &= np.isin(frames.kind, self._config.kinds)
        pending = Pending(executions, tokens, frames, log_probs, able, self._evaluate(executions, frames))
        values, log_density = self._settle(pending)
        u = np.clip(coordinates(frames, values), -1e6, 1e6)
        answers = zip(values.tolist(), log_density.tolist(), frames.kind.tolist(), u.tolist(), strict=True)
        for execution, token, (value, log_q, kind, coordinate) in zip(executions, tokens, answers, strict=True):
            execution.answer = (value, log_q)
            execution.previous = (token.row, kind, coordinate)

    def _settle(self, pending: Pending) -> tuple[np.ndarray, np.ndarray]:
        """Draws the values, and gives them with their log densities, float64 (n,) each."""
        executions, tokens, frames, log_probs, able, raw = pending
        values, log_density = np.empty(len(executions)), np.empty(len(executions))
        where = np.flatnonzero(able)
        if len(where):
            priors = [tokens[k].prior for k in where.tolist()]
            own = [executions[k].rng for k in where.tolist()]
            part = None if log_probs is None else log_probs[where]
            components, share = self._config.components, self._config.prior_share
            values[where], proposed = draw(raw[where], frames.take(where), part, priors, own, components, share)
            log_density[where] = mixed_with_prior(proposed, _log_priors(priors, values[where]), share)
        for k in np.flatnonzero(~able).tolist():
            prior = tokens[k].prior
            values[k] = prior.sample(executions[k].rng)
            log_density[k] = prior.log_prob(_plain(prior, values[k].item()))
        return values, log_density

    def _evaluate(self, executions: Sequence[Guided], frames: Frames) -> np.ndarray:
        """Raw numbers of the pending draws, float32 (n, width); the states go on."""
        raw = np.empty((len(executions), self._config.width), np.float32)
        seen = places(frames)
        first = [k for k, execution in enumerate(executions) if execution.previous is None]
        alike: dict[tuple, list[int]] = {}
        for k in first:
            token = executions[k].token
            assert token is not None
            alike.setdefault((*token[:4], seen[k].tobytes()), []).append(k)
        fresh = [members[0] for key, members in alike.items() if key not in self._begun]
        self._evaluate_blocks(executions, seen, fresh, raw, first=True)
        for key, members in alike.items():
            if key not in self._begun:
                state = jax.tree.map(partial(_row, executions[members[0]].slot), self._states)
                self._begun[key] = raw[members[0]].copy(), state
            known, state = self._begun[key]
            raw[members] = known
            self._put([executions[k].slot for k in members], state)
        later = [k for k, execution in enumerate(executions) if execution.previous is not None]
        self._evaluate_blocks(executions, seen, later, raw, first=False)
        return raw

    def _evaluate_blocks(
        self, executions: Sequence[Guided], seen: np.ndarray, which: list[int], raw: np.ndarray, first: bool
    ) -> None:
        """Evaluates the network for the executions of given numbers, block by block."""
        started = []
        for low in range(0, len(which), BLOCK):
            members = which[low : low + BLOCK]
            slots = [executions[k].slot for k in members]
            token = _columns([executions[k] for k in members], seen[members], first)
            state = self._nothing if first else jax.tree.map(partial(_take, slots), self._states)
            started.append((members, slots, self._step(self._params, state, self._embedded, token)))
        for members, slots, (state, numbers) in started:
            raw[members] = np.asarray(numbers)[: len(members)]
            self._put(slots, jax.tree.map(partial(_head, len(slots)), state))

    def _put(self, slots: list[int], state: Any) -> None:
        """Keeps states, (slots, ...) or the same for all, in slots."""
        for leaf, new in zip(jax.tree.leaves(self._states), jax.tree.leaves(state), strict=True):
            leaf[slots] = new


def _columns(executions: list[Guided], seen: np.ndarray, first: bool) -> dict[str, np.ndarray]:
    """The inputs of one block, filled up to BLOCK rows."""
    rows = []
    for execution in executions:
        token, previous = execution.token, execution.previous or (0, 0, 0.0)
        assert token is not None
        rows.append((token.row, family_number(token.family), token.instance, token.element, *previous[:2]))
    whole = _filled(np.array(rows, np.int32))
    whole[len(rows) :, 2] = 1
    coordinates = np.array([0.0 if first else execution.previous[2] for execution in executions], np.float32)  # type: ignore[index]
    names = ("site", "family", "instance", "element", "previous_site", "previous_kind")
    columns = {name: np.ascontiguousarray(whole[:, k]) for k, name in enumerate(names)}
    return {
        **columns,
        "place": _filled(seen),
        "first": np.full(BLOCK, first),
        "previous_u": _filled(coordinates),
    }


def _row(slot: int, leaf: np.ndarray) -> np.ndarray:
    return leaf[slot].copy()


def _take(slots: list[int], leaf: np.ndarray) -> np.ndarray:
    return _filled(leaf[slots])


def _head(number: int, leaf: Any) -> np.ndarray:
    return np.asarray(leaf)[:number]


def _filled(rows: np.ndarray) -> np.ndarray:
    """Rows of zeros added up to BLOCK."""
    if len(rows) == BLOCK:
        return rows
    out = np.zeros((BLOCK, *rows.shape[1:]), rows.dtype)
    out[: len(rows)] = rows
    return out


def _log_priors(priors: list[Distribution], values: np.ndarray) -> np.ndarray:
    """Log densities of scalar values, float64 (n,)."""
    pairs = zip(priors, values.tolist(), strict=True)
    return np.array([prior.log_prob(_plain(prior, value)) for prior, value in pairs])


def _plain(prior: Distribution, value: float) -> Any:
    return int(value) if prior.discrete else value


def frames_of_tokens(tokens: Sequence[Token], categories: int) -> tuple[Frames, np.ndarray | None]:
    """Frames of pending draws, and the log probabilities of choices, (n, categories); None without categories."""
    frames = blank(len(tokens))
    log_probs = np.full((len(tokens), categories), IMPOSSIBLE) if categories else None
    by_family: dict[str, list[int]] = {}
    for k, token in enumerate(tokens):
        by_family.setdefault(type(token.prior).__name__, []).append(k)
    for family, members in by_family.items():
        if is_vectorised(family):
            parameters = np.array([tokens[k].prior._floats for k in members])
            part = frames_of(family, parameters)
        else:
            each = [frame_of(tokens[k].prior) for k in members]
            part = Frames(*(np.array(column) for column in zip(*each, strict=True)))
        for column, values in zip(frames, part, strict=True):
            column[members] = values
        if log_probs is None or family not in ("Bernoulli", "Categorical"):
            continue
        for k in members:
            probs = _probabilities(tokens[k].prior)
            if len(probs) <= categories:
                with np.errstate(divide="ignore"):
                    log_probs[k, : len(probs)] = np.maximum(np.log(probs), IMPOSSIBLE)
    return frames, log_probs


def _probabilities(prior: Distribution) -> Any:
    if isinstance(prior, Bernoulli):
        return 1.0 - prior.probs, prior.probs
    assert isinstance(prior, Categorical)
    return prior._row


def run_guided(
    job: Job, network: Network, num_traces: int, lockstep: int, writer: TraceWriter, progress: Progress
) -> None:
    """Executions 0 ... num_traces - 1 of a job under a network's proposals, written in order.

    Raises:
      NetworkError: the network was trained on other observations.
    """
    Lockstep(job, network, num_traces, lockstep).run(writer, progress)
