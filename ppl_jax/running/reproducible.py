"""Whether a program does the same when it is run again with the same draws: nothing random but what the engines see.

A simulator that also draws from a generator of its own, reads a clock, or changes what it reads, cannot be reproduced
from a seed. Importance sampling is right all the same, for the hidden draws are as fresh as the others; but chains and
particles run executions again with values kept, and a density that changes meanwhile is not theirs. It is told, not
forbidden.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ppl_jax.errors import describe_site
from ppl_jax.running.checks import callers_level
from ppl_jax.running.generators import states_of_generators, went_on
from ppl_jax.running.host import Job, write_execution
from ppl_jax.running.services import Request, executions
from ppl_jax.storage import RowLayout, TraceTable, TraceWriter
from ppl_jax.streams import streams

CHECKING_PAYS = 100  # executions from which running one of them twice more is nothing


def warn_if_irreproducible(job: Job, number: float) -> bool:
    """Warns if the first execution of a run of ``number`` is not the same twice, and returns whether it did so.

    A short run is not asked.
    """
    text = irreproducible(job) if number >= CHECKING_PAYS else None
    if text:
        warnings.warn(says_irreproducible(text), RuntimeWarning, stacklevel=callers_level())
    return text is not None


def irreproducible(job: Job) -> str | None:
    """In what the first execution of a run, run twice on the host, is not the same; the end of a sentence.

    None also where the host cannot run it. A generator that went on is told too, whatever the two executions made of
    it: a draw may matter in one execution of a hundred. One that the program seeds anew each time stands where it did.
    """
    writer, states = TraceWriter(), []
    try:
        for _ in range(2):
            _write_first(job, writer)
            states.append(states_of_generators(job.model))
        table = writer.finish()[0]
    except Exception:  # the run itself will meet it, and say it better
        return None
    text = differing_traces(table, 0, 1) if len(table) == 2 else None
    return f"run twice with the same draws, {text}" if text else went_on(*states)


def says_irreproducible(text: str) -> str:
    """The message about a program that is not the same twice; ``text`` says what differed."""
    return (
        f"This model is not reproducible: {text}. It has randomness or state of its own (a generator, a clock, a "
        "counter, a file) that no engine sees: no seed repeats the run, nothing is inferred about it, and engines that "
        "run executions again with values kept (chains, SMC) are not exact. Draw with ppl_jax.sample in its place."
    )


def _write_first(job: Job, writer: TraceWriter) -> None:
    """The first execution of a run."""
    request = Request(job.seed, job.observations, job.score, job.likelihood_importance)
    blocks = executions(job.model, job.ambient, request, 1)
    if blocks is None:
        (rng,) = streams(job.seed, 0, 1)
        write_execution(job, rng, writer)
        return
    for table, log_weights in blocks:
        writer.extend(table, log_weights)


def row_of(table: TraceTable, number: int) -> np.ndarray:
    """The numbers of one trace, float64 (width,)."""
    start = int(table.starts[number])
    return table.heap[start : start + table.layouts[int(table.kinds[number])].width]


def differing_traces(table: TraceTable, one: int, other: int) -> str | None:
    """In what two traces differ by as much as a bit, weights apart; the end of a sentence, None if in nothing."""
    layout, layout_of_other = (table.layouts[int(table.kinds[number])] for number in (one, other))
    if layout.key != layout_of_other.key:
        return _differing_layouts(layout, layout_of_other)
    return differing(layout, row_of(table, one), row_of(table, other), table.objects, table.objects)


def differing(layout: RowLayout, row: np.ndarray, other: np.ndarray, objects: Any, objects_of_other: Any) -> str | None:
    """In what two rows of one layout differ by as much as a bit, weights apart."""
    same = (row == other) | (np.isnan(row) & np.isnan(other))
    same[0] = True
    same[layout.object_places] = True
    if same.all():
        return differing_objects(layout, row, other, objects, objects_of_other)
    column = int(np.argmin(same))
    return f"{column_name(layout, column)} was {float(row[column])!r} once and {float(other[column])!r} once"


def differing_objects(
    layout: RowLayout, row: np.ndarray, other: np.ndarray, objects: Any, objects_of_other: Any
) -> str | None:
    """The first text (or long integer) in which two rows of one layout differ."""
    for column in layout.object_places.tolist():
        text, text_of_other = objects[int(row[column])], objects_of_other[int(other[column])]
        if type(text) in (str, int) and text != text_of_other:
            return f"{column_name(layout, column)} is {text!r} and {text_of_other!r}"
    return None


def _differing_layouts(layout: RowLayout, other: RowLayout) -> str:
    for one, another in zip(layout.sites, other.sites, strict=False):
        if one != another:
            return f"there was the {describe_site(one)} once, and the {describe_site(another)} in its place once"
    if len(layout.sites) != len(other.sites):
        return f"it made {len(layout.sites)} statements once and {len(other.sites)} once"
    return "it returned values of different kinds"


def column_name(layout: RowLayout, column: int) -> str:
    """What stands in a column of rows of this layout, for a person."""
    if column >= layout.result_start:
        return "what the model returned"
    for site, slot in zip(layout.sites, layout.slots, strict=True):
        if column < slot.end:
            part = "the value" if column < slot.distribution else "a parameter"
            return f"{part} of the {describe_site(site)}"
    return "the weight"
