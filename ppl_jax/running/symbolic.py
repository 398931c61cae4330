"""One execution of a model on JAX's abstract values: its sites, and a row of numbers, some of them computed later.

This is how a model of fixed structure is learned from a single run. What the run shows is a RowLayout (addresses,
names, families, shapes), the numbers that every execution shares, and the expressions that compute the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np

from ppl_jax.distributions.base import Distribution, is_tracer
from ppl_jax.distributions.delta import Delta
from ppl_jax.distributions.device import draw
from ppl_jax.distributions.mixture import Mixture
from ppl_jax.distributions.supports import has_moving_bounds, is_traced
from ppl_jax.errors import ObservationError, PPLError, UntraceableModelError, describe_scope
from ppl_jax.language.addresses import error_site
from ppl_jax.language.site import FACTOR, TAG, Site
from ppl_jax.language.stack import run_under
from ppl_jax.running.execution import Execution, progress_of
from ppl_jax.running.traced_text import TracedTextError, refusing_text
from ppl_jax.storage.layouts import RowLayout, SiteLayout
from ppl_jax.storage.templates import BOOL, FLOAT, INT, flatten

_LIBRARIES = str(Path(np.__file__).parent.parent)  # where numpy is, jax and numpyro are

# What JAX's complaints mean to someone who does not know JAX; the first that matches counts.
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (jax.errors.TracerBoolConversionError, "control flow depends on a random value (use jax.lax.cond or jnp.where)"),
    (jax.errors.TracerIntegerConversionError, "a random value indexes a Python or numpy sequence (use a jnp array)"),
    (jax.errors.NonConcreteBooleanIndexError, "a random mask selects elements, so that their number is not fixed"),
    (jax.errors.TracerArrayConversionError, "a random value was given to numpy (use jax.numpy)"),
    (jax.errors.ConcretizationTypeError, "a random value was needed as a Python number (use jax.numpy, not math)"),
    (jax.errors.UnexpectedTracerError, "a value from an earlier execution was kept and used again"),
)


class HostStream:
    """Stands where a stream of host randomness would; a draw from it would be the same in all executions."""

    seed = index = 0

    def random(self) -> float:
        """Refuses."""
        raise UntraceableModelError(
            "JAX cannot trace a draw that is hidden from the engine by `block`. Use backend='host'."
        )


class SymbolicExecution(Execution):
    """An execution whose draws and weight are expressions of its place in a run, or of values given for the latents.

    Args:
      place: JAX key of the run, and number of the execution in it, uint32; None where all latents are given.
      observations, score, likelihood_importance: as for Execution.
      given: values of the latents in the order in which they are met; None to draw them.
    """

    __slots__ = ("drawn", "given", "log_prior", "moving", "place")
    log_weight: Any

    def __init__(
        self,
        place: tuple[Any, Any] | None,
        observations: Mapping[str, Any],
        score: bool,
        likelihood_importance: float,
        given: Sequence[Any] | None = None,
    ):
        super().__init__(HostStream(), observations, score, likelihood_importance)  # type: ignore[arg-type]
        self.place = place
        self.given = None if given is None else iter(given)
        self.drawn: list[int] = []  # positions of the latents that were drawn or given
        self.moving: set[int] = set()  # which of these, by number, have bounds that depend on others
        self.log_prior: Any = 0.0  # log density of the given latents

    def process(self, site: Site) -> None:
        super().process(site)
        if site.distribution is None or site.kind is FACTOR or np.shape(site.value) == site.distribution.shape:
            return
        raise ObservationError(  # of a traced value the shape was not checked yet
            site,
            f"the value has shape {np.shape(site.value)}, but {site.distribution!r} has shape "
            f"{site.distribution.shape}.",
            "Give a value of the distribution's shape, or parameters of the data's shape.",
        )

    def settle_observed(self, site: Site) -> None:
        """Weighs an observed value; in a prior run without data draws one."""
        if site.value is None and not self.score:
            site.value = self.fresh(site.distribution)
        else:
            super().settle_observed(site)

    def settle_latent(self, site: Site) -> None:
        """Draws the latent, from its proposal if it has one, or takes the value given for it."""
        if isinstance(site.distribution, Delta):  # the one family whose draws cannot differ
            site.proposal = None
            site.value = site.distribution.value
            return
        if is_traced(site.distribution) and has_moving_bounds(site.distribution.to_numpyro()):
            self.moving.add(len(self.drawn))
        self.drawn.append(len(self.sites) - 1)
        if self.given is not None:
            site.proposal = None
            site.value = next(self.given)
            self.log_prior = self.log_prior + site.log_prob
            return
        site.value = self.fresh(site.proposal or site.distribution)
        self.settle_fixed(site)

    def mark(self, scope: Any) -> Any:
        """Refuses a rejection scope, whose number of passes no compiled function has."""
        raise PPLError(f"{describe_scope(scope.key)} has a random number of passes")

    def fresh(self, distribution: Distribution) -> Any:
        """A draw of the current site, of which the randomness depends on run, site's number and execution's number.

        In this order: the key of a site is the same for a whole batch, and computed once.
        """
        assert self.place is not None
        run, number = self.place
        return draw(distribution, jax.random.fold_in(jax.random.fold_in(run, len(self.sites)), number))


class Place(NamedTuple):
    """Where an output of the compiled function goes: columns ``start`` ... ``start + size - 1`` of the row."""

    output: int
    start: int
    size: int


class SymbolicRow:
    """A stored trace's row: the numbers known now, and places for the outputs of a compiled function.

    A value that occurs several times (drawn, then a parameter, then returned) is one output with several places.
    """

    def __init__(self) -> None:
        self.numbers: list[float] = []
        self.places: list[Place] = []
        self.outputs: list[Any] = []
        self.objects: list[Any] = []
        self._known: dict[int, int] = {}

    def add(self, value: Any) -> None:
        """Appends a number or array, concrete or abstract."""
        if not is_tracer(value):
            self.numbers.extend(np.asarray(value, dtype=np.float64).ravel().tolist())
            return
        output = self._known.get(id(value))  # the outputs are kept, so an id is not reused
        if output is None:
            output = self._known[id(value)] = len(self.outputs)
            self.outputs.append(value)
        self.places.append(Place(output, len(self.numbers), value.size))
        self.numbers.extend([0.0] * value.size)

    def add_distribution(self, distribution: Distribution) -> None:
        """Appends what ``distribution.numbers()`` would give."""
        if isinstance(distribution, Mixture):
            self.add(distribution.probs)
            for component in distribution.components:
                self.add_distribution(component)
            return
        for name in distribution.parameters:
            self.add(getattr(distribution, name))

    def add_nested(self, value: Any) -> tuple:
        """Appends the numbers of a result or tag and returns its template, that of the same value on the host."""
        if is_tracer(value):
            self.add(value)
            kind = value.dtype.kind
            if value.ndim == 0:
                return {"b": BOOL, "i": INT, "u": INT}.get(kind, FLOAT)
            return ("array", {"b": "|b1", "i": "<i8", "u": "<i8"}.get(kind, "<f8"), value.shape)
        if type(value) in (tuple, list):
            return (type(value).__name__, tuple(self.add_nested(item) for item in value))
        if type(value) is dict and all(type(key) is str for key in value):
            return ("dict", tuple((key, self.add_nested(item)) for key, item in value.items()))
        return flatten(value, self.numbers, self._keep)

    def forget(self) -> None:
        """Lets go of the abstract values, which mean nothing when the tracing is over."""
        self.outputs.clear()
        self._known.clear()

    def _keep(self, value: Any) -> int:
        if not isinstance(value, (str, int)):
            raise UntraceableModelError(
                f"a value of type {type(value).__name__} was returned or tagged, which may hold random values that a "
                "table cannot store (use numbers, arrays, and tuples, lists or dicts of these)"
            )
        self.objects.append(value)
        return len(self.objects) - 1


def lay_out(row: SymbolicRow, execution: Execution, result: Any) -> RowLayout:
    """Fills ``row`` with a finished execution, in the order of RowLayout, and returns the layout."""
    row.add(execution.log_weight)
    sites = []
    for site in execution.sites:
        template: Any = None
        if site.kind is TAG:
            template = row.add_nested(site.value)
        elif site.kind is not FACTOR:
            template = site.distribution.shape
            row.add(site.value)
        for distribution in (site.distribution, site.proposal):
            if distribution is not None:
                row.add_distribution(distribution)
        sites.append(_site_layout(site, template))
    return RowLayout(tuple(sites), row.add_nested(result))


def _site_layout(site: Site, template: Any) -> SiteLayout:
    prior, proposal = site.distribution, site.proposal
    return SiteLayout(
        site.kind,
        site.address,
        site.instance,
        site.name,
        site.control,
        site.observed,
        template,
        None if prior is None else prior.layout(),
        None if proposal is None else proposal.layout(),
    )


def run_symbolically(execution: SymbolicExecution, model: Callable[[], Any], ambient: tuple) -> Any:
    """Runs the model under ``execution`` while JAX is tracing, and returns its result.

    Raises:
      ObservationError: as on the host.
      UntraceableModelError: anything else that went wrong, with the original as its cause.
    """
    try:
        with refusing_text() as places:
            result = run_under(execution, model, ambient)
        if places:  # the program caught the error, as logging does
            raise TracedTextError(places[0])
        return result
    except ObservationError:
        raise
    except Exception as error:
        raise untraceable(error, execution) from error


def untraceable(error: Exception, execution: SymbolicExecution) -> UntraceableModelError:
    """The error that says where tracing failed, and why in short."""
    reason = next((text for kind, text in _REASONS if isinstance(error, kind)), "")
    if not reason:
        plain = isinstance(error, (PPLError, TracedTextError))
        reason = str(error).split("\n")[0] if plain else f"{type(error).__name__}: {error}"
        reason = reason.removesuffix(".")
    return UntraceableModelError(
        f"JAX cannot trace this model: {reason}. It happened in {error_site(_own(error))}, {progress_of(execution)}. "
        "Change that line, or run the model on the host: backend='host', or metropolis_hastings in place of nuts."
    )


def _own(error: Exception) -> TracebackType | None:
    """The traceback up to where it enters an installed library, so that the user's own line is the innermost."""
    traceback = error.__traceback__
    entries = []
    while traceback is not None:
        entries.append(traceback)
        traceback = traceback.tb_next
    while len(entries) > 1 and _is_installed(entries[-1].tb_frame.f_code.co_filename):
        entries.pop()
    shortened = None
    for entry in reversed(entries):
        shortened = TracebackType(shortened, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return shortened


def _is_installed(file: str) -> bool:
    return file.startswith(_LIBRARIES)
