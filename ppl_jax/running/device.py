"""The device's way to run a model: whole batches of executions under jit(vmap), straight into a table of traces.

A model of fixed structure is run once on abstract values (:mod:`ppl_jax.running.symbolic`); what it computes is
compiled for a fixed number of executions, a chunk. Chunk c holds executions c * size ... (c + 1) * size - 1, whatever
the caller asks for, and execution i always stands at the same place of the same chunk: results cannot depend on where
a caller divides a run. The last chunk computed is remembered, so that reading a run in order computes nothing twice.

Site s of execution i draws from the Threefry key fold_in(fold_in(fold_in(seed, high word of i), s), low word of i). Its
numbers are not those of the host: JAX transforms other uniforms, by default in float32.
"""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from ppl_jax.running.symbolic import SymbolicExecution, SymbolicRow, lay_out, run_symbolically
from ppl_jax.storage import TraceTable
from ppl_jax.storage.layouts import RowLayout

LARGEST_CHUNK = 1 << 14  # executions; larger ones leave the processor's cache
CHUNK_NUMBERS = 1 << 23  # intermediate numbers a chunk may hold: 32 MiB in float32
FILLED_TOGETHER = 1 << 14  # numbers of the heap written in one go, so that they stay in the first levels of the cache

IMPLEMENTATION = "threefry2x32"  # the same whatever jax_default_prng_impl says

Columns = tuple[np.ndarray, ...]


class Program:
    """What one abstract run of a model showed: a row, its layout, and the expressions behind it.

    Args:
      execute: runs the model on abstract ``inputs``; gives the finished execution and the model's result.
      inputs: examples of the inputs of one execution (arrays or ``jax.ShapeDtypeStruct``).

    Attributes:
      layout: RowLayout of every trace.
      template: float64 (width,), the numbers that all traces share.
      places: where in the row the outputs go.
      objects: strings and the like, which all traces share.
      drawn: positions of the latents that were drawn or given, in order.
      moving: which of these, by number, have bounds that depend on other latents.
      jaxpr: the traced program.
      outputs: the outputs as a function of the inputs of one execution, and where the latents are given their log
        density; it no longer runs the model.
      cost: how many numbers one execution computes.
    """

    def __init__(self, execute: Callable[..., tuple[SymbolicExecution, Any]], *inputs: Any):
        row = SymbolicRow()
        found: list[tuple[RowLayout, SymbolicExecution]] = []
        traces: list[weakref.ref] = []

        def outputs(*arguments: Any) -> tuple:
            traces.extend(weakref.ref(leaf._trace) for leaf in jax.tree.leaves(arguments)[:1])
            execution, result = execute(*arguments)
            found.append((lay_out(row, execution, result), execution))
            prior = () if execution.given is None else (jnp.asarray(execution.log_prior),)
            return (*row.outputs, *prior)

        jaxpr = jax.make_jaxpr(outputs)(*inputs)
        self.layout, execution = found.pop()
        self.drawn = tuple(execution.drawn)
        self.moving = frozenset(execution.moving)
        self.template = np.array(row.numbers, dtype=np.float64)
        self.places = tuple(row.places)
        self.objects = row.objects
        self.jaxpr = jaxpr
        self.outputs = jaxpr_as_fun(jaxpr)
        self.cost = sum(variable.aval.size for equation in jaxpr.jaxpr.eqns for variable in equation.outvars)
        self._traces = traces
        row.forget()

    def is_kept(self) -> bool:
        """Whether an abstract value of the run outlives it: the program keeps what it draws."""
        gc.collect()
        alive = [trace for trace in (kept() for kept in self._traces) if trace is not None]
        if not alive:
            return False
        # JAX's caches keep the record of a tracing sometimes, but none of its values.
        tracers = (thing for thing in gc.get_objects() if isinstance(thing, jax.core.Tracer))
        return any(tracer._trace is trace for tracer in tracers for trace in alive)

    @property
    def chunk(self) -> int:
        """How many executions are computed at once; a power of two."""
        fitting = max(1, CHUNK_NUMBERS // (self.cost + self.layout.width))
        return min(LARGEST_CHUNK, 1 << (fitting.bit_length() - 1))

    def table(self, rows: np.ndarray) -> tuple[TraceTable, np.ndarray]:
        """The table over finished rows, float64 (n, width), and the log weights, (n,)."""
        count, width = rows.shape
        starts = np.arange(count, dtype=np.int64) * width
        table = TraceTable([self.layout], rows.reshape(-1), starts, np.zeros(count, np.int32), self.objects)
        return table, rows[:, 0].copy()

    def fill(self, rows: np.ndarray, columns: Sequence[np.ndarray]) -> None:
        """Writes rows, float64 (n, width), from the outputs, each (n, ...)."""
        flat = [column.reshape(len(rows), math.prod(column.shape[1:])) for column in columns]
        together = max(1, FILLED_TOGETHER // self.layout.width)
        for start in range(0, len(rows), together):
            part = rows[start : start + together]
            part[:] = self.template
            for output, place, size in self.places:
                if size == 1:
                    part[:, place] = flat[output][start : start + together, 0]
                else:
                    part[:, place : place + size] = flat[output][start : start + together]


class BatchModel:
    """A traced model: compiled at its first use, and then only executed.

    Attributes:
      program: what the one run of the model showed.
      layout: RowLayout of every trace.
      latents: positions of the latents that are drawn, in order.
    """

    def __init__(
        self,
        model: Callable[[], Any],
        observations: Mapping[str, Any],
        score: bool,
        likelihood_importance: float,
        ambient: tuple,
    ):
        def execute(place: Any, given: Sequence[Any] | None = None) -> tuple[SymbolicExecution, Any]:
            execution = SymbolicExecution(place, observations, score, likelihood_importance, given)
            return execution, run_symbolically(execution, model, ambient)

        self._execute = execute
        first = jax.random.key(0, impl=IMPLEMENTATION), jax.ShapeDtypeStruct((), np.uint32)
        self.program = Program(lambda *place: execute(place), *first)
        self._compiled = jax.jit(partial(_run_chunk, self.program.outputs, self.program.chunk))
        self._last: tuple[int, int, Columns] | None = None
        self._replayed: tuple[Program, Any] | None = None

    @property
    def layout(self) -> RowLayout:
        return self.program.layout

    @property
    def latents(self) -> tuple[int, ...]:
        return self.program.drawn

    def run(self, seed: int, start: int, stop: int) -> tuple[TraceTable, np.ndarray]:
        """Executions ``start`` ... ``stop - 1`` of the run named ``seed``: their traces and log importance weights.

        Each depends on ``seed`` and its own number alone, bit for bit.
        """
        program = self.program
        size = program.chunk
        rows = np.empty((stop - start, program.layout.width))
        chunks = range(start // size, -(-stop // size))
        ahead = self._begin(seed, chunks[0]) if chunks else ()
        for number in chunks:
            # JAX computes the next chunk while this one is copied.
            columns, ahead = ahead, self._begin(seed, number + 1) if number + 1 in chunks else ()
            ready = tuple(np.asarray(column) for column in columns)
            first, last = max(start, number * size), min(stop, (number + 1) * size)
            part = slice(first - number * size, last - number * size)
            program.fill(rows[first - start : last - start], [column[part] for column in ready])
            self._last = (seed, number, ready)
        return program.table(rows)

    def _begin(self, seed: int, number: int) -> Columns:
        """The outputs of one chunk, perhaps still being computed."""
        if self._last is not None and self._last[:2] == (seed, number):
            return self._last[2]
        first = number * self.program.chunk
        return self._compiled(words(seed), *words(first))

    def replay(self, values: Sequence[np.ndarray]) -> tuple[TraceTable, np.ndarray, np.ndarray]:
        """Traces in which the latents have given values: one array (n, *shape) for each of ``latents``.

        Returns:
          The traces; their log weights (n,), which are log likelihoods, tempered if they are, since proposals are left
          out; and the log densities (n,) of the latents.
        """
        if self._replayed is None:
            shapes = [jax.ShapeDtypeStruct(value.shape[1:], value.dtype) for value in values]
            program = Program(lambda given: self._execute(None, given), shapes)
            self._replayed = program, jax.jit(jax.vmap(program.outputs))
        program, compiled = self._replayed
        count, size = len(values[0]), min(program.chunk, len(values[0]))
        rows, log_priors = np.empty((count, program.layout.width)), np.empty(count)
        for start in range(0, count, size):
            low = min(start, count - size)  # the last chunk overlaps the one before it, so that nothing is recompiled
            *columns, priors = compiled(*[jnp.asarray(value[low : low + size]) for value in values])
            program.fill(rows[low : low + size], [np.asarray(column) for column in columns])
            log_priors[low : low + size] = priors
        return (*program.table(rows), log_priors)


def words(number: int) -> jax.Array:
    """High and low word of an integer in [0, 2**64), uint32 (2,): the data of a Threefry key."""
    return jnp.asarray(np.array([number >> 32, number & 0xFFFFFFFF], dtype=np.uint32))


def _run_chunk(outputs: Callable[..., Any], size: int, seed: Any, high: Any, low: Any) -> tuple:
    """The outputs of ``size`` executions whose numbers start at the integer of words (high, low)."""
    run = jax.random.fold_in(jax.random.wrap_key_data(seed, impl=IMPLEMENTATION), high)
    indices = low + jnp.arange(size, dtype=jnp.uint32)
    return tuple(jax.vmap(lambda index: outputs(run, index))(indices))


def trace_structure(
    model: Callable[[], Any],
    observations: Mapping[str, Any],
    *,
    score: bool,
    likelihood_importance: float = 1.0,
    ambient: tuple = (),
) -> BatchModel:
    """Runs the model once on abstract values, so that batches of it can be compiled.

    Args:
      model: a callable without arguments whose sequence of sites is the same in every execution.
      observations: name -> observed value.
      score: False for a prior run, in which observes without data are drawn and nothing is weighed.
      likelihood_importance: exponent of the likelihood in the weight.
      ambient: messengers that apply inside every execution.

    Raises:
      UntraceableModelError: JAX cannot trace the model, or it raised; the original error is the cause.
      ObservationError: an observed value is missing, NaN or of the wrong shape.
    """
    return BatchModel(model, observations, score, likelihood_importance, ambient)
