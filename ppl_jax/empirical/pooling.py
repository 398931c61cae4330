"""Pooling runs of one model into one posterior."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any

import numpy as np

from ppl_jax.empirical.empirical import Empirical
from ppl_jax.empirical.weights import log_sum, normalised
from ppl_jax.errors import PPLError
from ppl_jax.storage import TraceTable, TraceWriter


def combine(posteriors: Sequence[Empirical]) -> Empirical:
    """All samples of several runs, in the order given.

    Runs that know the evidence (importance sampling, SMC) are pooled by their raw weights, as if they were one run; the
    evidence is the mean of the raw weights over all executions. A run that was resampled, filtered or rescaled takes
    part with the raw weights that its evidence and number of executions imply. Runs that do not (MCMC) each have the
    same say per sample, and their chains become chains of the result.

    Args:
      posteriors: runs whose values are all traces, all numbers of one shape, or all lists.

    Raises:
      PPLError: none was given, some know the evidence and some do not, values are of different sorts, or the
        chains differ in length by more than one.
    """
    posteriors = [posterior for posterior in posteriors if len(posterior)]
    if not posteriors:
        raise PPLError("combine needs at least one posterior with samples.")
    known = {posterior.has_log_evidence for posterior in posteriors}
    if len(known) > 1:
        raise PPLError(
            "Runs with an estimate of the evidence and runs without (MCMC, prior) have weights on different scales and "
            "cannot be pooled. Combine those of one sort."
        )
    if known == {True}:
        return _pool_weighted(posteriors)
    lengths = [len(chain) for posterior in posteriors for chain in posterior.chains]
    if lengths != sorted(lengths, reverse=True) or lengths[0] - lengths[-1] > 1:
        raise PPLError(
            f"The chains to pool have the lengths {lengths}; they must be equal (or the first ones longer by one). Cut "
            "the longer ones, for example combine([run[:1000] for run in runs])."
        )
    log_weights = [np.log(len(p)) + _log(normalised(p.log_weights)) for p in posteriors]
    return Empirical(
        _join([p.values for p in posteriors]),
        np.concatenate(log_weights),
        num_chains=len(lengths),
        is_chain=any(p.is_chain for p in posteriors),
    )


def _pool_weighted(posteriors: Sequence[Empirical]) -> Empirical:
    live = [p for p in posteriors if log_sum(p.log_weights) > -np.inf]  # one without weight has no scale
    scales = {id(p): p.log_evidence + log(p.num_executions) - log_sum(p.log_weights) for p in live}
    log_weights = np.concatenate([p.log_weights + scales.get(id(p), 0.0) for p in posteriors])
    executions = sum(p.num_executions for p in posteriors)
    evidence = log_sum(log_weights) - log(executions)
    return Empirical(
        _join([p.values for p in posteriors]),
        log_weights,
        log_evidence=evidence,
        num_executions=executions,
        families=_join_families(posteriors),
        info={"resamplings": max(p.info.get("resamplings", 0) for p in posteriors)},
    )


def _join_families(posteriors: Sequence[Empirical]) -> np.ndarray | None:
    """The families of several runs, which are strangers to each other; None where all samples are."""
    if all(p.families is None for p in posteriors):
        return None
    parts, first = [], 0
    for posterior in posteriors:
        families = np.arange(len(posterior)) if posterior.families is None else np.asarray(posterior.families)
        parts.append(np.unique(families, return_inverse=True)[1] + first)
        first += len(posterior)
    return np.concatenate(parts)


def _log(weights: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(weights)


def _join(parts: Sequence[Any]) -> Any:
    """The values of several runs one after the other."""
    if all(isinstance(part, TraceTable) for part in parts):
        writer = TraceWriter()
        for part in parts:
            writer.extend(part, np.zeros(len(part)))
        return writer.finish()[0]
    if all(isinstance(part, np.ndarray) for part in parts) and len({part.shape[1:] for part in parts}) == 1:
        return np.concatenate(parts)
    if all(isinstance(part, list) for part in parts):
        return [value for part in parts for value in part]
    raise PPLError(
        "The values to pool must be all traces, all numbers of one shape, or all lists; they are "
        f"{', '.join(sorted({type(part).__name__ for part in parts}))}. Map them to the same quantity first."
    )
