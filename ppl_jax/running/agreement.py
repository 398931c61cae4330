"""Whether a compiled model does what the program does: some of JAX's executions, repeated on the host.

JAX runs a model once, on abstract values, and compiles what it saw. Whatever the program does beside that is done then
and never again: draws from a generator of its own, a clock, a counter, the text of a draw in a file's name or for
another program. So the program is traced twice, and what differs between two tracings was such a constant; and it is
run on the host with the values that JAX drew, where all parameters, values, tags, results and weights must be the same
to JAX's precision, and to the bit when it is run once more. Repeated are the first executions, and of a whole chunk
those with the least and the greatest numbers, in which 32 bits end first. A program that keeps what it draws (in a
list, say) is found because JAX's abstract values outlive its tracing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.extend.core import Literal as JaxLiteral

from ppl_jax.errors import UntraceableModelError
from ppl_jax.language.site import TAG
from ppl_jax.running.checks import callers_level
from ppl_jax.running.device import BatchModel, Program, trace_structure
from ppl_jax.running.generators import states_of_generators, went_on
from ppl_jax.running.host import Job
from ppl_jax.running.precision import COMPARED, lost_in, repeat
from ppl_jax.running.reproducible import (
    column_name,
    differing,
    differing_objects,
    differing_traces,
    irreproducible,
    row_of,
    says_irreproducible,
)
from ppl_jax.storage import RowLayout, TraceTable, TraceWriter

_TWICE = 3  # of the executions that are repeated, so many are repeated once more
_COLUMNS = 12  # of which extreme executions are repeated
_NEGLIGIBLE = 40.0  # a log weight so far below the best counts for nothing beside it
_TOLERANCE = 1e-3  # of the largest of the compared values: what a frozen draw misses is of the order of 1


class Finding(NamedTuple):
    """What speaks against the compiled model: ``kind``, and the end of a sentence for a person."""

    kind: Literal["precision", "not reproducible", "keeps", "differs", "not compared"]
    text: str


def traced(job: Job) -> BatchModel:
    """What JAX makes of a job's model.

    Raises:
      UntraceableModelError: it cannot trace the model.
    """
    return trace_structure(
        job.model,
        job.observations,
        score=job.score,
        likelihood_importance=job.likelihood_importance,
        ambient=job.ambient,
    )


def examine(batch_model: BatchModel, job: Job) -> Finding | None:
    """What speaks against running ``job`` as its compiled ``batch_model``; None if nothing was found."""
    text = irreproducible(job)
    if text:
        return Finding("not reproducible", text)
    table, log_weights = batch_model.run(job.seed, 0, batch_model.program.chunk)
    finding = changed_between_tracings(batch_model, job) or compare(table[:COMPARED], log_weights[:COMPARED], job)
    if finding is not None:
        return finding
    numbers = _extremes(table)
    if not len(numbers):  # no column varies
        return None
    best = float(np.max(log_weights[np.isfinite(log_weights)], initial=-np.inf))
    return compare(table.take(numbers), log_weights[numbers], job, best - _NEGLIGIBLE)


def _extremes(table: TraceTable) -> np.ndarray:
    """Numbers of the traces that have the least and the greatest of some columns, or numbers that are not finite."""
    rows = table.heap.reshape(len(table), -1)
    varying = np.flatnonzero((rows[0] != rows).any(axis=0))
    columns = varying[:: max(1, -(-len(varying) // _COLUMNS))]
    infinite = np.flatnonzero(~np.isfinite(rows).all(axis=1))[:_COLUMNS]
    with np.errstate(invalid="ignore"):
        return np.unique(np.concatenate([rows[:, columns].argmin(0), rows[:, columns].argmax(0), infinite]))


def warn_of(finding: Finding, instead: str = "backend='host'") -> None:
    """Warns a user who chose JAX, or for whom the host would not do better; ``instead`` is what to use."""
    if finding.kind == "not reproducible":
        text = (
            f"{says_irreproducible(finding.text)} JAX traced it once: what it draws by itself is the same constant in "
            f"all executions. Or use {instead}."
        )
    elif finding.kind == "keeps":
        text = (
            f"This model keeps values that it draws from one execution to the next ({finding.text}). JAX ran it on "
            "abstract values, some of which are in its lists now, and none of its executions' own. Return or tag what "
            f"is to be kept, or use {instead}."
        )
    elif finding.kind == "differs":
        text = (
            f"JAX does not compute what the model computes on the host: {finding.text}. What a program does with drawn "
            "values other than by jax.numpy (their text or type, files, other programs, state that it keeps) was done "
            f"once, when JAX traced it. Use {instead}."
        )
    else:
        text = (
            f"JAX runs this model unchecked, because the host cannot run it ({finding.text}): what the program does "
            "other than by jax.numpy (randomness of its own, files, state that it keeps) is done once. Check it, or "
            "write it so that it also runs on numbers."
        )
    warnings.warn(text, RuntimeWarning, stacklevel=callers_level())


def changed_between_tracings(batch_model: BatchModel, job: Job) -> Finding | None:
    """What a second tracing of the program shows otherwise than the first, or the first has left behind; or None."""
    before = states_of_generators(job.model)
    changed = _changed(batch_model, job)
    if changed:
        return Finding("not reproducible", f"traced twice by JAX, {changed}")
    drawn = went_on(before, states_of_generators(job.model))
    if drawn:
        return Finding("not reproducible", drawn)
    if batch_model.program.is_kept():
        return Finding("keeps", "a list, a dictionary or an attribute that outlives the execution")
    return None


def _changed(batch_model: BatchModel, job: Job) -> str | None:
    try:
        again = traced(job)
    except UntraceableModelError as error:
        return f"it could be traced once, and then could not ({error})"
    first, second = batch_model.program, again.program
    if first.layout.key != second.layout.key:
        return "it had two structures"
    shared = differing(first.layout, first.template, second.template, first.objects, second.objects)
    if shared:
        return shared
    for one, other in zip(_constants(first), _constants(second), strict=False):
        if not np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
            constants = f"{one.tolist()!r} once and {other.tolist()!r} once"
            return f"it computed with the constant {constants}"
    return None


def _constants(program: Program) -> Iterator[np.ndarray]:
    """The numbers that stand in a traced program, in order."""
    yield from map(np.asarray, program.jaxpr.consts)
    yield from _literals(program.jaxpr.jaxpr)


def _literals(jaxpr: Any) -> Iterator[np.ndarray]:
    for equation in jaxpr.eqns:
        yield from (np.asarray(variable.val) for variable in equation.invars if isinstance(variable, JaxLiteral))
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
            if isinstance(inner, ClosedJaxpr):
                yield from map(np.asarray, inner.consts)
                yield from _literals(inner.jaxpr)
            elif isinstance(inner, Jaxpr):
                yield from _literals(inner)


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, (ClosedJaxpr, Jaxpr))


def compare(table: TraceTable, log_weights: np.ndarray, job: Job, negligible: float = -np.inf) -> Finding | None:
    """Repeats the executions of a table, which JAX made, on the host; what was not the same there, None if nothing.

    Log weights below ``negligible`` are all the same.
    """
    host, kept, failures = TraceWriter(), [], []
    for number, (trace, log_weight) in enumerate(zip(table, log_weights.tolist(), strict=True)):
        try:
            execution, repeated = repeat(job, trace)
            once_more = repeat(job, trace)[1] if number < _TWICE else None
        except Exception as error:  # of a model written for JAX alone, whatever it raises
            failures.append(error)
            continue
        lost = lost_in(execution, log_weight, negligible)
        if lost is not None:
            return Finding("precision", lost)
        host.append(repeated, execution.log_weight)
        kept.append(number)
        if once_more is not None:
            host.append(once_more, execution.log_weight)
            kept.append(-1)
    if failures and not kept:
        return Finding("not compared", f"{type(failures[0]).__name__}: {failures[0]}")
    if failures:
        return Finding("differs", f"the host raised {type(failures[0]).__name__}: {failures[0]}")
    return _compare_tables(table, host.finish()[0], kept)


def _compare_tables(table: TraceTable, host: TraceTable, kept: Sequence[int]) -> Finding | None:
    """``host[k]`` repeats ``table[kept[k]]``, or is ``host[k - 1]`` once more where ``kept[k]`` is -1."""
    for k, number in enumerate(kept):
        text = differing_traces(host, k - 1, k) if number < 0 else None
        if text:
            return Finding("not reproducible", f"run twice with the same draws, {text}")
    layout, firsts = table.layouts[0], [k for k, number in enumerate(kept) if number >= 0]
    if not all(_is_like(host.layouts[int(host.kinds[k])], layout) for k in firsts):
        return Finding("differs", "there it has other statements, or returns or tags values of another kind")
    device_rows = np.stack([row_of(table, kept[k]) for k in firsts])
    host_rows = np.stack([row_of(host, k) for k in firsts])
    for row, other in zip(device_rows, host_rows, strict=True):
        text = differing_objects(layout, row, other, table.objects, host.objects)
        if text:
            return Finding("differs", f"with the same draws, {text}")
    same = _is_close(device_rows, host_rows)
    same[:, 0] = True  # the weight: precision compares it
    same[:, layout.object_places] = True
    if same.all():
        return None
    number, column = np.argwhere(~same)[0].tolist()
    values = f"{device_rows[number, column]:.6g} and {host_rows[number, column]:.6g}"
    return Finding("differs", f"with the same draws, {column_name(layout, column)} is {values}")


def _is_like(one: RowLayout, other: RowLayout) -> bool:
    """Whether rows of both have the same statements and widths; a float may be an integer in one of them."""
    statements, others = (
        [site._replace(value=None) if site.kind == TAG else site for site in layout.sites] for layout in (one, other)
    )
    return statements == others and one.width == other.width and np.array_equal(one.object_places, other.object_places)


def _is_close(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Whether each number of rows (n, width) is that of other rows, to a share of the largest in its column."""
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(ours) & np.isfinite(theirs)
        scale = np.max(np.where(finite, np.maximum(abs(ours), abs(theirs)), 0.0), axis=0)
        near = finite & (abs(ours - theirs) <= _TOLERANCE * scale)
        return near | (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
