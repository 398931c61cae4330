"""Executions under a network in greenlets of their own: many are under way, and their draws are answered together."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Generic, TypeVar

from greenlet import getcurrent, greenlet

from ppl_jax.infer.guided.evaluator import Guided
from ppl_jax.running.waiting import waits_beside

E = TypeVar("E", bound=Guided)


class Task(Generic[E]):
    """An execution that stops where a draw is to be answered or another process to be waited for, and what came of it.

    Args:
      execution: the execution.
      run: does all of it; called by the first ``go_on``.

    Attributes:
      result: at the end, what ``run`` returned.
    """

    def __init__(self, execution: E, run: Callable[[], Any]):
        thread: greenlet = greenlet(lambda: _beside(thread, run))
        thread.gr_context = copy_context()
        self.execution = execution
        self.result: Any = None
        self._thread = thread

    @property
    def done(self) -> bool:
        """Whether it has come to its end."""
        return bool(self._thread.dead)

    @property
    def waits(self) -> bool:
        """Whether it waits for another process, and not for the network."""
        return not self.done and self.execution.asking.token is None

    def go_on(self) -> None:
        """Runs to the next draw that is to be answered, to where it must wait, or to the end."""
        self.result = self._thread.switch()

    def end(self) -> None:
        """Ends it where it is."""
        if not self.done:
            self._thread.throw()


def _beside(thread: greenlet, run: Callable[[], Any]) -> Any:
    def let_others_go_on() -> None:
        if getcurrent() is thread:  # not one that the model runs inside
            thread.parent.switch()

    with waits_beside(let_others_go_on):
        return run()
