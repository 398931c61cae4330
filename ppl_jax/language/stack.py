"""The stack of handlers in force: messengers, and the way of a site through them.

The stack lives in a ``ContextVar``, so threads, greenlets and asyncio tasks each have their own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextvars import ContextVar
from types import FrameType
from typing import Any

from ppl_jax.language import foreign
from ppl_jax.language.site import FACTOR, TAG, Site
from ppl_jax.streams import Stream, check_seed


class Messenger:
    """What stands on the stack while a handler is in force; holds the state of that one use of the handler.

    The base of all messengers: one of your own overrides what it needs, mostly ``process``. This one counts draws:

    >>> import ppl_jax as ppl, ppl_jax.distributions as dist
    >>> from ppl_jax.handlers import Handler, Messenger
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


class StackEntry:
    """A link of the stack: a messenger, the frame outside it, and the Python frame at which the model was entered.

    ``engine``: whether the outermost messenger is an engine's, beyond which nobody listens.
    """

    __slots__ = ("engine", "entry", "messenger", "outer")

    def __init__(self, messenger: Any, outer: StackEntry | None, entry: FrameType | None, engine: bool):
        self.messenger = messenger
        self.outer = outer
        self.entry = entry
        self.engine = engine


STACK: ContextVar[StackEntry | None] = ContextVar("ppl_jax_handlers", default=None)


def push(messenger: Any, entry: FrameType | None) -> None:
    """Puts a messenger innermost; addresses go on being counted from the outermost entry.

    Raises:
      TypeError: it is no Messenger, and has no method ``process``.
    """
    if not isinstance(messenger, Messenger):
        messenger = Plain(messenger)
    outer = STACK.get()
    if outer is None:
        STACK.set(StackEntry(messenger, None, entry, engine=False))
    else:
        STACK.set(StackEntry(messenger, outer, outer.entry, outer.engine))


def pop() -> None:
    """Removes the innermost messenger."""
    top = STACK.get()
    STACK.set(None if top is None else top.outer)


def run_under(messenger: Any, model: Any, ambient: tuple = ()) -> Any:
    """Calls ``model()`` under ``messenger``, with the ``ambient`` ones inside it; nothing further out sees it."""
    entry = sys._getframe()
    frame = StackEntry(messenger, None, entry, engine=True)
    for inner in ambient:
        frame = StackEntry(inner.fresh(), frame, entry, engine=True)
    token = STACK.set(frame)
    del entry, frame  # they refer to each other by way of this very Python frame: a cycle for every execution
    try:
        return model()
    finally:
        STACK.reset(token)


def ambient_messengers(stop_at: type) -> tuple:
    """The messengers in force, outermost first, up to (not including) the innermost of type ``stop_at``."""
    found = []
    for frame in frames():
        if isinstance(frame.messenger, stop_at):
            break
        found.append(frame.messenger)
    return tuple(reversed(found))


def frames() -> Iterator[StackEntry]:
    """The stack, innermost first."""
    frame = STACK.get()
    while frame is not None:
        yield frame
        frame = frame.outer


def send(site: Site, frame: StackEntry) -> None:
    """Passes a site up the stack, settles its value, and passes it down again."""
    if frame.outer is None and frame.engine:
        frame.messenger.process(site)
        if site.value is None:
            _settle(site, frame)
        frame.messenger.postprocess(site)
        return
    passed: list[Any] = []
    current: StackEntry | None = frame
    while current is not None:
        current.messenger.process(site)
        passed.append(current.messenger)
        if site.hidden:
            break
        current = current.outer
    if not frame.engine and foreign.listens():
        foreign.settle(site)
    if site.value is None:
        _settle(site, frame)
    for messenger in reversed(passed):
        messenger.postprocess(site)


def _settle(site: Site, frame: StackEntry | None) -> None:
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
