"""The primitives a model calls, and the message (a Site) each sends up the stack of handlers.

A model is any callable. ``sample``, ``observe``, ``factor`` and ``tag`` build a :class:`Site` and pass it to the
handlers in force, innermost first; whoever knows the value fills it in. The stack lives in a ``ContextVar``, so
threads, greenlets and asyncio tasks each have their own. Outside any handler a model runs as plain Python: ``sample``
draws from the operating system's randomness, ``observe`` returns its value or draws one, ``factor`` and ``tag`` do
nothing. Under numpyro's handlers the primitives pass themselves on to numpyro.
"""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from types import FrameType
from typing import Any

import numpy as np

from ppl_jax.distributions.base import LARGEST, Distribution, is_tracer
from ppl_jax.distributions.factor import Factor
from ppl_jax.distributions.numbers import as_numbers
from ppl_jax.errors import ObservationError, ParameterError
from ppl_jax.language.addresses import call_site
from ppl_jax.streams import Stream, check_seed

_NOT_NUMBERS = "Give a number or an array of numbers of the distribution's shape; leave out a name without a value."
SAMPLE, OBSERVE, FACTOR, TAG = "sample", "observe", "factor", "tag"


class Site:
    """One statement of one execution: the message while it travels, the record afterwards.

    Attributes:
      kind: "sample", "observe", "factor" or "tag".
      address: the call site (see :mod:`ppl_jax.language.addresses`); ``instance``: 1 for its first visit in this execution, ...
      name: what the user calls it, or None. Observations are matched by name.
      distribution: the prior or likelihood; None for a tag.
      value: what was drawn, observed or tagged; None while not yet known.
      control: False marks a nuisance draw, for which no engine proposes.
      observed: True where the value is data: an observe, a factor, or a sample that was conditioned on.
      proposal: the distribution the value was drawn from, where it was not the prior; else None.
    """

    __slots__ = (
        "_log_prob",
        "address",
        "control",
        "distribution",
        "hidden",
        "instance",
        "kind",
        "name",
        "observed",
        "proposal",
        "rng",
        "value",
    )

    def __init__(
        self,
        kind: str,
        distribution: Any,
        value: Any,
        name: str | None,
        address: str,
        control: bool,
        observed: bool,
    ):
        self.kind = kind
        self.distribution = distribution
        self.value = value
        self.name = name
        self.address = address
        self.instance = 1
        self.control = control
        self.observed = observed
        self.proposal: Distribution | None = None
        self.rng: Any = None
        self.hidden = False
        self._log_prob: float | None = None

    @property
    def log_prob(self) -> float:
        """Log density of the value under the distribution, summed over elements; 0 for a tag."""
        known = self._log_prob
        if known is None:
            known = self._log_prob = 0.0 if self.kind is TAG else total_log_prob(self.distribution, self.value)
        return known

    @property
    def log_weight(self) -> float:
        """What the site adds to the importance weight: likelihood if observed, prior over proposal if proposed."""
        if self.observed:
            return self.log_prob
        if self.proposal is None or self.kind != SAMPLE:
            return 0.0
        return self.log_prob - total_log_prob(self.proposal, self.value)

    @property
    def is_latent(self) -> bool:
        return self.kind == SAMPLE and not self.observed

    def __repr__(self) -> str:
        return (
            f"Site({self.kind}, address={self.address!r}, instance={self.instance}, name={self.name!r}, "
            f"distribution={self.distribution!r}, value={self.value!r}, observed={self.observed})"
        )


def total_log_prob(distribution: Distribution, value: Any) -> Any:
    """``distribution.log_prob(value)`` summed over elements: a float on the host, a scalar tracer under JAX."""
    log_prob = distribution.log_prob(value)
    if type(log_prob) is float:
        return log_prob
    return log_prob.sum() if is_tracer(log_prob) else float(np.sum(log_prob))


class Messenger:
    """What stands on the stack while a handler is in force; holds the state of that one use of the handler.

    The base of all messengers: one of your own overrides what it needs, mostly ``process``. This one counts draws:

    >>> import ppl_jax as ppl, ppl_jax.distributions as dist
    >>> from ppl_jax.language.handlers import Handler, Messenger
    >>> class _Counter(Messenger):
    ...     def __init__(self, counts):
    ...         self.counts = counts
    ...     def process(self, site):
    ...         if site.kind == "sample":
    ...             self.counts.append(site.name)
    >>> class count(Handler):
    ...     def messenger(self):
    ...         return _Counter([])
    >>> with count() as counter:
    ...     _ = ppl.sample(dist.Normal(0.0, 1.0), name="x")
    >>> counter.counts
    ['x']

    Attributes:
      rng: the stream from which draws come that nobody else settles, or None.
    """

    __slots__ = ()
    rng: Any = None

    def process(self, site: Site) -> None:
        """Sees the site on its way up: may set value, observed, control, proposal, rng or hidden."""

    def postprocess(self, site: Site) -> None:
        """Sees the site, outermost first, after its value is known."""

    def fresh(self) -> Messenger:
        """The messenger for another execution by an engine: itself, unless it keeps state of one execution."""
        return self

    def mark(self, scope: Any) -> Any:
        """What ``rewind`` needs to come back here, where a pass of a rejection scope begins."""
        return None

    def rewind(self, mark: Any) -> None:
        """Forgets what happened since the mark: the pass was rejected, and another begins."""

    def leave(self, mark: Any) -> None:
        """The rejection scope of which this is the first mark has ended."""


class Plain(Messenger):
    """Around an object that has the methods of a messenger and not its base: what it lacks does nothing."""

    __slots__ = ("inner",)

    def __init__(self, inner: Any):
        self.inner = inner
        lacking = [name for name in ("process",) if not callable(getattr(inner, name, None))]
        if lacking:
            raise TypeError(
                f"A handler's messenger() gave {inner!r}, which has no method process(site). Derive it from "
                "ppl_jax.handlers.Messenger, or give it that method."
            )

    @property
    def rng(self) -> Any:
        return getattr(self.inner, "rng", None)

    def process(self, site: Site) -> None:
        self.inner.process(site)

    def postprocess(self, site: Site) -> None:
        self._if_there("postprocess", site)

    def fresh(self) -> Messenger:
        another = self.inner.fresh() if hasattr(self.inner, "fresh") else self.inner
        return another if isinstance(another, Messenger) else Plain(another)

    def mark(self, scope: Any) -> Any:
        return self._if_there("mark", scope)

    def rewind(self, mark: Any) -> None:
        self._if_there("rewind", mark)

    def leave(self, mark: Any) -> None:
        self._if_there("leave", mark)

    def _if_there(self, method: str, argument: Any) -> Any:
        found = getattr(self.inner, method, None)
        return None if found is None else found(argument)


class Frame:
    """A link of the stack: a messenger, the frame outside it, and the Python frame at which the model was entered.

    ``engine``: whether the outermost messenger is an engine's, beyond which nobody listens.
    """

    __slots__ = ("engine", "entry", "messenger", "outer")

    def __init__(self, messenger: Any, outer: Frame | None, entry: FrameType | None, engine: bool):
        self.messenger = messenger
        self.outer = outer
        self.entry = entry
        self.engine = engine


_STACK: ContextVar[Frame | None] = ContextVar("ppl_jax_handlers", default=None)


def push(messenger: Any, entry: FrameType | None) -> None:
    """Puts a messenger innermost; addresses go on being counted from the outermost entry.

    Raises:
      TypeError: it is no Messenger, and has no method ``process``.
    """
    if not isinstance(messenger, Messenger):
        messenger = Plain(messenger)
    outer = _STACK.get()
    if outer is None:
        _STACK.set(Frame(messenger, None, entry, engine=False))
    else:
        _STACK.set(Frame(messenger, outer, outer.entry, outer.engine))


def pop() -> None:
    """Removes the innermost messenger."""
    top = _STACK.get()
    _STACK.set(None if top is None else top.outer)


def run_under(messenger: Any, model: Any, ambient: tuple = ()) -> Any:
    """Calls ``model()`` under ``messenger``, with the ``ambient`` ones inside it; nothing further out sees it."""
    entry = sys._getframe()
    frame = Frame(messenger, None, entry, engine=True)
    for inner in ambient:
        frame = Frame(inner.fresh(), frame, entry, engine=True)
    token = _STACK.set(frame)
    del entry, frame  # they refer to each other by way of this very Python frame: a cycle for every execution
    try:
        return model()
    finally:
        _STACK.reset(token)


def ambient_messengers(stop_at: type) -> tuple:
    """The messengers in force, outermost first, up to (not including) the innermost of type ``stop_at``."""
    found = []
    for frame in frames():
        if isinstance(frame.messenger, stop_at):
            break
        found.append(frame.messenger)
    return tuple(reversed(found))


def frames() -> Iterator[Frame]:
    """The stack, innermost first."""
    frame = _STACK.get()
    while frame is not None:
        yield frame
        frame = frame.outer


def send(site: Site, frame: Frame) -> None:
    """Passes a site up the stack, settles its value, and passes it down again."""
    if frame.outer is None and frame.engine:
        frame.messenger.process(site)
        if site.value is None:
            _settle(site, frame)
        frame.messenger.postprocess(site)
        return
    passed: list[Any] = []
    current: Frame | None = frame
    while current is not None:
        current.messenger.process(site)
        passed.append(current.messenger)
        if site.hidden:
            break
        current = current.outer
    if not frame.engine and numpyro_listens():
        from ppl_jax.interop.numpyro import settle_in_numpyro

        settle_in_numpyro(site)
    if site.value is None:
        _settle(site, frame)
    for messenger in reversed(passed):
        messenger.postprocess(site)


def _settle(site: Site, frame: Frame | None) -> None:
    """Draws the value nobody supplied, from the nearest stream in force."""
    if site.kind is FACTOR or site.kind is TAG:
        return
    rng = site.rng
    while rng is None and frame is not None:
        rng = frame.messenger.rng
        frame = frame.outer
    if rng is None:
        rng = Stream(check_seed(None))
    site.value = (site.proposal or site.distribution).sample(rng)


def sample(
    distribution: Distribution | Any, name: str | None = None, *, address: str | None = None, control: bool = True
) -> Any:
    """Draws a random value: a latent variable of the program.

    Args:
      distribution: from :mod:`ppl_jax.distributions`; one of numpyro's becomes ours.
      name: how the user refers to it; needed to condition on it or to read it from a trace. Need not be unique.
      address: an explicit call-site id in place of the automatic one.
      control: False for a nuisance draw, recorded but never proposed for.

    Returns:
      The value: float, int or numpy array of ``distribution.shape`` (a JAX tracer when the model is being traced).

    Raises:
      TypeError: ``distribution`` is not a distribution.
    """
    frame = _STACK.get()
    if not isinstance(distribution, Distribution):
        distribution = _as_distribution(SAMPLE, distribution)
    if frame is None:
        return _unhandled(SAMPLE, distribution, None, name, address, sys._getframe(1))
    if address is None:
        address = call_site(sys._getframe(1), frame.entry)
    site = Site(SAMPLE, distribution, None, name, address, control, False)
    send(site, frame)
    return site.value


def observe(
    distribution: Distribution | Any, value: Any = None, name: str | None = None, *, address: str | None = None
) -> Any:
    """Conditions the program on a value having this distribution.

    Args:
      distribution: the likelihood.
      value: the observed value, of ``distribution.shape``; None if the engine supplies it under ``name``. Data given
        to the engine under ``name`` win over a value given here.
      name: the key under which observations are given.
      address: an explicit call-site id in place of the automatic one.

    Returns:
      The value used: the data, or in a prior run without data a draw from the distribution.

    Raises:
      TypeError: ``distribution`` is not a distribution.
      ObservationError: the value is missing where an engine weighs it, NaN, or of another shape.
    """
    frame = _STACK.get()
    if not isinstance(distribution, Distribution):
        distribution = _as_distribution(OBSERVE, distribution)
    if frame is None:
        return _unhandled(OBSERVE, distribution, value, name, address, sys._getframe(1))
    if address is None:
        address = call_site(sys._getframe(1), frame.entry)
    site = Site(OBSERVE, distribution, value, name, address, False, True)
    if value is not None:
        site.value = check_value(site, value)
    send(site, frame)
    return site.value


def factor(log_factor: Any, name: str | None = None, *, address: str | None = None) -> None:
    """Adds to the log joint density of the execution.

    Args:
      log_factor: a scalar, natural logarithm; -inf rules the execution out.
      name: what errors and traces call it.
      address: an explicit call-site id in place of the automatic one.

    Raises:
      ParameterError: ``log_factor`` is NaN, +inf or no scalar.
    """
    frame = _STACK.get()
    try:
        distribution = Factor(log_factor)
    except ParameterError as error:
        if name is not None:
            error.locate(f"factor site '{name}'")
        raise
    if frame is None:
        _unhandled(FACTOR, distribution, None, name, address, sys._getframe(1))
        return
    if address is None:
        address = call_site(sys._getframe(1), frame.entry)
    send(Site(FACTOR, distribution, None, name, address, False, True), frame)


def tag(value: Any, name: str | None = None, *, address: str | None = None) -> Any:
    """Records a value in the trace without any effect on its probability.

    Args:
      value: anything; what is to be stored on disk must be numbers, arrays, strings, and tuples, lists, dicts of these.
      name: how it is read, ``trace[name]``.
      address: an explicit call-site id in place of the automatic one.

    Returns:
      ``value``.
    """
    frame = _STACK.get()
    if frame is None:
        return _unhandled(TAG, None, value, name, address, sys._getframe(1))
    if address is None:
        address = call_site(sys._getframe(1), frame.entry)
    send(Site(TAG, None, value, name, address, False, False), frame)
    return value


def _as_distribution(kind: str, given: Any) -> Distribution:
    """One of numpyro's distributions as ours."""
    if type(given).__module__.startswith("numpyro."):
        from ppl_jax.distributions.from_numpyro import from_numpyro

        return from_numpyro(given)
    remedy = f": {kind}(distribution, name={given!r})" if isinstance(given, str) else f", got {given!r}"
    raise TypeError(f"{kind}: the first argument must be a distribution of ppl_jax.distributions{remedy}.")


def numpyro_listens() -> bool:
    """Whether any of numpyro's handlers are in force."""
    primitives = sys.modules.get("numpyro.primitives")
    return primitives is not None and bool(primitives._PYRO_STACK)


def _unhandled(
    kind: str, distribution: Any, value: Any, name: str | None, address: str | None, caller: FrameType
) -> Any:
    """What a primitive means with no handler of ours: numpyro's, if its handlers are in force, else plain Python."""
    if numpyro_listens():
        from ppl_jax.interop.numpyro import entry, forward

        return forward(kind, distribution, value, name or address or call_site(caller, entry(caller)))
    if kind in (SAMPLE, OBSERVE) and value is None:
        return distribution.sample(Stream(check_seed(None)))
    return value


def check_value(site: Site, value: Any) -> Any:
    """A given value as the site's distribution expects it: a scalar or numpy array of its shape, without NaN.

    Raises:
      ObservationError: wrong shape, not a number, or NaN. A value outside the support passes: its density is zero.
    """
    kind = type(value)
    shape = site.distribution.shape
    if shape == ():
        if kind is float or (kind is int and -LARGEST <= value <= LARGEST):
            if value == value:
                return value
        elif kind is bool:
            return int(value)
    if is_tracer(value):
        return value
    try:
        array = as_numbers(value)
    except (TypeError, OverflowError) as error:
        raise ObservationError(site, f"the value {reprlib.repr(value)} {error}.", _NOT_NUMBERS) from None
    if array.shape != shape:
        raise ObservationError(
            site,
            f"the value has shape {array.shape}, but {site.distribution!r} has shape {shape}.",
            "Give a value of the distribution's shape, or parameters of the data's shape.",
        )
    if np.isnan(array).any():
        which = "the value is NaN" if shape == () else f"{int(np.isnan(array).sum())} elements of the value are NaN"
        raise ObservationError(
            site,
            f"{which}.",
            "Leave missing data out of the model, give the value, or let the observe stand only where there is one; a "
            "simulator that fails for a part of its prior says so by ppl_jax.factor(-math.inf).",
        )
    if shape == ():
        number = array.item()
        return int(number) if site.distribution.discrete and number.is_integer() else number
    return array
