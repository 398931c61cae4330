"""Which backend runs a model: JAX, in whole batches, or the host."""

from __future__ import annotations

from typing import Any

from ppl_jax.errors import UntraceableModelError
from ppl_jax.running.checks import warn_of_lost_precision
from ppl_jax.running.host import Job
from ppl_jax.running.reproducible import warn_if_irreproducible
from ppl_jax.running.services import is_traceable

COMPILING_PAYS = 10_000  # executions from which "auto" tries JAX: fewer are done before JAX has compiled


def choose_backend(backend: str, job: Job, num_traces: float) -> Any:
    """The compiled model where JAX is to run it, None where the host is.

    "auto" takes JAX where some executions, repeated on the host, show that both do the same; "jax" warns if they
    do not. A program that is not the same when it is run again is warned of.

    Raises:
      ValueError: an unknown name.
      UntraceableModelError: ``backend="jax"`` and JAX cannot trace the model.
    """
    if backend not in ("auto", "host", "jax"):
        raise ValueError(f"backend must be 'auto', 'host' or 'jax', got {backend!r}.")
    # Before JAX traces it: a program that keeps its draws is left as it was.
    if backend != "jax" and warn_if_irreproducible(job, num_traces):
        return None
    if backend == "host" or (backend == "auto" and (num_traces < COMPILING_PAYS or not is_traceable(job.model))):
        return None
    if not is_traceable(job.model):
        raise UntraceableModelError(f"JAX cannot trace {job.model!r}: it is in another process. Use backend='host'.")
    from ppl_jax.running.agreement import examine, traced, warn_of  # only here is JAX needed

    try:
        batch_model = traced(job)
    except UntraceableModelError:
        if backend == "jax":
            raise
        return None
    finding = examine(batch_model, job)
    if finding is None:
        return batch_model
    if backend == "auto" and finding.kind in ("precision", "differs"):
        return None
    if finding.kind == "precision":
        warn_of_lost_precision(finding.text, "backend='host'")
    elif finding.kind != "not compared" or backend == "auto":
        warn_of(finding)
    return batch_model if backend == "jax" or finding.kind == "not compared" else None
