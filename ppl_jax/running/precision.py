"""What a model loses when JAX runs it in single precision: some of the traces, computed again on the host in double.

JAX's default is float32, whose numbers near 1.6e9 are 128 apart. A model of time stamps, of counts in the billions, or
of millions of data would give a posterior that is wrong without a sign of it. So the host runs the model again with the
values that the device drew, and its importance weights and the grain of the draws are compared.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from ppl_jax.distributions.base import Distribution
from ppl_jax.errors import describe_site
from ppl_jax.language.site import Site
from ppl_jax.language.trace import Trace
from ppl_jax.running.execution import Execution, execute
from ppl_jax.running.host import Job
from ppl_jax.streams import Stream

COMPARED = 16  # traces
_WEIGHT_ERROR = 0.02  # of a log weight: less than what a few thousand samples tell apart
_GRAIN = 1e-2  # distance of neighbouring numbers, in standard deviations of a draw


class Repeated(Execution):
    """An execution that takes its draws from a trace of the device; ``lost`` says where their grain is too coarse."""

    __slots__ = ("lost", "trace")

    def __init__(self, job: Job, trace: Trace):
        super().__init__(Stream(job.seed), job.observations, job.score, job.likelihood_importance)
        self.trace = trace
        self.lost: str | None = None

    def settle_latent(self, site: Site) -> None:
        """Takes the value, and weighs its proposal."""
        site.value = self._drawn(site)
        if site.proposal is not None:
            self.log_weight += site.log_weight

    def settle_observed(self, site: Site) -> None:
        """Weighs a datum; takes what was simulated."""
        if site.value is None and not self.score:
            site.value = self._drawn(site)
        else:
            super().settle_observed(site)

    def _drawn(self, site: Site) -> Any:
        value = self.trace.sites[len(self.sites) - 1].value
        if self.lost is None and is_coarse(site.proposal or site.distribution, value):
            self.lost = f"the {describe_site(site)} draws {value!r} from {site.proposal or site.distribution!r}"
        return value


def is_coarse(distribution: Any, value: Any) -> bool:
    """Whether JAX's numbers near a drawn value are too far apart, or end too soon, for its distribution.

    Where the moments are infinite or unknown (tails too heavy, nothing defined) the density itself is asked: whether
    it changes within the distance of two neighbouring numbers.
    """
    try:
        stddev, mean = np.asarray(distribution.stddev), np.asarray(distribution.mean)
    except NotImplementedError:
        stddev = mean = np.asarray(np.nan)
    known = np.isfinite(stddev) & np.isfinite(mean)
    if not np.all(known) and not distribution.discrete and _changes_within_a_step(distribution, value):
        return True
    known = known & (stddev > 0.0)
    with np.errstate(invalid="ignore"):
        if distribution.discrete:
            last = jnp.iinfo(jnp.result_type(int)).max
            coarse = mean + 10.0 * stddev > last
        else:
            coarse = np.abs(value) * float(jnp.finfo(jnp.result_type(float)).eps) > _GRAIN * stddev
    return bool(np.any(known & coarse))


def repeat(job: Job, trace: Trace) -> tuple[Repeated, Trace]:
    """The host's execution with the values that JAX drew in ``trace``, and its own trace.

    Raises:
      Exception: whatever the model raises; IndexError where it makes more statements than the trace has.
    """
    execution = Repeated(job, trace)
    return execution, execute(execution, job.model, job.ambient)


def lost_in(execution: Repeated, log_weight: float, negligible: float = -np.inf) -> str | None:
    """What JAX computed too roughly in an execution, whose log weight it gave as ``log_weight``; None if nothing.

    Log weights that are both below ``negligible`` are not compared.

    Returns:
      The end of a sentence, for a person.
    """
    if execution.lost is not None:
        return execution.lost
    exact = execution.log_weight
    if exact < negligible and log_weight < negligible:
        return None
    if np.isfinite(exact) and not abs(log_weight - exact) <= _WEIGHT_ERROR:
        return f"the log weight of a trace is {exact:.6g} and came out as {log_weight:.6g}"
    return None


def _changes_within_a_step(distribution: Distribution, value: Any) -> bool:
    """Whether the log density differs by more than the grain allows between a value and JAX's next numbers."""
    value = np.asarray(value, dtype=np.float64)
    step = np.abs(value) * float(jnp.finfo(jnp.result_type(float)).eps)
    try:
        here, *beside = (np.asarray(distribution.log_prob(value + k * step)) for k in (0, -1, 1))
    except Exception:  # a family of numpyro's of which nothing more is known
        return False
    with np.errstate(invalid="ignore"):
        jumps = [np.isfinite(here) & np.isfinite(other) & (np.abs(other - here) > _GRAIN) for other in beside]
    return bool(np.any(jumps))
