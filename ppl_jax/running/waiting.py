"""What an execution does that waits for another process: an engine with several under way lets another one go on.

Simulators in processes of their own then compute at the same time, although one thread asks them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_others: ContextVar[Callable[[], None] | None] = ContextVar("ppl_jax_others", default=None)


@contextmanager
def waits_beside(others: Callable[[], None]) -> Iterator[None]:
    """Within it, ``others`` is called when an execution would wait; it returns when it is this one's turn again."""
    token = _others.set(others)
    try:
        yield
    finally:
        _others.reset(token)


def others_under_way() -> Callable[[], None] | None:
    """What to call before waiting for another process, so that other executions go on; None if there are no others."""
    return _others.get()
