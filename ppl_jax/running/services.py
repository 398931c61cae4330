"""What an engine may ask of a model beyond calling it: whole executions that the model performs by itself.

A model is any callable. One that draws by itself, such as a simulator in another process, may offer more, and the
engines use it where no handler of the user's must see every draw:

- ``executions(request, start, stop)``: blocks of independent executions, weighted as under the prior;
- ``reruns(request)``: executions that keep given values, for Markov chains;
- ``at_once``: how many executions may be under way together without any being begun again;
- ``shares_stream``: whether, when it is called, it may make draws itself for which nothing is proposed, from the stream
  of the engine's execution, in place of asking for each (see :class:`Sharing`).

The first two give None where the model cannot do it after all. The outcome must be that of calling the model, number
for number: execution i draws from the stream (seed, i).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from ppl_jax.language.handlers import Handler
from ppl_jax.language.site import Site
from ppl_jax.language.trace import Scope
from ppl_jax.storage import RowLayout, TraceTable
from ppl_jax.streams import CountedStream


class Request(NamedTuple):
    """What executions are to be like.

    Attributes:
      seed: of their streams.
      observations: data by name.
      score: False for a prior run, in which nothing is weighed.
      likelihood_importance: exponent of the likelihood in the weight.
    """

    seed: int
    observations: Mapping[str, Any]
    score: bool = True
    likelihood_importance: float = 1.0


class Record(NamedTuple):
    """One whole execution: a row of storage, its layout, and the rejection loops in it."""

    layout: RowLayout
    row: np.ndarray
    scopes: tuple[Scope, ...] = ()


class Reruns(Protocol):
    """Executions that keep values of an earlier one."""

    def run(
        self,
        earlier: Record,
        kept: np.ndarray,
        rng: CountedStream,
        asked: int | None = None,
        answer: Callable[[Site], Any] | None = None,
    ) -> Record | None:
        """One execution; draws that keep no value are made from ``rng``, in the order of the execution.

        Args:
          earlier: the execution whose values are kept.
          kept: positions of its sites whose values are kept where they are met again with the same family and shape.
          rng: the stream; it stands behind the execution's draws afterwards.
          asked: position of a site whose value comes from ``answer(site)`` instead, where its address and instance are
            met again. What ``answer`` raises ends the execution.

        Returns:
          The execution; None if this one must be run statement by statement: it failed, or met what was never checked.
        """


class StartAgain(BaseException):
    """Ends an execution that shared its stream and cannot be finished so: it is to be done again, draw by draw.

    Not an Exception, so that models do not catch it.
    """


class Sharing(Protocol):
    """What an engine's messenger has where the model may make draws itself; only where no other handler is in force.

    Attributes:
      observations: data by name.
      asks_all: whether the model is to ask for every draw all the same: the execution was begun again.
    """

    observations: Mapping[str, Any]
    asks_all: bool

    def shared_stream(self) -> CountedStream | None:
        """The stream, where all draws that are not controlled, and all in rejection scopes, come from their priors."""

    def take(self, site: Site) -> None:
        """Processes a site whose value the model drew itself."""


def shares_stream(model: Any) -> bool:
    """Whether the model can make draws itself, from a stream that counts."""
    return getattr(innermost(model), "shares_stream", False)


def executions(model: Any, ambient: tuple, request: Request, number: int) -> Iterator[Any] | None:
    """Blocks (table, log weights) of executions 0 ... number - 1, if the model performs them by itself; else None."""
    offered = getattr(model, "executions", None)
    return None if offered is None or ambient else offered(request, 0, number)


def reruns(model: Any, ambient: tuple, request: Request) -> Reruns | None:
    """The model's own way to run again with kept values, if it has one; else None."""
    offered = getattr(model, "reruns", None)
    return None if offered is None or ambient else offered(request)


def at_once(model: Any, wanted: int) -> int:
    """How many executions to have under way together: ``wanted``, or what the model can hold open if that is less."""
    return min(wanted, getattr(innermost(model), "at_once", wanted))


def innermost(model: Any) -> Any:
    """The model inside the handlers that are wrapped around it."""
    while isinstance(model, Handler) and model.model is not None:
        model = model.model
    return model


def is_traceable(model: Any) -> bool:
    """Whether it is worth trying to trace the model by JAX."""
    return getattr(innermost(model), "traceable", True)


def check_workers(model: Any, num_workers: int) -> None:
    """Raises ValueError if executions of this model cannot be divided among forked processes."""
    if num_workers > 1 and not getattr(innermost(model), "forkable", True):
        raise ValueError(
            f"num_workers={num_workers} divides a model among forked processes, but {innermost(model)!r} cannot be "
            "forked: it has processes of its own, or computes with JAX, whose threads do not come along. Leave "
            "num_workers at 1; a RemoteModel is given more processes with num_processes."
        )


TableAndWeights = tuple[TraceTable, np.ndarray]
