"""Encoding: the controlled latents of traces of any types as *tokens*, and their observations as arrays.

A token is one scalar draw: where it is in the program, its prior's frame, and the coordinate of its value in that
frame. Where a token says it is, is the number of its call site (``CallSites``), the instance and, within a vector, the
element: parameters belong to the call site. The numbers are gathered from the rows of a table for all traces together,
by plans that are made once for every kind of trace.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ppl_jax.distributions.layouts import FAMILIES, count_numbers, rebuild
from ppl_jax.encoding import shares
from ppl_jax.encoding.coordinates import (
    CATEGORY,
    MOST_CATEGORIES,
    MOST_ELEMENTS,
    MOST_PARAMETERS,
    PRIOR,
    Frames,
    blank,
    conditional_normals,
    coordinates,
    family_number,
    frame_of,
    frames_of,
    is_vectorised,
    log_priors,
    log_stretch,
)
from ppl_jax.encoding.shares import number_of_elements
from ppl_jax.errors import ObservationError
from ppl_jax.language.site import OBSERVE, SAMPLE, Site
from ppl_jax.storage import RowLayout, TraceTable
from ppl_jax.storage.layouts import SiteLayout

IMPOSSIBLE = -1e9  # the log probability of a category that cannot occur: finite, so that gradients are


class CallSites:
    """Call sites by number: the rows of the tables of parameters. Row 0 stands for all that are unknown.

    Args:
      known: (address, family) of rows 1, 2, ...
    """

    def __init__(self, known: Iterable[tuple[str, str]] = ()):
        self._rows = {(address, family): row for row, (address, family) in enumerate(known, start=1)}

    def row(self, address: str, family: str) -> int:
        """The row of a call site, 0 if it is unknown."""
        return self._rows.get((address, family), 0)

    def add(self, address: str, family: str) -> int:
        """The row of a call site, a new one if it was unknown."""
        return self._rows.setdefault((address, family), len(self._rows) + 1)

    @property
    def known(self) -> list[tuple[str, str]]:
        """(address, family) in order of their rows."""
        return list(self._rows)

    @property
    def num_rows(self) -> int:
        """Rows in use, row 0 included."""
        return len(self._rows) + 1


def proposable(site: SiteLayout, conditioned: frozenset[str] | set[str]) -> int:
    """How many tokens a site makes: the elements of a controlled latent that a network can propose for; else 0.

    Args:
      site: the structure of the site.
      conditioned: names that will be observed at inference; they are no latents then.
    """
    if site.kind != SAMPLE or site.observed or not site.control or site.value is None:
        return 0
    if site.name is not None and site.name in conditioned:
        return 0
    family, elements = site.distribution[0], number_of_elements(site.distribution[0], site.value)
    if elements > MOST_ELEMENTS:
        return 0
    if family == "Categorical":
        return elements if site.distribution[1][-1] <= MOST_CATEGORIES else 0
    if is_vectorised(family) or family == "MultivariateNormal" or family in shares.FAMILIES:
        return elements
    return 1 if site.value == () and family not in ("Delta", "Factor") else 0


# -- tokens ------------------------------------------------------------------------------------------------------------


class Tokens(NamedTuple):
    """The tokens of a number of traces, trace by trace, in order of execution; arrays (n,).

    ``lengths``, (traces,), says how many each trace has; ``log_probs``, (n, categories), is None without categories.
    ``log_prior`` is the log density of the coordinate ``u`` (see coordinates) under the prior, given what came before.
    """

    lengths: np.ndarray
    site: np.ndarray
    family: np.ndarray
    instance: np.ndarray
    element: np.ndarray
    frames: Frames
    u: np.ndarray
    log_prior: np.ndarray
    log_probs: np.ndarray | None


class _Special(NamedTuple):
    """A site whose tokens are not read from single numbers: elements that depend on each other, or no formula."""

    first: int
    size: int
    value_at: int
    numbers_at: int
    layout: tuple


class TracePlan:
    """Where in a row the numbers behind each token of one kind of trace stand.

    Args:
      latents: (site, offset of its value, offset of its distribution's numbers) of the latents that make tokens.
      observations: name -> (offset, shape) of the observed values; None where there is none.
      sites: call sites, to which new ones are added.
    """

    def __init__(
        self,
        latents: Sequence[tuple[SiteLayout, int, int]],
        observations: Mapping[str, tuple[int, tuple[int, ...]] | None],
        sites: CallSites,
    ):
        rows: list[tuple[int, int, int, int, int, list[int], int, int]] = []
        self.special: list[_Special] = []
        self.observations = observations
        for site, value_at, numbers_at in latents:
            family, *shapes = site.distribution
            row, number = sites.add(site.address, family), family_number(family)
            elements = number_of_elements(family, site.value)
            formula = is_vectorised(family)
            if not formula and family != "Categorical":
                self.special.append(_Special(len(rows), elements, value_at, numbers_at, site.distribution))
            places = _places(shapes, site.value) if formula else []
            for element in range(elements):
                parameters = [numbers_at + int(column[element]) for column in places]
                parameters += [numbers_at] * (MOST_PARAMETERS - len(parameters))
                categories = shapes[0][-1] if family == "Categorical" else 0
                probs_at = numbers_at + element * categories
                rows.append((row, number, site.instance, element, value_at + element, parameters, probs_at, categories))
        self.length = len(rows)
        columns = list(zip(*rows, strict=True)) if rows else [()] * 8
        self.site, self.family, self.instance, self.element, self.value_at, _, self.probs_at, self.categories = (
            np.array(column, np.int64) if k != 5 else np.empty(0) for k, column in enumerate(columns)
        )
        self.parameters_at = np.array(columns[5], np.int64).reshape(self.length, MOST_PARAMETERS)
        self.families = {site.distribution[0] for site, _, _ in latents if is_vectorised(site.distribution[0])}


def _places(shapes: Sequence[tuple[int, ...]], shape: tuple[int, ...]) -> list[np.ndarray]:
    """For every parameter, where among the distribution's numbers the one of each element stands."""
    places, position = [], 0
    for own in shapes:
        size = math.prod(own)
        places.append(np.broadcast_to(np.arange(position, position + size).reshape(own), shape).ravel())
        position += size
    return places


class Encoder:
    """Turns traces into tokens and observations; remembers how the kinds of traces it met are laid out.

    Args:
      observed: name -> shape of the observations that the network is given.
      sites: call sites; new ones are added.
      varying: names of the observations whose first dimension may be smaller.
      scaling: name -> mean and standard deviation, float64, each of the observation's shape, by which it is
        standardised; one that is not named stays as it is, in double precision.
    """

    def __init__(
        self,
        observed: Mapping[str, tuple[int, ...]],
        sites: CallSites,
        varying: frozenset[str] = frozenset(),
        scaling: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
    ):
        self.observed = dict(observed)
        self.scaling = scaling or {}
        self.sites = sites
        self.varying = varying
        self._plans: dict[Any, TracePlan] = {}
        self._last: tuple[Sequence[RowLayout], list[TracePlan | None]] = ([], [])

    @property
    def num_trace_types(self) -> int:
        """Kinds of traces met so far."""
        return len(self._plans)

    def plans(self, layouts: Sequence[RowLayout], present: list[int]) -> list[TracePlan]:
        """The plans of the layouts that are present."""
        if self._last[0] is not layouts:
            self._last = (layouts, [])
        plans = self._last[1]
        plans.extend([None] * (len(layouts) - len(plans)))
        for kind in present:
            if plans[kind] is None:
                plans[kind] = self._plan(layouts[kind])
        return [plan for kind in present if (plan := plans[kind]) is not None]

    def _plan(self, layout: RowLayout) -> TracePlan:
        plan = self._plans.get(layout.key)
        if plan is None:
            latents = [
                (site, slot.start, slot.distribution)
                for site, slot in zip(layout.sites, layout.slots, strict=True)
                if proposable(site, self.observed.keys())  # type: ignore[arg-type]
            ]
            found = {name: self._observation(layout, name) for name in self.observed}
            plan = self._plans[layout.key] = TracePlan(latents, found, self.sites)
        return plan

    def _observation(self, layout: RowLayout, name: str) -> tuple[int, tuple[int, ...]] | None:
        position = layout.position(name)
        if position is None or layout.sites[position].value is None:
            return None
        numbers, expected, varies = layout.numbers(position), self.observed[name], name in self.varying
        if numbers is None or not fits(numbers.shape, expected, varies):
            raise ObservationError(
                _as_site(layout.sites[position]),
                f"the value has shape {numbers.shape if numbers else 'of no array'}, but the network was made for "
                f"{'at most ' if varies else ''}shape {expected}.",
                "Give a larger 'length' in observe_embeddings."
                if varies
                else "Train on traces whose observations have one shape. Where the number of elements varies, embed it "
                f"as a set or sequence and say how many there can be: observe_embeddings={{'{name}': {{'kind': 'set', "
                "'length': 100}}; else pad it in the model.",
            )
        return numbers.start, numbers.shape

    def encode(self, table: TraceTable) -> tuple[Tokens, dict[str, np.ndarray], np.ndarray]:
        """Tokens, observations and their presence, of all traces of a table.

        Returns:
          The tokens; name -> float32 (traces, *shape), standardised (float64 where there is no scaling), zero where a
          trace has no such observation, NaN where a varying one has no element; and which it has, float32 (traces,
          observations).
        """
        present, inverse = np.unique(np.asarray(table.kinds), return_inverse=True)
        plans = self.plans(table.layouts, present.tolist())
        starts = np.asarray(table.starts)
        return (
            _read_tokens(table.heap, starts, plans, inverse),
            *_read_observations(table.heap, starts, plans, inverse, self.observed, self.varying, self.scaling),
        )


def _as_site(layout: SiteLayout) -> Site:
    site = Site(layout.kind, None, None, layout.name, layout.address, layout.control, layout.observed)
    site.instance = layout.instance
    return site


def _read_tokens(heap: np.ndarray, starts: np.ndarray, plans: list[TracePlan], inverse: np.ndarray) -> Tokens:
    """The tokens of the rows at ``starts`` (traces,) of a heap; ``inverse``, (traces,), says which plan each has."""
    plan_lengths = np.array([plan.length for plan in plans], np.int64)
    lengths = plan_lengths[inverse]
    firsts = np.cumsum(lengths) - lengths
    total = int(lengths.sum())
    # Token t of trace i is number firsts[i] + t; its plan's columns stand one behind the other, from bases[plan] on.
    bases = np.cumsum(plan_lengths) - plan_lengths
    trace = np.repeat(np.arange(len(starts)), lengths)
    within = np.arange(total) - firsts[trace]
    at = bases[inverse[trace]] + within
    row = starts[trace]

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(plan, name) for plan in plans])[at]

    family = column("family")
    values = np.asarray(heap[row + column("value_at")], np.float64) if total else np.empty(0)
    parameters_at = np.concatenate([plan.parameters_at for plan in plans])[at]
    frames, log_prior = blank(total), np.zeros(total)
    for name in sorted(set().union(*(plan.families for plan in plans))):
        where = np.flatnonzero(family == family_number(name))
        count = len(FAMILIES[name].parameters)
        parameters = np.asarray(heap[row[where, None] + parameters_at[where, :count]], np.float64)
        _put(frames, where, frames_of(name, parameters))
        log_prior[where] = log_priors(name, values[where], parameters)
    for number, plan in enumerate(plans):
        for special in plan.special:
            traces = np.flatnonzero(inverse == number)
            _read_special(heap, starts[traces], firsts[traces], special, frames, log_prior)
    log_probs = _read_log_probs(heap, row, family, values, parameters_at, column, frames, log_prior)
    u = coordinates(frames, values)
    log_prior += log_stretch(frames, u)
    return Tokens(
        lengths, column("site"), family, column("instance"), column("element"), frames, u, log_prior, log_probs
    )


def _put(frames: Frames, where: np.ndarray, part: Frames) -> None:
    for column, values in zip(frames, part, strict=True):
        column[where] = values


def _read_special(
    heap: np.ndarray, starts: np.ndarray, firsts: np.ndarray, special: _Special, frames: Frames, log_prior: np.ndarray
) -> None:
    """Frames and log densities of a vector of dependent elements, or a draw of any scalar family, in all its traces."""
    tokens = firsts[:, None] + special.first + np.arange(special.size)
    size = special.size + (special.layout[0] in shares.FAMILIES)
    values = np.asarray(heap[starts[:, None] + special.value_at + np.arange(size)], np.float64)
    numbers = heap[starts[:, None] + special.numbers_at + np.arange(count_numbers(special.layout))]
    if special.layout[0] in shares.FAMILIES:
        part, log_prior[tokens.ravel()] = shares.frames_of_elements(special.layout[0], numbers, values)
        _put(frames, tokens.ravel(), part)
        return
    if special.layout[0] == "MultivariateNormal":
        d = special.size
        means, scales = conditional_normals(numbers[:, :d], numbers[:, d:].reshape(-1, d, d), values)
        parameters = np.stack([means.ravel(), scales.ravel()], axis=1)
        _put(frames, tokens.ravel(), frames_of("Normal", parameters))
        log_prior[tokens.ravel()] = log_priors("Normal", values.ravel(), parameters)
        return
    for token, value, row in zip(tokens[:, 0].tolist(), values[:, 0].tolist(), numbers, strict=True):
        distribution = rebuild(special.layout, row.tolist())
        frame = frame_of(distribution)
        for column, number in zip(frames, frame, strict=True):
            column[token] = number
        log_prior[token] = float(distribution.log_prob(value)) if frame[0] != PRIOR else 0.0


def _read_log_probs(
    heap: np.ndarray,
    row: np.ndarray,
    family: np.ndarray,
    values: np.ndarray,
    parameters_at: np.ndarray,
    column: Any,
    frames: Frames,
    log_prior: np.ndarray,
) -> np.ndarray | None:
    """Log probabilities of the categories of categorical tokens, (n, most categories); None if there are none."""
    coins = np.flatnonzero(family == family_number("Bernoulli"))
    choices = np.flatnonzero(family == family_number("Categorical"))
    if not len(coins) and not len(choices):
        return None
    categories = column("categories")[choices]
    width = max(2, int(categories.max(initial=2)))
    probs = np.zeros((len(row), width))
    if len(coins):
        yes = np.asarray(heap[row[coins] + parameters_at[coins, 0]], np.float64)
        probs[coins, 0], probs[coins, 1] = 1.0 - yes, yes
    if len(choices):
        places = np.minimum(np.arange(width), categories[:, None] - 1)
        found = heap[(row[choices] + column("probs_at")[choices])[:, None] + places]
        probs[choices] = np.where(np.arange(width) < categories[:, None], found, 0.0)
        frames.kind[choices] = CATEGORY
        frames.low[choices], frames.high[choices] = 0.0, categories - 1.0
    with np.errstate(divide="ignore"):
        log_probs = np.maximum(np.log(probs), IMPOSSIBLE)
    log_prior[choices] = log_probs[choices, values[choices].astype(np.int64)]
    return log_probs


def _read_observations(
    heap: np.ndarray,
    starts: np.ndarray,
    plans: list[TracePlan],
    inverse: np.ndarray,
    observed: Mapping[str, tuple[int, ...]],
    varying: frozenset[str],
    scaling: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    found: dict[str, np.ndarray] = {}
    presence = np.zeros((len(starts), len(observed)), np.float32)
    for number, (name, shape) in enumerate(observed.items()):
        places = [plan.observations[name] or (-1,) for plan in plans]
        offset = np.array([place[0] for place in places], np.int64)[inverse]
        has = offset >= 0
        size = math.prod(shape)
        values = np.zeros((len(starts), size), np.float32 if name in scaling else np.float64)
        # Standardised in double precision: of numbers far from zero single precision would leave nothing.
        scale = scaling[name] if name in scaling else (np.zeros(size), np.ones(size))
        mean, stddev = (part.reshape(size) for part in scale)
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and training skips it
            if name in varying:
                sizes = np.array([math.prod(place[1]) if len(place) == 2 else 0 for place in places], np.int64)[inverse]
                row, column = np.nonzero(np.arange(size) < sizes[:, None])
                numbers = heap[starts[row] + offset[row] + column]
                values[has] = np.nan
                numbers = np.where(np.isnan(numbers), np.inf, numbers)  # NaN says that nothing is there
                values[row, column] = (numbers - mean[column]) / stddev[column]
            else:
                values[has] = (heap[(starts[has] + offset[has])[:, None] + np.arange(size)] - mean) / stddev
        found[name] = values.reshape(len(starts), *shape)
        presence[:, number] = has
    return found, presence


def fits(shape: tuple[int, ...], expected: tuple[int, ...], varies: bool) -> bool:
    """Whether a value's shape is the expected one, or smaller in its first dimension where that varies."""
    if not varies or not shape:
        return shape == expected
    return shape[0] <= expected[0] and shape[1:] == expected[1:]


def observation_shapes(table: TraceTable) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the named observe statements of a table, in order of appearance."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layout, _ in table.groups():
        for site in layout.sites:
            if site.name and site.kind == OBSERVE and site.value is not None:
                shapes.setdefault(site.name, tuple(site.value))
    return shapes
