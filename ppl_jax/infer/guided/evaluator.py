"""Inference compilation: executions guided by a proposal network, which is evaluated for many of them together.

One proposal for one execution would waste the machine, so executions run in greenlets that stop at every controlled
draw; the draws that are pending are answered together. What a draw is answered depends on its own execution alone, bit
for bit: the network is always evaluated on blocks of the same number of rows, the draw spends uniforms of the
execution's own stream, and everything else is done row by row. The lockstep width therefore changes the speed and
nothing else.

The first draw of all executions looks alike (the same call site, prior and data), so its proposal is computed once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from greenlet import getcurrent

from ppl_jax.distributions.base import Distribution
from ppl_jax.distributions.bernoulli import Bernoulli
from ppl_jax.distributions.categorical import Categorical
from ppl_jax.distributions.dirichlet import Dirichlet
from ppl_jax.distributions.multinomial import Multinomial
from ppl_jax.distributions.multivariate_normal import MultivariateNormal
from ppl_jax.encoding import shares
from ppl_jax.encoding.batches import places
from ppl_jax.encoding.coordinates import (
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
from ppl_jax.encoding.shares import number_of_elements
from ppl_jax.encoding.tokens import IMPOSSIBLE
from ppl_jax.infer.guided.coverage import Coverage
from ppl_jax.language.site import Site
from ppl_jax.nn.cores import initial_state
from ppl_jax.nn.draws import draw, mixed_with_prior
from ppl_jax.nn.network import Network, compiled_observer, compiled_step
from ppl_jax.nn.ranges import described
from ppl_jax.running.checks import callers_level
from ppl_jax.running.execution import Execution
from ppl_jax.running.host import Job

BLOCK = 64  # executions for which the network is evaluated at once; fewer are filled up


class Token(NamedTuple):
    """A scalar draw that is pending: where it is, and its prior; ``from_prior`` if the network is only to see it."""

    row: int
    family: str
    instance: int
    element: int
    prior: Distribution
    from_prior: bool = False


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

    def take(self, index: np.ndarray) -> Pending:
        """The draws at ``index``."""
        which = index.tolist()
        return Pending(
            [self.executions[k] for k in which],
            [self.tokens[k] for k in which],
            self.frames.take(index),
            None if self.log_probs is None else self.log_probs[index],
            self.able[index],
            self.raw[index],
        )


class Guided(Execution):
    """An execution that stops at its controlled draws until it is answered.

    Attributes:
      network: whose call sites are proposed for; draws elsewhere come from the prior.
      token: the draw that is pending.
      answer: its value and log density; set from outside.
      slot: where its state is kept.
      coverage: where draws with and without proposals are counted; None where nobody counts.
      proposes: whether the network proposes, and not the prior.
      guided: whether the draw that was answered last had a proposal of the network.
      steered: the latents so far to which the network proposed values.
      drawn: the value of the draw that is being settled, where the model drew it itself, from the prior; else None.
      previous: call site, kind and coordinate of the draw before; None before the first.
    """

    __slots__ = ("answer", "coverage", "drawn", "guided", "network", "previous", "slot", "steered", "token")
    proposer = "the network"
    proposes = True

    def __init__(self, rng: Any, job: Job, network: Network, slot: int):
        super().__init__(rng, job.observations, job.score, job.likelihood_importance)
        self.network = network
        self.slot = slot
        self.drawn: Any = None
        self.coverage: Coverage | None = None
        self.guided = False
        self.steered: list[Site] = []
        self.previous: tuple[int, int, float] | None = None
        self.token: Token | None = None
        self.answer = (0.0, 0.0)

    @property
    def asking(self) -> Guided:
        """The execution whose draw is pending: this one, or one that it needs to be weighed."""
        return self

    def settle_latent(self, site: Site) -> None:
        """Asks for a proposal, where there can be one."""
        prior = site.distribution
        wanted = site.control and site.proposal is None
        row = self.network.row(site.address, prior.family) if wanted else 0
        if row == 0:
            super().settle_latent(site)
        elif prior.shape == ():
            site.value, log_density = self._ask(Token(row, prior.family, site.instance, 0, prior))
            self.log_weight += site.log_prob - log_density
        elif not self._settle_vector(site, row):
            super().settle_latent(site)
            row = 0
        if row and self.guided:
            self.steered.append(site)
        if wanted and self.proposes and self.coverage is not None:
            if row:
                self.coverage.met += 1
            else:
                self.coverage.miss(site)

    def _settle_vector(self, site: Site, row: int) -> bool:
        """Draws a vector element by element; False if it cannot be divided."""
        prior = site.distribution
        size = number_of_elements(prior.family, prior.shape)
        parts: Sequence[Distribution] | None = None
        if size > MOST_ELEMENTS or size == 0:
            return False
        conditional = _CONDITIONAL.get(type(prior))
        if conditional is None:
            parts = element_priors(prior)
            if parts is None:
                return False
        values: list[Any] = []
        for element in range(size):
            part = parts[element] if parts is not None else conditional(prior, values)  # type: ignore[misc]
            value, log_density = self._ask(Token(row, prior.family, site.instance, element, part))
            values.append(value)
            self.log_weight += part.log_prob(value) - log_density
        if prior.family in shares.FAMILIES:
            values = shares.with_last(prior, values)
        site.value = np.array(values, np.int64 if prior.discrete else np.float64).reshape(prior.shape)
        return True

    def _ask(self, token: Token) -> tuple[Any, float]:
        self.token = token
        getcurrent().parent.switch()
        self.token = None
        value, log_density = self.answer
        return (int(value) if token.prior.discrete else value), log_density


#: The prior of the next element given those before it, where elements depend on each other.
_CONDITIONAL: dict[type, Callable[[Any, Sequence[Any]], Distribution]] = {
    MultivariateNormal: conditional_normal,
    Dirichlet: shares.conditional_share,
    Multinomial: shares.conditional_count,
}


class Evaluator:
    """The network, given data: answers pending draws, and keeps the states of executions.

    Args:
      network: the network.
      observations: the data.
      width: number of slots for states.

    Attributes:
      coverage: the draws of its executions with and without proposals.
    """

    def __init__(self, network: Network, observations: Any, width: int):
        self._network, self._config = network, network.config
        self._params = jax.device_put(network.params)
        standardised, presence = network.standardised(observations)
        self.coverage = Coverage(network)
        self._has_warned = False
        beyond = network.beyond(observations)
        if beyond:
            warnings.warn(described(beyond, network.num_traces), UserWarning, stacklevel=callers_level())
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
        able &= ~np.array([token.from_prior for token in tokens])
        raw = self._evaluate(executions, frames)
        finite = np.isfinite(raw).all(axis=1)
        if not finite.all():
            self._warn_of_numbers(executions[int(np.argmin(finite))])
            able &= finite
        pending = Pending(executions, tokens, frames, log_probs, able, raw)
        values, log_density = self._settle(pending)
        u = np.clip(coordinates(frames, values), -1e6, 1e6)
        answers = zip(
            values.tolist(), log_density.tolist(), frames.kind.tolist(), u.tolist(), able.tolist(), strict=True
        )
        for execution, token, (value, log_q, kind, coordinate, guided) in zip(executions, tokens, answers, strict=True):
            execution.answer, execution.guided = (value, log_q), guided
            execution.previous = (token.row, kind, coordinate)

    def _warn_of_numbers(self, execution: Guided) -> None:
        """Warns, once, that the network computes no numbers."""
        if not self._has_warned:
            self._has_warned = True
            address, family = self._network.sites.known[execution.token.row - 1]  # type: ignore[union-attr]
            warnings.warn(
                f"The network gave NaN or infinity where it was to propose for the draw of {family} at {address}: its "
                "parameters or the data are too large for it. Such draws come from their priors. Train it again, with "
                "a lower learning_rate.",
                UserWarning,
                stacklevel=callers_level(),
            )

    def kept(self, slot: int) -> Any:
        """A copy of the state in a slot."""
        return jax.tree.map(partial(_row, slot), self._states)

    def put_back(self, slot: int, state: Any) -> None:
        """Puts a state that was kept into a slot again."""
        self._put([slot], state)

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
            log_density[where] = mixed_with_prior(proposed, log_priors(priors, values[where]), share)
        for k in np.flatnonzero(~able).tolist():
            prior = tokens[k].prior
            drawn = executions[k].drawn
            values[k] = prior.sample(executions[k].rng) if drawn is None else drawn
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
                self._begun[key] = raw[members[0]].copy(), self.kept(executions[members[0]].slot)
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


def log_priors(priors: list[Distribution], values: np.ndarray) -> np.ndarray:
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
