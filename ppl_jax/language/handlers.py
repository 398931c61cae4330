"""Effect handlers: what may happen between a model's primitive and the engine.

Every handler is an immutable value that can be used in two ways, as in numpyro: around a model,
``seed(condition(model, data={"y": 2.0}), seed=0)()``, or as a context manager, ``with seed(seed=0): model()``. The
state of one use lives in a messenger on the stack, never in the handler, so one handler may serve many threads at
once. Inner handlers see a site first; the engine is always outermost.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from ppl_jax.distributions.base import Distribution
from ppl_jax.errors import PPLError, SiteError, SupportError
from ppl_jax.language import foreign
from ppl_jax.language.site import FACTOR, SAMPLE, Site, check_value
from ppl_jax.language.stack import Messenger as Messenger
from ppl_jax.language.stack import pop, push
from ppl_jax.language.trace import Trace
from ppl_jax.streams import Stream, check_seed

Model = Callable[..., Any]


@dataclass(frozen=True)
class Handler:
    """Base of the handlers. Subclasses say what one use of them does by ``messenger()``; see :class:`Messenger`."""

    model: Model | None = None

    def __post_init__(self) -> None:
        if self.model is not None:
            object.__setattr__(self, "model", foreign.adapt(self.model))

    def messenger(self) -> Any:
        raise NotImplementedError

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.model is None:
            raise PPLError(
                f"{type(self).__name__} was called without a model. Give one, {type(self).__name__}(model, ...), "
                "or use the handler in a with statement."
            )
        push(self.messenger(), sys._getframe())
        try:
            return self.model(*args, **kwargs)
        finally:
            pop()

    def __enter__(self) -> Any:
        messenger = self.messenger()
        push(messenger, with_statement(sys._getframe(1)))
        return messenger

    def __exit__(self, *exception: object) -> None:
        pop()


def with_statement(frame: FrameType) -> FrameType:
    """The frame of the with statement that ``frame`` enters, perhaps by way of an ExitStack."""
    while frame.f_globals.get("__name__") == "contextlib" and frame.f_back is not None:
        frame = frame.f_back
    return frame


# -- seed ------------------------------------------------------------------------------------------------------------


class _SeedMessenger(Messenger):
    __slots__ = ("rng",)

    def __init__(self, rng: Stream):
        self.rng = rng

    def process(self, site: Site) -> None:
        if site.rng is None:
            site.rng = self.rng


@dataclass(frozen=True)
class seed(Handler):  # noqa: N801 - handlers read as verbs, as in numpyro
    """Draws come from the stream ``(seed, index)``.

    Args:
      model: the model, or None in a with statement.
      seed: integer in [0, 2**64).
      index: which execution of the run this is.
    """

    seed: int = 0
    index: int = 0

    def messenger(self) -> _SeedMessenger:
        return _SeedMessenger(Stream(check_seed(self.seed), self.index))


# -- trace -----------------------------------------------------------------------------------------------------------


class _TraceMessenger(Messenger):
    """Numbers instances and records sites; ``trace`` is what was recorded so far."""

    __slots__ = ("counts", "result", "sites")

    def __init__(self) -> None:
        self.sites: list[Site] = []
        self.counts: dict[str, int] = {}
        self.result: Any = None

    def process(self, site: Site) -> None:
        self.counts[site.address] = site.instance = self.counts.get(site.address, 0) + 1

    def postprocess(self, site: Site) -> None:
        self.sites.append(site)

    def mark(self, scope: Any) -> Any:
        """See :meth:`ppl_jax.running.execution.Execution.mark`."""
        return len(self.sites), dict(self.counts)

    def rewind(self, mark: Any) -> None:
        """Forgets the sites since the mark."""
        del self.sites[mark[0] :]
        self.counts = dict(mark[1])

    @property
    def trace(self) -> Trace:
        return Trace(tuple(self.sites), self.result)


@dataclass(frozen=True)
class trace(Handler):  # noqa: N801
    """Records the sites. ``trace(model).get_trace(*args)`` gives the Trace; so does ``.trace`` of a with statement."""

    def messenger(self) -> _TraceMessenger:
        return _TraceMessenger()

    def get_trace(self, *args: Any, **kwargs: Any) -> Trace:
        """Runs the model once and returns its Trace."""
        with self as recorder:
            if self.model is None:
                raise PPLError("get_trace needs a model: write trace(model).get_trace(...).")
            recorder.result = self.model(*args, **kwargs)
        return recorder.trace


# -- condition, substitute, replay -----------------------------------------------------------------------------------


class _ConditionMessenger(Messenger):
    __slots__ = ("data",)

    def __init__(self, data: Mapping[str, Any]):
        self.data = data

    def process(self, site: Site) -> None:
        if site.name is not None and site.name in self.data and site.distribution is not None and site.kind != FACTOR:
            site.value = check_value(site, self.data[site.name])
            site.observed = True


@dataclass(frozen=True)
class condition(Handler):  # noqa: N801
    """Turns sites into observations of the given data, by name; data win over a value given in the model.

    Args:
      model: the model, or None in a with statement.
      data: name -> value of the site's shape.

    Raises:
      ObservationError: at the site, if a value has another shape or is NaN.
    """

    data: Mapping[str, Any] = field(default_factory=dict)

    def messenger(self) -> _ConditionMessenger:
        return _ConditionMessenger(self.data)


def _is_open(site: Site) -> bool:
    """Whether this is a latent draw for which nobody has given a value."""
    return site.kind == SAMPLE and not site.observed and site.value is None


class _SubstituteMessenger(Messenger):
    __slots__ = ("data",)

    def __init__(self, data: Mapping[str, Any]):
        self.data = data

    def process(self, site: Site) -> None:
        if _is_open(site) and site.name is not None and site.name in self.data:
            site.value = fixed_value(site, self.data[site.name])


@dataclass(frozen=True)
class substitute(Handler):  # noqa: N801
    """Fixes latent draws to the given values, by name; they stay latents and count towards the prior.

    Raises:
      SupportError: at the site, if a value has density zero there.
    """

    data: Mapping[str, Any] = field(default_factory=dict)

    def messenger(self) -> _SubstituteMessenger:
        return _SubstituteMessenger(self.data)


def fixed_value(site: Site, value: Any) -> Any:
    """``value`` checked against the site's shape and support."""
    value = check_value(site, value)
    low, high = site.distribution.support
    try:
        inside = bool(((value >= low) & (value <= high)).all()) if hasattr(value, "all") else bool(low <= value <= high)
    except Exception:  # traced values or array bounds of another rank: JAX judges them by their density
        return value
    if not inside:
        problem = f"the value {value!r} lies outside the support of {site.distribution!r}."
        raise SupportError(site, problem, "Change it.")
    return value


class _ReplayMessenger(Messenger):
    __slots__ = ("counts", "values")

    def __init__(self, values: Mapping[tuple[str, int], Site]):
        self.values = values
        self.counts: dict[str, int] = {}

    def fresh(self) -> _ReplayMessenger:
        return _ReplayMessenger(self.values)

    def process(self, site: Site) -> None:
        instance = self.counts[site.address] = self.counts.get(site.address, 0) + 1
        if _is_open(site):
            earlier = self.values.get((site.address, instance))
            if earlier is not None and reusable(earlier, site):
                site.value = earlier.value

    def mark(self, scope: Any) -> Any:
        """See :meth:`ppl_jax.running.execution.Execution.mark`."""
        return dict(self.counts), self.values

    def rewind(self, mark: Any) -> None:
        """Forgets a pass that was rejected, and replays nothing in those that follow: the loop would never end."""
        self.counts, self.values = dict(mark[0]), {}

    def leave(self, mark: Any) -> None:
        """Replays again after the end of the loop that began at the mark."""
        self.values = mark[1]


@dataclass(frozen=True)
class replay(Handler):  # noqa: N801
    """Gives latent draws the values they had in an earlier trace, by (address, instance); new ones are drawn afresh."""

    trace: Trace | None = None

    def messenger(self) -> _ReplayMessenger:
        sites = self.trace.sites if self.trace is not None else ()
        return _ReplayMessenger({(site.address, site.instance): site for site in sites if site.is_latent})


def reusable(earlier: Site, site: Site) -> bool:
    """Whether a value drawn at ``earlier`` may stand at ``site``: same family and shape of distribution."""
    old, new = earlier.distribution, site.distribution
    return type(old) is type(new) and old.shape == new.shape


# -- block, control, inflate, propose --------------------------------------------------------------------------------


class _BlockMessenger(Messenger):
    __slots__ = ("hides",)

    def __init__(self, hides: Callable[[Site], bool]):
        self.hides = hides

    def process(self, site: Site) -> None:
        if self.hides(site):
            site.hidden = True


@dataclass(frozen=True)
class block(Handler):  # noqa: N801
    """Hides sites from everything outside: they are drawn, but neither recorded, conditioned on nor scored.

    Args:
      model: the model, or None in a with statement.
      hide: predicate on a Site, or a collection of names; None hides all.
    """

    hide: Any = None

    def messenger(self) -> _BlockMessenger:
        return _BlockMessenger(_predicate(self.hide))


def _predicate(which: Any) -> Callable[[Site], bool]:
    if which is None:
        return lambda site: True
    if callable(which):
        return which
    names = frozenset([which] if isinstance(which, str) else which)
    return lambda site: site.name in names


class _ControlMessenger(Messenger):
    __slots__ = ("choose",)

    def __init__(self, choose: Callable[[Site], bool]):
        self.choose = choose

    def process(self, site: Site) -> None:
        if site.kind == SAMPLE:
            site.control = self.choose(site)


@dataclass(frozen=True)
class control(Handler):  # noqa: N801
    """Says which latent draws engines may propose for.

    Args:
      model: the model, or None in a with statement.
      on: predicate on a Site, or a collection of names: these are controlled, all others are nuisance draws.
    """

    on: Any = None

    def messenger(self) -> _ControlMessenger:
        return _ControlMessenger(_predicate(self.on))


class _ProposeMessenger(Messenger):
    """Nothing is proposed in a rejection loop: what its rejected passes weigh would make the weights very unequal."""

    __slots__ = ("loops", "propose")

    def __init__(self, propose: Callable[[Site], Distribution | None]):
        self.propose = propose
        self.loops = 0

    def fresh(self) -> _ProposeMessenger:
        return _ProposeMessenger(self.propose)

    def process(self, site: Site) -> None:
        if _is_open(site) and site.control and not self.loops:
            proposal = self.propose(site)
            site.proposal = None if proposal is None else checked_proposal(site, proposal)

    def mark(self, scope: Any) -> Any:
        """See :meth:`ppl_jax.running.execution.Execution.mark`."""
        self.loops += 1
        return self.loops - 1

    def rewind(self, mark: Any) -> None:
        """Another pass begins."""
        self.loops = mark

    leave = rewind


def checked_proposal(site: Site, proposal: Any) -> Distribution:
    """A distribution to draw the site's value from; one of numpyro's becomes ours.

    Raises:
      SiteError: it is not a distribution, is of another shape, or has densities where the prior has probabilities:
        weights of such draws would be numbers without meaning.
    """
    if not isinstance(proposal, Distribution) and foreign.is_foreign(proposal):
        proposal = foreign.as_distribution(proposal)
    if not isinstance(proposal, Distribution):
        problem = f"the proposal is {proposal!r}, which is no distribution."
        raise SiteError(site, problem, "Return one of ppl_jax.distributions, or None for the prior.")
    prior = site.distribution
    if proposal.shape != prior.shape:
        problem = f"the proposal {proposal!r} has shape {proposal.shape}, but {prior!r} has shape {prior.shape}."
        raise SiteError(site, problem, "Propose values of the prior's shape.")
    if proposal.discrete != prior.discrete:
        kinds = ("continuous", "discrete") if prior.discrete else ("discrete", "continuous")
        problem = f"the proposal {proposal!r} is {kinds[0]}, but {prior!r} is {kinds[1]}."
        raise SiteError(site, problem, f"Propose from a {kinds[1]} distribution.")
    return proposal


@dataclass(frozen=True)
class propose(Handler):  # noqa: N801
    """Draws controlled latents from ``proposal(site)`` in place of the prior; the importance weight is corrected.

    Args:
      model: the model, or None in a with statement.
      proposal: function of the Site giving a Distribution of the same shape and at least the same support, or None
        for the prior.

    Raises:
      SiteError: at the site, if it gives something else.
    """

    proposal: Callable[[Site], Distribution | None] = field(default=lambda site: None)

    def messenger(self) -> _ProposeMessenger:
        return _ProposeMessenger(self.proposal)


@dataclass(frozen=True)
class inflate(Handler):  # noqa: N801
    """Prior inflation: controlled latents are drawn from a wider prior, and the importance weight is corrected.

    Rare events become frequent among the traces without any change to what their weighted average means.

    Args:
      model: the model, or None in a with statement.
      scale: how much wider (3.0 triples the standard deviation of a normal; see ``Distribution.inflated``).
      names: the names to inflate; None for all controlled latents.
    """

    scale: float = 3.0
    names: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1.0 <= self.scale < math.inf:
            raise ValueError(f"inflate: scale must be finite and at least 1, got {self.scale!r}.")

    def messenger(self) -> _ProposeMessenger:
        applies = _predicate(self.names)
        return _ProposeMessenger(lambda site: site.distribution.inflated(self.scale) if applies(site) else None)
