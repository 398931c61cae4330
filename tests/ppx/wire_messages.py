"""Random messages of every kind, for hypothesis; in the form that decoding gives them (scalars have the shape ())."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from ppx import messages as m
from ppx.constants import ErrorCode, SiteKind

numbers = st.floats(allow_nan=False, width=64)
uints = st.integers(0, 2**32 - 1)
ulongs = st.integers(0, 2**64 - 1)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20) | st.just("[f(int)+0x1f; g()+0x2; ]" * 40)
sizes = st.integers(1, 3)
shapes = st.sampled_from([(), (), (), (2,), (3,), (2, 3), (1, 1), (1, 2), (70,)])

ELEMENTWISE = {
    "Normal": 2, "Uniform": 2, "Poisson": 1, "Bernoulli": 1, "Beta": 2, "Exponential": 1, "Gamma": 2, "LogNormal": 2,
    "Binomial": 2, "Weibull": 2, "TruncatedNormal": 4, "VonMises": 2, "Delta": 1,
    "NegativeBinomial2": 2, "BetaBinomial": 3, "StudentT": 3, "HalfNormal": 1, "Pareto": 2,
}  # fmt: skip


def count(layout: Any) -> int:
    """How many numbers the parameters are."""
    if layout is None:
        return 0
    if layout[0] == "Mixture":
        return layout[1][0] + sum(count(component) for component in layout[2])
    return sum(math.prod(shape) for shape in layout[1:])


@st.composite
def layouts(draw: Any, depth: int = 0) -> Any:
    """A layout whose parameters all have values."""
    kind = draw(
        st.sampled_from(["elementwise"] * 4 + ["Categorical", "MultivariateNormal"] + ["Mixture"] * (depth < 3))
    )
    if kind == "Categorical":
        return kind, (*draw(st.sampled_from([(), (), (2,)])), draw(sizes))
    if kind == "MultivariateNormal":
        d = draw(sizes)
        return kind, (d,), (d, d)
    if kind == "Mixture":
        components = draw(st.lists(layouts(depth + 1), min_size=1, max_size=3))
        return kind, (len(components),), tuple(components)
    family = draw(st.sampled_from(sorted(ELEMENTWISE)))
    return family, *(draw(shapes) for _ in range(ELEMENTWISE[family]))


@st.composite
def values(draw: Any, length: int | None = None, most: int = 90) -> Any:
    """A sequence of numbers: a tuple, or an array where it is long."""
    length = draw(st.sampled_from([0, 1, 2, 5, 64, 65, most])) if length is None else length
    few = draw(st.lists(numbers, min_size=min(length, 4), max_size=min(length, 4)))
    found = tuple(few[k % len(few)] + (k // 4) for k in range(length)) if few else ()
    return np.array(found) if length > m.LONG else found


@st.composite
def tensors(draw: Any, optional: bool = True) -> Any:
    """Shape and numbers; (None, ()) for none."""
    if optional and draw(st.booleans()):
        return None, ()
    shape = draw(shapes)
    return shape, draw(values(math.prod(shape)))


@st.composite
def drawn(draw: Any, optional: bool = False) -> Any:
    """Address, name, layout and numbers."""
    layout = None if optional and draw(st.booleans()) else draw(layouts())
    return draw(texts), draw(texts), layout, draw(values(count(layout)))


@st.composite
def sites(draw: Any) -> m.Site:
    kind = draw(st.sampled_from(list(SiteKind)))
    layout, shape = None, draw(shapes)
    if kind == SiteKind.SAMPLE:
        layout = draw(layouts())
    elif kind == SiteKind.OBSERVE:
        layout = draw(st.none() | layouts())
        shape = draw(shapes if layout is None else st.none() | shapes)
    elif kind in (SiteKind.FACTOR, SiteKind.SCOPE_END):
        shape = ()
    elif kind in (SiteKind.SCOPE_BEGIN, SiteKind.SCOPE_REJECT):
        shape = None
    elif kind == SiteKind.RESULT:
        shape = draw(st.none() | shapes)
    return m.Site(kind, draw(texts), draw(texts), layout, shape, draw(st.booleans()))


errors = st.builds(m.Error, st.sampled_from(list(ErrorCode)), texts, texts, uints)


@st.composite
def traces(draw: Any) -> m.Traces:
    type_sites = draw(st.lists(st.lists(uints, max_size=4).map(tuple), max_size=4))
    types: Any = ()
    if type_sites:
        length = draw(st.sampled_from([0, 1, 2, 64, 65, 100]))
        few = draw(st.lists(st.integers(0, len(type_sites) - 1), min_size=3, max_size=3))
        types = tuple(few[k % 3] for k in range(length))
        types = np.array(types, dtype=np.uint32) if length > m.LONG else types
    failed = draw(st.lists(errors, max_size=3))
    most = len(types) + len(failed)
    places = draw(st.permutations(range(most)))[: len(failed)]
    failed = [error._replace(execution=place) for error, place in zip(failed, sorted(places), strict=True)]
    return m.Traces(tuple(draw(st.lists(sites(), max_size=3))), tuple(type_sites), types, draw(values()), tuple(failed))


observations = st.builds(lambda name, tensor: m.Observation(name, *tensor), texts, tensors())
policies = st.builds(m.Policy, st.binary(max_size=9), st.booleans(), st.lists(observations, max_size=3).map(tuple))


@st.composite
def replays(draw: Any) -> m.Replay:
    length = draw(st.sampled_from([0, 1, 3, 80]))
    numbers_ = [draw(st.lists(uints, min_size=length, max_size=length)) for _ in range(2)]
    return m.Replay(tuple(numbers_[0]), tuple(numbers_[1]), draw(values()))


draws = st.builds(m.Draws, ulongs, ulongs, uints, ulongs, st.none() | policies, st.none() | replays())
memories = st.builds(m.SharedMemory, uints, uints, ulongs, ulongs)

plain_samples = st.builds(lambda head, control: m.Sample(*head, control), drawn(), st.booleans())
site_samples = st.builds(
    lambda site, given, part, position: m.Sample(site=site, numbers=given, traces=part, position=position),
    st.integers(1, 2**32 - 1), values(), st.none() | traces(), ulongs,
)  # fmt: skip

MESSAGES = {
    "Handshake": st.builds(m.Handshake, texts, uints, uints, st.none() | memories),
    "HandshakeResult": st.builds(m.HandshakeResult, texts, texts, uints, uints, texts),
    "Run": st.builds(m.Run, st.none() | draws),
    "RunResult": st.builds(
        lambda tensor, part, position: m.RunResult(*tensor, part, position), tensors(), st.none() | traces(), ulongs
    ),
    "Sample": plain_samples | site_samples,
    "SampleResult": st.builds(lambda tensor, position: m.SampleResult(*tensor, position), tensors(), ulongs),
    "Observe": st.builds(lambda head, tensor: m.Observe(*head, *tensor), drawn(optional=True), tensors()),
    "ObserveResult": st.just(m.ObserveResult()),
    "Tag": st.builds(lambda address, name, tensor: m.Tag(address, name, *tensor), texts, texts, tensors()),
    "TagResult": st.just(m.TagResult()),
    "Reset": st.just(m.Reset()),
    "Error": errors,
}
messages = st.one_of(list(MESSAGES.values()))


def same(a: Any, b: Any) -> bool:
    """Whether two messages are equal; arrays and tuples of the same numbers are."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return len(a) == len(b) and np.array_equal(np.asarray(a, np.float64), np.asarray(b, np.float64))
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        named = hasattr(a, "_fields") and hasattr(b, "_fields")
        return (not named or type(a) is type(b)) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def renumbered(message: Any, shift: float) -> Any:
    """A message of the same form with other numbers."""
    changes = {}
    for name in ("numbers", "value"):
        if hasattr(message, name):
            changes[name] = tuple(float(k) + shift for k in range(len(getattr(message, name))))
    if getattr(message, "traces", None) is not None:
        rows = tuple(shift - k for k in range(len(message.traces.rows)))
        changes["traces"] = message.traces._replace(rows=rows)
    if getattr(message, "position", 0):
        changes["position"] = hash(shift) % 1000 + 1
    return message._replace(**changes) if changes else message
