"""The messages as values: what decoding gives and encoding takes.

Numbers are kept flat, as a trace's row keeps them. A distribution is its *layout*, ``("Normal", (), ())``, that is the
family and the shapes of its parameters (for a mixture ``("Mixture", (2,), (layout, layout))``), and its *numbers*, all
parameters one after the other; a tensor is its shape and its values. Sequences of numbers are tuples of float, or numpy
arrays where they are long (more than ``LONG``). Strings that are absent on the wire are "".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ppx.constants import ErrorCode, SiteKind

LONG = 64

Shape = tuple[int, ...]
Numbers = Any  # a tuple of float or a one-dimensional float64 array
Layout = tuple


class SharedMemory(NamedTuple):
    """Where the front end finds the mailbox: descriptor ``fd`` of process ``pid``, a file of ``size`` bytes."""

    pid: int
    fd: int
    size: int
    nonce: int


class Handshake(NamedTuple):
    """Opens a connection. ``version`` 0 is PPX 1.0.0; ``capabilities``: what the inference side understands."""

    system_name: str = ""
    version: int = 0
    capabilities: int = 0
    shared_memory: SharedMemory | None = None


class HandshakeResult(NamedTuple):
    """``capabilities``: those that both sides understand; ``build_id`` changes when addresses may have changed."""

    system_name: str = ""
    model_name: str = ""
    version: int = 0
    capabilities: int = 0
    build_id: str = ""


class Error(NamedTuple):
    """``execution``: inside Traces, which of the message's executions failed."""

    code: int = ErrorCode.UNKNOWN
    text: str = ""
    address: str = ""
    execution: int = 0


class Site(NamedTuple):
    """A statement without its numbers. ``shape`` is that of its value, None if the row has none."""

    kind: int = SiteKind.SAMPLE
    address: str = ""
    name: str = ""
    layout: Layout | None = None
    shape: Shape | None = None
    control: bool = True


class Traces(NamedTuple):
    """Executions, or a part of one.

    Attributes:
      sites: definitions, in order of their numbers.
      type_sites: for each type its site numbers.
      types: for each execution that did not fail, its place in ``type_sites``; an array of uint32 if they are many.
      rows: the rows of these executions, one after the other.
      errors: the executions that failed.
    """

    sites: tuple[Site, ...] = ()
    type_sites: tuple[tuple[int, ...], ...] = ()
    types: Any = ()
    rows: Numbers = ()
    errors: tuple[Error, ...] = ()


class Observation(NamedTuple):
    """The value of every Sample and Observe of that name."""

    name: str
    shape: Shape | None
    value: Numbers


class Policy(NamedTuple):
    """What the front end settles itself: bit n of ``asked`` set means that it asks for site n."""

    asked: bytes = b""
    ask_others: bool = False
    observations: tuple[Observation, ...] = ()


class Replay(NamedTuple):
    """Values for visit ``instances[k]`` of the address of site ``sites[k]``, one after the other in ``values``."""

    sites: Sequence[int] = ()
    instances: Sequence[int] = ()
    values: Numbers = ()


class Draws(NamedTuple):
    """Executions (seed, first) ... (seed, first + count - 1); ``position``: uniforms used before each starts."""

    seed: int
    first: int
    count: int = 1  # type: ignore[assignment]  # a tuple has a method of that name
    position: int = 0
    policy: Policy | None = None
    replay: Replay | None = None


class Run(NamedTuple):
    """Starts an execution, or those of ``draws``."""

    draws: Draws | None = None


class RunResult(NamedTuple):
    """What the model returned, or with Sites the last part of the trace; ``position``: see Draws."""

    shape: Shape | None = None
    value: Numbers = ()
    traces: Traces | None = None
    position: int = 0


class Sample(NamedTuple):
    """``site`` > 0 stands for address, name, layout and control."""

    address: str = ""
    name: str = ""
    layout: Layout | None = None
    numbers: Numbers = ()
    control: bool = True
    site: int = 0
    traces: Traces | None = None
    position: int = 0


class SampleResult(NamedTuple):
    """The value of a Sample; ``position``: uniforms of the execution's stream used after it was drawn."""

    shape: Shape | None
    value: Numbers
    position: int = 0


class Observe(NamedTuple):
    """``shape`` is None if the inference side supplies the value."""

    address: str = ""
    name: str = ""
    layout: Layout | None = None
    numbers: Numbers = ()
    shape: Shape | None = None
    value: Numbers = ()


class Tag(NamedTuple):
    """A value to be recorded."""

    address: str = ""
    name: str = ""
    shape: Shape | None = None
    value: Numbers = ()


class ObserveResult(NamedTuple):
    """Acknowledges an Observe."""


class TagResult(NamedTuple):
    """Acknowledges a Tag."""


class Reset(NamedTuple):
    """The front end did not expect what came."""


Message = (
    Handshake | HandshakeResult | Run | RunResult | Sample | SampleResult | Observe | ObserveResult | Tag | TagResult
    | Reset | Error
)  # fmt: skip
