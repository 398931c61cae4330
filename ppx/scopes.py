"""Rejection scopes for Python simulators: marks around a loop that draws until a condition holds.

>>> with ppx.rejection_scope() as scope:
...     while not accepted(x := ppl.sample(dist.Normal(0.0, 1.0))):
...         scope.reject()

Only the accepted pass becomes a part of the trace. Where no front end serves the model, or the inference side does not
know scopes, nothing happens.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ppl_jax.addresses import call_site
from ppl_jax.primitives import frames
from ppx.errors import OutOfState
from ppx.execution import RecordedExecution
from ppx.recording import Recorder, Scope


class RejectionScope:
    """A scope; open within its with statement."""

    __slots__ = ("_recorder", "_scope")

    def __init__(self, recorder: Recorder | None, scope: Scope | None):
        self._recorder = recorder
        self._scope = scope

    def reject(self) -> None:
        """The pass that ends here is rejected; another begins.

        Raises:
          OutOfState: the scope's with statement has ended.
        """
        if self._recorder is not None and self._scope is not None:
            if self._scope not in self._recorder.scopes:
                where = f"of the scope '{self._scope.name}' at {self._scope.address}"
                raise OutOfState(f"reject() {where} was called after its with statement; call it within.")
            self._recorder.reject(self._scope)


@contextmanager
def rejection_scope(name: str = "", address: str | None = None) -> Iterator[RejectionScope]:
    """A scope that ends, with the pass that is accepted, where the with statement does.

    Args:
      name: what the user calls it.
      address: an explicit call-site id in place of the automatic one.
    """
    caller = sys._getframe(2)
    for frame in frames():
        if isinstance(frame.messenger, RecordedExecution):
            recorder = frame.messenger.recorder
            scope = recorder.begin(call_site(caller, frame.entry) if address is None else address, name)
            try:
                yield RejectionScope(recorder, scope)
            finally:  # also after an exception: the model may catch it and go on
                if scope in recorder.scopes:
                    recorder.end(scope)
            return
    yield RejectionScope(None, None)
