"""Sequential Monte Carlo: particles run side by side and are resampled where they observe.

Every particle is one execution of the model in a greenlet of its own, which stops after one or several ``observe`` or
``factor``, when it is about to draw again. If the weights have become too unequal by then, particles are resampled: the
first child of a particle simply goes on, further ones run the model again on the uniforms that their parent has used
so far, which brings them to the same place, and draw fresh ones from there (Wood, van de Meent & Mansinghka, AISTATS
2014). After the last draw there is nothing to gain: what is observed then stays in the weights of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from greenlet import getcurrent, greenlet
from scipy.special import logsumexp

from ppl_jax.empirical import Empirical
from ppl_jax.empirical.weights import normalised, systematic_at
from ppl_jax.errors import ModelError, describe_site
from ppl_jax.language.site import Site
from ppl_jax.language.trace import Trace
from ppl_jax.running.checks import (
    check_count,
    check_model,
    check_names,
    check_observations,
    check_weights,
    gather,
    names_met,
    warn_if_unreliable,
)
from ppl_jax.running.execution import Execution, execute, handlers_in_force
from ppl_jax.running.host import Job
from ppl_jax.running.progress import Progress
from ppl_jax.running.reproducible import warn_if_irreproducible
from ppl_jax.storage import TraceWriter
from ppl_jax.streams import Stream, check_seed, derive_seed, streams

_PARTICLES, _RESAMPLING = range(2)  # labels of the streams


def smc(
    model: Callable[[], Any],
    observations: Mapping[str, Any] | None = None,
    num_traces: int = 1000,
    *,
    ess_threshold: float = 0.5,
    seed: int | None = None,
    path: str | Path | None = None,
    progress: bool = True,
) -> Empirical:
    """Posterior of a model that observes step by step, by sequential Monte Carlo with adaptive resampling.

    The model must be deterministic given its draws, because resampled executions are run again from their start.

    Args:
      model: a callable without arguments, run on the host.
      observations: name -> observed value.
      num_traces: number of particles.
      ess_threshold: resamples when the effective sample size falls below this fraction of the particles, in [0, 1];
        1 resamples between all observes and draws, 0 never.
      seed: integer in [0, 2**64); None for a fresh one.
      path: a new folder to keep the traces in, memory-mapped; None keeps them in memory.
      progress: whether to show a progress bar.

    Returns:
      Empirical of Trace with log weights and an unbiased estimate of the evidence (``log_evidence`` is its logarithm).

    Raises:
      DegenerateWeightsError: all particles got weight zero; names the site to blame.
      ModelError: the model raised, or did not do the same again when it was run again.
      ObservationError, UnknownObservationError: see :func:`ppl_jax.importance_sampling`.
    """
    if not 0.0 <= ess_threshold <= 1.0:
        raise ValueError(f"ess_threshold must be in [0, 1], got {ess_threshold!r}.")
    job = Job(check_model(model), check_observations(observations), True, 1.0, handlers_in_force(), check_seed(seed))
    number = check_count("num_traces", num_traces)
    warn_if_irreproducible(job, number)
    history = History()
    with Progress(number, "particle", progress) as bar:
        produce = partial(_run, job, number, ess_threshold, bar, history)
        return gather(lambda writer: produce(writer), TraceWriter(path), partial(_conclude, job, number, history))


class History:
    """What a run remembers.

    Attributes:
      evidence: the parts of the log evidence.
      sizes: effective sample sizes where particles waited for each other, before the resampling if there was one.
      families: of each particle that was written, the first particle that it descends from.
    """

    def __init__(self) -> None:
        self.evidence: list[float] = []
        self.sizes: list[float] = []
        self.families: list[int] = []


def _run(
    job: Job, number: int, ess_threshold: float, progress: Progress, history: History, writer: TraceWriter
) -> None:
    """Runs all particles to their end, writes their traces and what is to be remembered.

    If it breaks off, the traces of particles that came to their end are written.
    """
    particles_seed = derive_seed(job.seed, _PARTICLES)
    particles = [Particle(job, stream, family=k) for k, stream in enumerate(streams(particles_seed, 0, number))]
    try:
        generation = 0
        while _advance(particles, progress):
            log_weights = np.array([particle.log_weight for particle in particles])
            if not np.isfinite(log_weights).any():
                continue
            history.sizes.append(_ess(log_weights))
            if history.sizes[-1] >= ess_threshold * number:
                continue
            generation += 1
            history.evidence.append(_log_mean(log_weights))
            shift = Stream(derive_seed(job.seed, _RESAMPLING), generation).random()
            ancestors = systematic_at(normalised(log_weights), number, shift).tolist()
            particles = _resample(job, particles, ancestors, derive_seed(particles_seed, generation))
        history.evidence.append(_log_mean(np.array([particle.log_weight for particle in particles])))
    finally:
        for particle in particles:
            if particle.trace is None:
                particle.stop()
            else:
                trace = Trace(particle.trace.sites, particle.trace.result, particle.log_weight)
                writer.append(trace, particle.log_weight)
                history.families.append(particle.family)


def _conclude(job: Job, number: int, history: History, writer: TraceWriter) -> Empirical:
    table, log_weights = writer.finish()
    unweighted = Empirical(table)
    check_names(job.observations, names_met(table), len(table), unweighted)
    check_weights(table, log_weights, unweighted)
    whole = len(table) == number  # of a run that broke off, some particles did not come to their end
    resamplings = len(history.evidence) - 1
    posterior = Empirical(
        table,
        log_weights,
        log_evidence=float(sum(history.evidence)) if whole else None,
        families=np.array(history.families) if resamplings > 0 else None,
        info={"resamplings": max(0, resamplings), "effective_sample_sizes": history.sizes},
    )
    warn_if_unreliable(posterior)
    return posterior


# -- particles ---------------------------------------------------------------------------------------------------------


class RecordingStream:
    """A stream that remembers the uniforms it gave, and begins with given ones.

    ``before_each`` is called before a uniform is given.
    """

    __slots__ = ("_ahead", "_fresh", "before_each", "index", "seed", "used")

    def __init__(self, stream: Stream, first: list[float]):
        self.seed, self.index = stream.seed, stream.index
        self.used: list[float] = []
        self.before_each: Callable[[], None] = _nothing
        self._ahead: Iterator[float] = iter(first)
        self._fresh = stream

    def random(self) -> float:
        """The next uniform."""
        self.before_each()
        uniform = next(self._ahead, None)
        if uniform is None:
            uniform = self._fresh.random()
        self.used.append(uniform)
        return uniform


def _nothing() -> None:
    pass


class Suspending(Execution):
    """An execution that gives way to its parent greenlet when it is about to draw after it was weighed.

    ``barriers`` counts these places; at the first ``skip`` of them it goes on.
    """

    __slots__ = ("barriers", "skip", "weighed")

    def __init__(self, rng: RecordingStream, job: Job, skip: int):
        super().__init__(rng, job.observations, True)  # type: ignore[arg-type]
        self.barriers = 0
        self.skip = skip
        self.weighed = False
        rng.before_each = self.wait

    def process(self, site: Site) -> None:
        super().process(site)
        if site.observed:
            self.weighed = True

    def wait(self) -> None:
        """Lets the other particles come to a place of this kind, if this is one."""
        if self.weighed:
            self.weighed = False
            self.barriers += 1
            if self.barriers > self.skip:
                getcurrent().parent.switch()


class Particle:
    """One execution on its way.

    ``log_weight`` is what it gained since the last resampling; ``trace`` its Trace once it has ended; ``family`` the
    number of the first particle that it descends from.
    """

    def __init__(self, job: Job, stream: Stream, uniforms: list[float] | None = None, skip: int = 0, family: int = 0):
        self._rng = RecordingStream(stream, uniforms or [])
        self.execution = Suspending(self._rng, job, skip)
        self.trace: Trace | None = None
        self.log_weight = 0.0
        self.family = family
        self._greenlet = greenlet(lambda: execute(self.execution, job.model, job.ambient))
        self._greenlet.gr_context = copy_context()

    def advance(self) -> None:
        """Runs to the next place where particles wait for each other, or to the end."""
        outcome = self._greenlet.switch()
        if self._greenlet.dead:
            self.trace = outcome
        self.log_weight += self.execution.log_weight
        self.execution.log_weight = 0.0

    def child(self, job: Job, stream: Stream) -> Particle:
        """Another particle at the same place, with a future of its own."""
        if self.trace is not None:
            return self
        copy = Particle(job, stream, list(self._rng.used), self.execution.barriers - 1, self.family)
        copy.advance()
        here, there = self.execution.sites, copy.execution.sites
        if copy.trace is not None or len(here) != len(there) or here[-1].address != there[-1].address:
            raise ModelError(
                f"The model did other things when it was run again with the same draws: the {describe_site(here[-1])} "
                f"was not met again. Take all its randomness from ppl_jax.sample, and no state from outside."
            )
        copy.log_weight = 0.0
        return copy

    def stop(self) -> None:
        """Ends the execution where it stands."""
        if not self._greenlet.dead:
            self._greenlet.throw()


def _advance(particles: list[Particle], progress: Progress) -> bool:
    """Runs every particle that has not ended to where they wait next; whether any is left."""
    running = [particle for particle in particles if particle.trace is None]
    for particle in running:
        particle.advance()
        if particle.trace is not None:
            progress.advance(1)
    return any(particle.trace is None for particle in running)


def _resample(job: Job, particles: list[Particle], ancestors: list[int], seed: int) -> list[Particle]:
    """The next generation: the first child of a particle is the particle itself."""
    following: list[Particle] = []
    for slot, (ancestor, stream) in enumerate(zip(ancestors, streams(seed, 0, len(ancestors)), strict=True)):
        parent = particles[ancestor]
        first = slot == 0 or ancestors[slot - 1] != ancestor
        following.append(parent if first else parent.child(job, stream))
    survivors = set(ancestors)
    for place, particle in enumerate(particles):
        if place not in survivors:
            particle.stop()
    for particle in following:
        particle.log_weight = 0.0
    return following


def _ess(log_weights: np.ndarray) -> float:
    return float(np.exp(2.0 * logsumexp(log_weights) - logsumexp(2.0 * log_weights)))


def _log_mean(log_weights: np.ndarray) -> float:
    return float(logsumexp(log_weights) - np.log(len(log_weights)))
