"""Empirical: what every engine returns, weighted samples of a posterior.

The samples are traces, or values that were computed from traces by ``map``; statistics need numbers. Every method
returns a new Empirical that shares what it can with the old one.

A known evidence belongs to a number of executions: log_evidence = log(sum of the raw weights / number of executions).
Both are carried through selection and reweighting, so that runs can be pooled afterwards by their raw weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from math import log, nan, sqrt
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ppl_jax.empirical import statistics, summary
from ppl_jax.empirical.convergence import bulk_effective_sample_size, pareto_k, r_hat
from ppl_jax.empirical.monitored import latent_numbers
from ppl_jax.empirical.weights import check_log_weights, log_sum, multinomial, normalised, systematic
from ppl_jax.errors import DegenerateWeightsError, PPLError
from ppl_jax.language.trace import Trace, is_key
from ppl_jax.storage import TraceTable
from ppl_jax.storage.columns import as_column

_WATCHED = 100  # elements of an array of which effective sample sizes are computed


class Empirical(Sequence[Any]):
    """Weighted samples.

    ``posterior[i]`` is a value; a slice, boolean mask or array of integers gives an Empirical (of one chain).

    Args:
      values: a TraceTable, an array with the samples along its first axis (in memory or memory-mapped), or a list; a
        list of numbers, or of numeric arrays of one shape, becomes an array.
      log_weights: natural logarithms of the weights, any common factor, float64 (n,). Default: equal weights.
      log_evidence: natural logarithm of the estimated marginal likelihood, where the engine knows it.
      num_chains: the values are that many Markov chains one after the other, of equal length or the first ones longer
        by one. Default 1.
      num_executions: of how many executions the evidence is the mean raw weight. Default: the number of values.
      families: for each value the number of the independent draw that it descends from, integers (n,), where values
        were copied from each other (by the resampling of SMC, or ``resample``). Default: each is one by itself.
      is_chain: whether the values are steps of Markov chains, which are correlated. Default: ``num_chains > 1``.
      info: what the engine knows of its run: numbers, strings, and lists and dicts of these.

    Raises:
      DegenerateWeightsError: a log weight is NaN or +inf. That all are -inf is found out when a statistic is asked for.
    """

    def __init__(
        self,
        values: TraceTable | np.ndarray | Sequence[Any],
        log_weights: Any = None,
        *,
        log_evidence: float | None = None,
        num_chains: int = 1,
        num_executions: float | None = None,
        families: np.ndarray | None = None,
        is_chain: bool | None = None,
        info: Mapping[str, Any] | None = None,
    ):
        self.values: TraceTable | np.ndarray | list[Any] = (
            values if isinstance(values, (TraceTable, np.ndarray)) else as_column(values)
        )
        self.log_weights = check_log_weights(log_weights, len(values))
        if not 1 <= num_chains <= max(1, len(values)):
            raise PPLError(f"num_chains must be between 1 and the number of values, {len(values)}, got {num_chains}.")
        self.num_chains = num_chains
        self._log_evidence = None if log_evidence is None else float(log_evidence)
        self.num_executions = float(len(values) if num_executions is None else num_executions)
        self.families = None if families is None else np.asarray(families)
        self.is_chain = num_chains > 1 if is_chain is None else is_chain
        self.info: Mapping[str, Any] = MappingProxyType(dict(info or {}))

    def _with(
        self,
        values: Any,
        log_weights: Any,
        log_evidence: float | None,
        num_executions: float,
        num_chains: int = 1,
        chosen: Any = slice(None),
    ) -> Empirical:
        """The samples ``chosen`` of these, with other values or weights."""
        return Empirical(
            values,
            log_weights,
            log_evidence=log_evidence,
            num_chains=num_chains,
            num_executions=num_executions,
            families=None if self.families is None else self.families[chosen],
            is_chain=self.is_chain,
            info=self.info,
        )

    # -- weights ---------------------------------------------------------------------------------------------------

    @cached_property
    def weights(self) -> np.ndarray:
        """Normalised weights, float64 (n,). Raises DegenerateWeightsError if all are zero."""
        weights = normalised(self.log_weights)
        weights.flags.writeable = False
        return weights

    @cached_property
    def effective_sample_size(self) -> float:
        """How many independent samples these are worth.

        Of weighted samples (sum w)^2 / sum w^2 (Kong 1992), where those that descend from one draw (SMC) have the sum
        of their weights. Of Markov chains the bulk effective sample size of rank-normalised halves (Vehtari et al.
        2021): of numbers that of the worst element, of traces that of the worst latent number that all have.
        """
        if not self.is_chain:
            return float(1.0 / np.sum(statistics.family_sums(self.weights, self.families) ** 2))
        found = [bulk_effective_sample_size(chains) for chains in self._monitored()]
        found = [size for size in found if size == size]
        return min(found) if found else float(1.0 / np.sum(self.weights**2))

    @cached_property
    def r_hat(self) -> float:
        """The split R-hat of Markov chains (Vehtari et al. 2021): near 1 where they agree, NaN where there are none.

        Of numbers it is that of the worst element, of traces that of the worst latent number that all have.
        """
        if not self.is_chain:
            return nan
        found = [r_hat(chains) for chains in self._monitored()]
        return max((value for value in found if value == value), default=nan)

    @cached_property
    def pareto_k(self) -> float:
        """The shape of the tail of the weights; above ``min(1 - 1 / log10(n), 0.7)`` no estimate can be trusted.

        NaN of fewer than 25 samples, and of chains. Source: Vehtari et al., "Pareto smoothed importance sampling"
        (2024).
        """
        if self.is_chain:
            return nan
        with np.errstate(divide="ignore"):
            return pareto_k(np.log(statistics.family_sums(self.weights, self.families)))

    def _monitored(self) -> Iterator[list[np.ndarray]]:
        """The chains of every number that is watched: (n,) of each chain."""
        columns = latent_numbers(self.values) if isinstance(self.values, TraceTable) else []
        if isinstance(self.values, np.ndarray) and self.values.dtype.kind in "fiub":
            columns = [self.values]
        slices = self.chain_slices()
        for column in columns:
            flat = np.reshape(column, (len(self), -1))
            for element in range(min(flat.shape[1], _WATCHED)):
                yield [np.asarray(flat[chain, element], dtype=np.float64) for chain in slices]

    @property
    def log_evidence(self) -> float:
        """Natural logarithm of the estimated marginal likelihood. Raises PPLError where the engine gives none."""
        if self._log_evidence is None:
            raise PPLError(
                "This posterior has no estimate of the evidence: prior sampling and MCMC give none. Use importance "
                "sampling (with any proposal) or SMC."
            )
        return self._log_evidence

    @property
    def log_evidence_error(self) -> float:
        """Standard error of ``log_evidence``, which is that of the evidence as a share of it.

        Of SMC it knows of genealogies (Lee and Whiteley, "Variance estimation in the particle filter", 2018). NaN where
        all samples descend from one draw, so that nothing is known. Raises PPLError where there is no evidence.
        """
        self.log_evidence  # noqa: B018 (raises)
        squares = float(np.sum(statistics.family_sums(self.weights, self.families) ** 2))
        number, generations = self.num_executions, 1 + int(self.info.get("resamplings", 0))
        if number <= 1 or squares > 1.0 - 1e-9:
            return nan
        return sqrt(max(0.0, 1.0 - (number / (number - 1.0)) ** generations * (1.0 - squares)))

    @property
    def has_log_evidence(self) -> bool:
        """Whether the engine gave an estimate of the evidence."""
        return self._log_evidence is not None

    # -- statistics ------------------------------------------------------------------------------------------------

    def _of_parts(self, statistic: Callable[[Empirical], Any]) -> Any:
        """A statistic of every part of values that are all dicts of the same keys, or tuples of one length; or None."""
        if not isinstance(self.values, list) or not self.values:
            return None
        first = self.values[0]
        if type(first) is dict and all(type(value) is dict and value.keys() == first.keys() for value in self.values):
            return {key: statistic(self.map(itemgetter(key))) for key in first}
        if isinstance(first, tuple) and all(isinstance(v, tuple) and len(v) == len(first) for v in self.values):
            return tuple(statistic(self.map(itemgetter(k))) for k in range(len(first)))
        return None

    def _numbers(self, statistic: str) -> np.ndarray:
        """The values, if they are real numbers."""
        if isinstance(self.values, np.ndarray) and self.values.dtype.kind in "fiub":
            return self.values
        if isinstance(self.values, TraceTable):
            raise PPLError(
                f"The {statistic} of traces is not defined. Choose a number from each first: "
                f"posterior.map('name') or posterior.map(lambda trace: trace['name']), and then .{statistic}."
            )
        raise PPLError(
            f"The {statistic} needs values that are all real numbers, or arrays of one shape; these are not. Map them "
            "to such numbers first, with .map(function)."
        )

    @property
    def mean(self) -> Any:
        """Weighted mean: a float, or an array of the shape of one value; of dicts or tuples that of each part."""
        parts = self._of_parts(lambda part: part.mean)
        if parts is not None:
            return parts
        return _plain(statistics.weighted_mean(self._numbers("mean"), self.weights))

    @property
    def variance(self) -> Any:
        """Weighted variance, elementwise, sum of w (x - mean)^2 (not bias-corrected)."""
        parts = self._of_parts(lambda part: part.variance)
        if parts is not None:
            return parts
        return _plain(statistics.weighted_variance(self._numbers("variance"), self.weights))

    @property
    def stddev(self) -> Any:
        """Square root of the variance."""
        parts = self._of_parts(lambda part: part.stddev)
        if parts is not None:
            return parts
        return _plain(np.sqrt(statistics.weighted_variance(self._numbers("stddev"), self.weights)))

    @property
    def median(self) -> Any:
        """The quantile at 0.5."""
        parts = self._of_parts(lambda part: part.median)
        if parts is not None:
            return parts
        return _plain(statistics.quantile(self._numbers("median"), self.weights, np.array(0.5)))

    @property
    def mode(self) -> Any:
        """The value of the largest total weight, equal values taken together; the first of several.

        For continuous values this is the sample of the largest weight, not the maximum of a density estimate; where all
        weights are equal and all values differ it is the first.
        """
        if isinstance(self.values, TraceTable):
            keys: np.ndarray = np.asarray(self.values.starts)
        else:
            keys = self.values if isinstance(self.values, np.ndarray) else statistics.keys_of(self.values)
        return _plain(self.values[statistics.heaviest(keys, self.weights)])

    @property
    def standard_error(self) -> Any:
        """Monte Carlo standard error of ``mean``.

        Where the evidence is known the samples are independent, and it is that of self-normalised importance sampling,
        sqrt(sum w^2 (x - mean)^2), in which samples that descend from one draw (by the resampling of SMC, or
        ``resample``) count as one (Lee & Whiteley 2018). Elsewhere they may be correlated, and it comes from their
        autocovariances. NaN where all descend from one draw: nothing is known then.
        """
        parts = self._of_parts(lambda part: part.standard_error)
        if parts is not None:
            return parts
        values = self._numbers("standard_error")
        if self.families is not None and not self.is_chain:
            return _plain(statistics.family_standard_error(values, self.weights, self.families))
        if self.has_log_evidence:
            return _plain(statistics.independent_standard_error(values, self.weights))
        return _plain(statistics.chain_standard_error(values, self.weights, self.chain_slices()))

    def quantile(self, q: Any) -> Any:
        """Weighted quantiles of numbers, elementwise for arrays.

        The k-th smallest value stands at probability w_1 + ... + w_{k-1} + w_k / 2, and the quantile is linear between
        (numpy's ``method="hazen"`` where the weights are equal).

        Args:
          q: probability in [0, 1], or an array of them.

        Returns:
          Float, or array of the shape of ``q`` followed by that of one value.
        """
        probabilities = np.asarray(q, dtype=np.float64)
        if not np.all((probabilities >= 0) & (probabilities <= 1)):
            raise PPLError(f"The probabilities of quantiles must be in [0, 1], got {q!r}.")
        parts = self._of_parts(lambda part: part.quantile(q))
        if parts is not None:
            return parts
        return _plain(statistics.quantile(self._numbers("quantile"), self.weights, probabilities))

    def expectation(self, function: Callable[[Any], Any]) -> Any:
        """Weighted mean of ``function(value)``, a number or an array; samples of weight zero are skipped."""
        _check_function("expectation", function)
        total: Any = 0.0
        for value, weight in zip(self, self.weights.tolist(), strict=True):
            if weight > 0:
                total = total + weight * np.asarray(function(value))
        return _plain(total)

    # -- other values, same weights --------------------------------------------------------------------------------

    def map(self, function: Callable[[Any], Any] | str | tuple[str, int] | list[str]) -> Empirical:
        """The Empirical of ``function(value)``: over an array where the results are numbers of one shape.

        Args:
          function: of a value; or the name of a site of traces, or (name, occurrence), which reads the whole column; or
            a list of names, which gives dicts by name. Statistics of dicts, and of tuples, are those of each part.
        """
        mapped: Any
        if isinstance(function, list):
            columns = [self._column(name) for name in function]
            mapped = [dict(zip(function, row, strict=True)) for row in zip(*columns, strict=True)]
        elif isinstance(function, (str, tuple)):
            mapped = self._column(function)
        else:
            _check_function("map", function, "or the name of a site, ")
            mapped = [function(value) for value in self]
        return self._with(mapped, self.log_weights, self._log_evidence, self.num_executions, self.num_chains)

    def _column(self, key: str | tuple[str, int]) -> Any:
        """The value of a name in every trace."""
        if isinstance(self.values, TraceTable):
            return self.values.column(key)
        if not all(isinstance(value, Trace) for value in self):
            raise PPLError(f"The values are no traces, so there is no site {key!r}. Give a function of the value.")
        return as_column([value[key] for value in self])

    @property
    def results(self) -> Empirical:
        """The Empirical of what the model returned, as ``map(lambda trace: trace.result)`` but read as a column."""
        mapped = self.values.results() if isinstance(self.values, TraceTable) else [value.result for value in self]
        return self._with(mapped, self.log_weights, self._log_evidence, self.num_executions, self.num_chains)

    # -- selections ------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.log_weights)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, (int, np.integer)):
            return self.values[index]
        if is_key(index):
            raise TypeError(
                f"Samples are chosen by number, got {index!r}. Use posterior.map({index!r}) for the values of a site."
            )
        log_weights = self.log_weights[index if isinstance(index, slice) else _indices(len(self), index)]
        share, evidence, total = len(log_weights) / max(1, len(self)), self._log_evidence, log_sum(self.log_weights)
        if evidence is not None and share > 0 and total > -np.inf:
            evidence += log_sum(log_weights) - total - log(share)  # what these samples alone say of it
        return self._with(
            self._take(index), log_weights, evidence, self.num_executions * share, chosen=self._positions(index)
        )

    def _positions(self, index: Any) -> Any:
        """An index as numpy takes it for an array (n,)."""
        return index if isinstance(index, slice) else _indices(len(self), index)

    def _take(self, index: Any) -> Any:
        if isinstance(index, slice) or not isinstance(self.values, list):
            return self.values[index if isinstance(index, slice) else _indices(len(self), index)]
        return [self.values[k] for k in _indices(len(self), index).tolist()]

    def chain_slices(self) -> list[slice]:
        """Where each Markov chain begins and ends."""
        ends = np.cumsum([len(part) for part in np.array_split(np.empty(len(self), bool), self.num_chains)]).tolist()
        return [slice(low, high) for low, high in zip([0, *ends[:-1]], ends, strict=True)]

    @property
    def chains(self) -> Chains:
        """The Markov chains, one Empirical each; ``posterior.chains()`` is the same."""
        return Chains(self[chain] for chain in self.chain_slices())

    def thin(self, step: int) -> Empirical:
        """Every ``step``-th sample of each chain, beginning with the first."""
        if step < 1:
            raise PPLError(f"step must be a positive integer, got {step!r}.")
        index = np.concatenate([np.arange(chain.start, chain.stop, step) for chain in self.chain_slices()])
        thinned = self[index]
        thinned.num_chains = self.num_chains
        return thinned

    def resample(
        self, num_samples: int | None = None, seed: int | None = None, method: str = "systematic"
    ) -> Empirical:
        """Equally weighted samples, drawn with replacement by weight; the evidence is kept.

        Args:
          num_samples: how many. Default: as many as there are.
          seed: integer in [0, 2**64); the same seed gives the same samples. Default: from the operating system.
          method: "systematic" (least variance; copies stand together, in the order of the samples) or "multinomial"
            (independent draws).
        """
        methods = {"systematic": systematic, "multinomial": multinomial}
        count = len(self) if num_samples is None else num_samples
        if method not in methods or count < 0:
            raise PPLError(
                f"resample: num_samples must be 0 or more and method one of {', '.join(methods)}; got {count} and "
                f"{method!r}."
            )
        index = methods[method](self.weights, count, seed)
        resampled = self._with(self._take(index), None, self._log_evidence, count, chosen=index)
        if not self.is_chain and self.families is None:
            resampled.families = index
        return resampled

    def filter(self, predicate: Callable[[Any], Any]) -> Empirical:
        """The samples for which ``predicate(value)`` is true: the posterior given that event.

        The evidence becomes that of the data and the event together: it is multiplied by the share of the weight kept.

        Raises:
          DegenerateWeightsError: no sample of positive weight is left.
        """
        _check_function("filter", predicate)
        return self._keep(np.fromiter((bool(predicate(value)) for value in self), bool, len(self)))

    def condition(self, predicate: Callable[[Any], Any] | None = None, **values: Any) -> Empirical:
        """The traces in which the named sites have exactly the given values, and ``predicate(trace)``, if any, is true.

        A trace without a site of the name is left out. The evidence changes as in :meth:`filter`.

        Raises:
          KeyError: a name occurs in no trace.
          DegenerateWeightsError: no sample of positive weight is left.
        """
        kept = np.ones(len(self), bool)
        for name, value in values.items():
            kept &= self._agrees(name, value)
        if predicate is not None:
            kept &= np.fromiter((k and bool(predicate(v)) for k, v in zip(kept, self, strict=True)), bool, len(self))
        return self._keep(kept)

    def _agrees(self, name: str, value: Any) -> np.ndarray:
        """In which traces the site ``name`` has the given value, bool (n,)."""
        if isinstance(self.values, TraceTable):
            present = self.values.having(name)
        else:
            present = np.fromiter((isinstance(value, Trace) and name in value for value in self), bool, len(self))
        column = (self[present] if present.any() else self)._column(name)
        if isinstance(column, np.ndarray) and column.shape[1:] == np.shape(value):
            equal = np.all(np.reshape(column == np.asarray(value), (len(column), -1)), axis=1)
        else:
            equal = np.array([np.array_equal(found, value) for found in column], dtype=bool)
        present[present] = equal
        return present

    def _keep(self, kept: np.ndarray) -> Empirical:
        log_weights = self.log_weights[kept]
        total, left = log_sum(self.log_weights), log_sum(log_weights)
        if left == -np.inf:
            raise DegenerateWeightsError(
                f"{int(kept.sum())} of {len(self)} samples meet the condition, and none of them has a positive weight. "
                "Take more samples, weaken the condition, or observe it in the model."
            )
        evidence = None if self._log_evidence is None else self._log_evidence + left - total
        return self._with(self._take(kept), log_weights, evidence, self.num_executions, chosen=kept)

    def reweight(self, log_weight: Callable[[Any], float] | np.ndarray) -> Empirical:
        """Multiplies the weights: the posterior of a model whose density differs by that factor.

        Args:
          log_weight: function of a value that gives the natural logarithm of the factor, or an array of them (n,).

        Raises:
          DegenerateWeightsError: a factor is NaN or infinite, or all weights were zero already.
        """
        given = [log_weight(value) for value in self] if callable(log_weight) else log_weight
        factors = check_log_weights(np.asarray(given, dtype=np.float64), len(self))
        log_weights, total = self.log_weights + factors, log_sum(self.log_weights)
        if total == -np.inf:
            raise DegenerateWeightsError(
                f"All {len(self)} weights are zero already, so there is nothing to reweight. Take more samples, or a "
                "wider likelihood."
            )
        evidence = None if self._log_evidence is None else self._log_evidence + log_sum(log_weights) - total
        return self._with(self.values, log_weights, evidence, self.num_executions, self.num_chains)

    # -- pooling, files, export --------------------------------------------------------------------------------------

    @staticmethod
    def combine(posteriors: Iterable[Empirical]) -> Empirical:
        """Pools runs of one model; see :func:`ppl_jax.empirical.pooling.combine`."""
        from ppl_jax.empirical.pooling import combine

        return combine(list(posteriors))

    def save(self, path: str | Path) -> None:
        """Writes a folder that :meth:`load` reads; see :func:`ppl_jax.empirical.files.save_posterior`."""
        from ppl_jax.empirical.files import save_posterior

        save_posterior(self, path)

    @staticmethod
    def load(path: str | Path) -> Empirical:
        """Opens a saved posterior; see :func:`ppl_jax.empirical.files.load_posterior`."""
        from ppl_jax.empirical.files import load_posterior

        return load_posterior(path)

    def to_xarray(self, seed: int | None = None) -> Any:
        """The posterior draws as an xarray.Dataset; see :func:`ppl_jax.empirical.export.to_xarray`."""
        from ppl_jax.empirical.export import to_xarray

        return to_xarray(self, seed)

    def to_arviz(self, seed: int | None = None) -> Any:
        """InferenceData, or with ArviZ 1 and newer a DataTree; see :func:`ppl_jax.empirical.export.to_arviz`."""
        from ppl_jax.empirical.export import to_arviz

        return to_arviz(self, seed)

    def __repr__(self) -> str:
        return summary.one_line(self)

    def _repr_html_(self) -> str:
        return summary.as_html(self)


class Chains(list[Empirical]):
    """The Markov chains of a posterior; called as if it were a method, it gives itself."""

    def __call__(self) -> Chains:
        return self


def _check_function(method: str, function: Any, alternative: str = "") -> None:
    if not callable(function):
        raise TypeError(f"{method} needs a function of a value, {alternative}got {function!r}.")


def _indices(count: int, index: Any) -> np.ndarray:
    """A mask (n,) or list or array of integers, as non-negative integers; IndexError where one is out of range."""
    array = np.asarray(index)
    return np.arange(count)[array.astype(np.int64) if array.size == 0 and array.dtype != bool else array]


def _plain(value: Any) -> Any:
    """A numpy scalar or array without axes as a Python number; anything else as it is."""
    return value.item() if isinstance(value, (np.ndarray, np.generic)) and value.ndim == 0 else value
