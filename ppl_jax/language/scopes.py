"""Rejection scopes: marks around a loop that draws until a condition holds, of which a trace keeps the accepted pass.

>>> with ppl.rejection_scope() as scope:
...     while not accepted(x := ppl.sample(dist.Normal(0.0, 1.0))):
...         scope.reject()

A program means the same with and without the marks. What they change is how engines see it: rejected passes leave the
trace, Markov chains draw the loop anew as a whole, and importance weights under a network stay of finite variance (see
:mod:`ppl_jax.infer.guided.amortized_rejection`). The passes of a loop must be alike: what a pass does may depend on
what came before the loop and on its own draws, not on earlier passes.

A handler's messenger takes part by the methods ``mark(scope)``, which gives what it must know to come back here and is
called at the beginning of every pass, ``rewind(mark)`` after a pass that was rejected, and, where it needs to know,
``leave(mark)`` at the end, with the mark of the scope's beginning.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from types import TracebackType

from ppl_jax.errors import ScopeError
from ppl_jax.language.addresses import call_site
from ppl_jax.language.handlers import control as controlled
from ppl_jax.language.handlers import with_statement
from ppl_jax.language.stack import frames, pop, push


class OpenScope:
    """A scope that is open, as messengers see it.

    Attributes:
      key: its address, and its name or "".
      control: whether engines may propose for the draws in it.
      local: whether the program runs in this process.
      rejected: how many passes were rejected so far.
      error: the exception that leaves the with statement, if one does.
    """

    __slots__ = ("_first", "_marks", "control", "error", "key", "local", "rejected")

    def __init__(self, address: str, name: str, control: bool = True, local: bool = True):
        self.key = (address, name)
        self.control = control
        self.local = local
        self.rejected = 0
        self.error: BaseException | None = None
        messengers = [frame.messenger for frame in frames() if hasattr(frame.messenger, "mark")]
        self._first = self._marks = [(messenger, messenger.mark(self)) for messenger in messengers]

    def reject(self) -> None:
        """The messengers forget everything since the present pass began."""
        for messenger, mark in self._marks:
            messenger.rewind(mark)
        self.rejected += 1
        self._marks = [(messenger, messenger.mark(self)) for messenger, _ in self._marks]

    def leave(self) -> None:
        """The present pass is accepted."""
        first = self._first
        self.forget()
        for messenger, mark in first:
            if hasattr(messenger, "leave"):
                messenger.leave(mark)

    def forget(self) -> None:
        """The scope is over; without its ``leave`` where a rejected pass of a scope around it takes it along.

        The marks know the scope: as a circle they would keep the whole execution in memory until Python's garbage
        collector finds it.
        """
        self._first = self._marks = []


_INNERMOST: ContextVar[RejectionScope | None] = ContextVar("ppl_jax_scopes", default=None)


class RejectionScope:
    """A scope, open within its with statement; made by :func:`rejection_scope`."""

    __slots__ = ("_address", "_control", "_name", "_open", "_outer", "_pushed", "_state")

    def __init__(self, name: str, address: str | None, control: bool):
        self._name = name
        self._address = address
        self._control = control
        self._open: OpenScope | None = None
        self._outer: RejectionScope | None = None
        self._pushed = False
        self._state = "before"

    def __enter__(self) -> RejectionScope:
        if self._state != "before":
            raise ScopeError(f"The {self} was entered twice. Call rejection_scope() for every with statement.")
        frame = next(frames(), None)
        if self._address is None:
            self._address = call_site(with_statement(sys._getframe(1)), None if frame is None else frame.entry)
        if frame is not None:
            self._open = OpenScope(self._address, self._name, self._control)
            if not self._control:
                push(controlled(on=()).messenger(), frame.entry)
                self._pushed = True
        self._outer = _INNERMOST.get()
        _INNERMOST.set(self)
        self._state = "within"
        return self

    def reject(self) -> None:
        """The pass that ends here is rejected; another begins.

        Raises:
          ScopeError: the scope's with statement has ended, or not begun.
        """
        if self._state != "within":
            when = "before" if self._state == "before" else "after"
            raise ScopeError(f"reject() of the {self} was called {when} its with statement; call it within.")
        inner = _INNERMOST.get()
        while inner is not None and inner is not self:  # inner scopes go with the pass
            inner._state = "after"
            if inner._open is not None:
                inner._open.forget()
            inner = inner._outer
        _INNERMOST.set(self)
        if self._open is not None:
            self._open.reject()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pushed:
            pop()
        if self._state == "within":
            self._state = "after"
            _INNERMOST.set(self._outer)
            if self._open is not None:  # also after an exception: the model may catch it and go on
                self._open.error = error
                self._open.leave()

    def __repr__(self) -> str:
        name = f" '{self._name}'" if self._name else ""
        return f"rejection scope{name} at {self._address or '?'}"


def rejection_scope(name: str = "", address: str | None = None, *, control: bool = True) -> RejectionScope:
    """A scope that ends, with the pass that is accepted, where the with statement does.

    Call ``reject()`` of it at the end of every pass that is not accepted; scopes nest. Nothing in a scope may be
    observed or weighed by a factor: the probability of acceptance would depend on the data. With no handlers at all, or
    those of numpyro alone, nothing happens and every pass counts; JAX cannot trace a model with scopes.

    Args:
      name: what the user calls it.
      address: an explicit call-site id in place of the automatic one.
      control: False makes every draw in the scope a nuisance draw. Nothing is proposed for it then, and under a network
        no correction of the weight is needed, which costs executions and adds noise.

    Returns:
      The scope, a context manager.

    Raises:
      ScopeError: ``reject()`` was called outside the with statement, or the scope was entered twice.
      ObservationError: at an observe, a factor, or a draw for which data are given, within the scope.
    """
    return RejectionScope(name, address, control)
