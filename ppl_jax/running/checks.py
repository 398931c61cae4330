"""What all engines share: checking their arguments, keeping finished traces, and judging the outcome."""

from __future__ import annotations

import inspect
import reprlib
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ppl_jax.distributions.base import LARGEST, is_tracer
from ppl_jax.distributions.numbers import as_numbers
from ppl_jax.empirical import Empirical
from ppl_jax.empirical.convergence import pareto_limit
from ppl_jax.errors import (
    DegenerateWeightsError,
    InterruptedRunWarning,
    PPLError,
    UnknownObservationError,
    UnreliablePosteriorWarning,
    describe_site,
)
from ppl_jax.interop.numpyro import adapt
from ppl_jax.language.addresses import is_own
from ppl_jax.language.site import FACTOR, TAG, Site
from ppl_jax.storage import TraceTable, TraceWriter

LOOK_EARLY = 100  # executions after which a name that was never met is worth a warning
_JUDGED = 100  # traces from which a posterior is judged: fewer are a first look
_STEP = 0.01  # between neighbouring log weights, from which on their differences mean nothing
_FEW = 10.0  # effective samples, under which even the errors are not known
_R_HAT = 1.05  # above it chains disagree by more than chance; Vehtari et al. (2021) ask for 1.01
INSPECTED = 100  # traces looked at to say which site made all weights zero


def check_count(name: str, value: Any, least: int = 1) -> int:
    """``value`` as an int of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")
    return int(value)


def check_exponent(likelihood_importance: float) -> float:
    """``likelihood_importance`` if it is an exponent to temper by."""
    if not 0.0 <= likelihood_importance < np.inf:
        raise ValueError(f"likelihood_importance must be finite and not negative, got {likelihood_importance!r}.")
    return likelihood_importance


def check_model(model: Any) -> Callable[[], Any]:
    """``model`` if it can be called; one of numpyro's as one of ours."""
    if not callable(model):
        raise TypeError(f"model must be callable without arguments, got {model!r}. Bind arguments with a lambda.")
    if any(
        is_lazy(model)
        for is_lazy in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    ):
        raise TypeError(
            f"model must do its work when it is called, but {model!r} is a coroutine or generator function. Run it to "
            "its end in a function: lambda: list(model()), or lambda: asyncio.run(model())."
        )
    try:
        signature = inspect.signature(model)
    except (TypeError, ValueError):  # some of C have none
        return adapt(model)
    try:
        signature.bind()
    except TypeError as error:
        raise TypeError(
            f"model must be callable without arguments, but {model!r} has {signature} ({error}). Bind its arguments: "
            "functools.partial(model, ...)."
        ) from None
    return adapt(model)


def check_observations(observations: Mapping[str, Any] | None) -> dict[str, Any]:
    """Observations as Python numbers and float64 arrays, so that this is done once and not in every execution.

    Raises:
      TypeError: not a mapping from names to values.
      ValueError: a value is not numeric.
    """
    if observations is None:
        return {}
    if not isinstance(observations, Mapping) or not all(isinstance(name, str) for name in observations):
        raise TypeError(f"observations must map names to values, for example {{'y': 2.0}}; got {observations!r}.")
    return {name: _numeric(name, value) for name, value in observations.items()}


def _numeric(name: str, value: Any) -> Any:
    if type(value) is float or is_tracer(value) or (type(value) is int and -LARGEST <= value <= LARGEST):
        return value
    try:
        array = as_numbers(value)
    except (TypeError, OverflowError) as error:
        shown = reprlib.repr(value)
        raise ValueError(f"observations['{name}'] must be a number or a numeric array: {shown} {error}.") from None
    return array.item() if array.ndim == 0 else array


def gather(
    produce: Callable[[TraceWriter], None], writer: TraceWriter, conclude: Callable[[TraceWriter], Empirical]
) -> Empirical:
    """Runs ``produce(writer)`` and concludes with what it wrote, also when it is interrupted or fails.

    Ctrl-C returns the finished traces with an InterruptedRunWarning; an error carries them as ``finished``.
    """
    try:
        produce(writer)
    except KeyboardInterrupt:
        if len(writer) == 0:
            raise
        warn_of_interruption(len(writer))
    except PPLError as error:
        if error.finished is None and len(writer):
            error.finished = _concluded(writer, conclude)
        raise
    return conclude(writer)


def warn_of_interruption(finished: int) -> None:
    """Warns that a run that was ended by Ctrl-C returns less than it was to."""
    warnings.warn(
        f"Interrupted: returning the {finished} traces that were finished.",
        InterruptedRunWarning,
        stacklevel=callers_level(),
    )


def _concluded(writer: TraceWriter, conclude: Callable[[TraceWriter], Empirical]) -> Any:
    try:
        return conclude(writer)
    except PPLError as error:  # what is wrong with the finished part matters less than what stopped the run
        return error.finished


def callers_level() -> int:
    """The ``stacklevel`` with which a warning names the line that called this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and is_own(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    return level


def names_met(table: TraceTable) -> set[str]:
    """Names of the sites that occur in the table, tags and factors apart."""
    layouts = table.layouts
    return {site.name for layout in layouts for site in layout.sites if site.name and site.kind not in (TAG, FACTOR)}


def check_names(observations: Mapping[str, Any], met: set[str], num_traces: int, finished: Empirical) -> None:
    """Raises UnknownObservationError if observations were given that no trace asked for."""
    unknown = set(observations) - met
    if unknown:
        error = UnknownObservationError(unknown, met, num_traces)
        error.finished = finished
        raise error


def warn_of_unmet_names(observations: Mapping[str, Any], sites: list[set[str]]) -> None:
    """Warns, early in a run, of observations whose names no execution has met yet."""
    met = set().union(*sites)
    for name in sorted(set(observations) - met):
        warnings.warn(
            f"No site named '{name}' was met in the first {len(sites)} traces; the names met are {sorted(met)}. "
            "If it does not turn up, the run ends in an UnknownObservationError.",
            UserWarning,
            stacklevel=callers_level(),
        )


def warn_if_unreliable(posterior: Empirical) -> None:
    """Warns where samples cannot carry an estimate: a few weigh all, chains do not agree, weights lose their digits."""
    for text in (_coarse(posterior), _unreliable(posterior) if len(posterior) >= _JUDGED else None):
        if text:
            warnings.warn(text, UnreliablePosteriorWarning, stacklevel=callers_level())


def _coarse(posterior: Empirical) -> str | None:
    """Whether the weight of the best trace is so large a number that what less extreme data say is lost in it."""
    if len(posterior) == 0:
        return None
    best = posterior[len(posterior) - 1 if posterior.is_chain else int(np.argmax(posterior.log_weights))]
    terms = [(abs(site.log_prob), site) for site in best.sites if site.observed]
    total = sum(size for size, _ in terms if size < np.inf)
    if not np.spacing(total) > _STEP:
        return None
    _, site = max((term for term in terms if term[0] < np.inf), key=lambda term: term[0])
    return (
        f"The log weights are of the order of {total:.1g}, where numbers of float64 are {np.spacing(total):.2g} apart: "
        f"what other data say is lost. Most of it comes from the {describe_site(site)}, whose datum is all but "
        f"impossible even in the best trace (log density {site.log_prob:.3g}). Check that datum, or widen its "
        "distribution."
    )


def _unreliable(posterior: Empirical) -> str | None:
    number, size = len(posterior), posterior.effective_sample_size
    if posterior.is_chain:
        apart = posterior.num_chains > 1 and posterior.r_hat > _R_HAT
        if size >= _FEW and not apart:
            return None
        r_hat = f" and R-hat is {posterior.r_hat:.2f} (1 where chains agree)" if posterior.num_chains > 1 else ""
        return (
            f"The chains have not converged: of their {number} traces the worst latent has {size:.1f} effective values"
            f"{r_hat}. Run longer, with more burn_in, another kernel, or a network as proposal."
        )
    if posterior.families is not None and size < _FEW:
        first = len(np.unique(np.asarray(posterior.families)[posterior.weights > 0]))
        return (
            f"The {number} particles descend from {first} first ones, which are worth {size:.1f} independent samples: "
            "what is drawn early is hardly known, and neither are the errors. Use more particles, or another engine "
            "for what is drawn before the first observe."
        )
    if size >= _FEW and not posterior.pareto_k > pareto_limit(number):
        return None
    return (
        f"The weights are too uneven to trust: {number} traces are worth {size:.1f}, the heaviest has "
        f"{posterior.weights.max():.0%} of all weight (Pareto k {posterior.pareto_k:.2f}, at most "
        f"{pareto_limit(number):.2f} is reliable), so that means and their errors can be far off. Use more traces, a "
        "proposal nearer to the data (a trained network, prior_inflation), or metropolis_hastings."
    )


def warn_of_lost_precision(lost: str, remedy: str) -> None:
    """Warns that JAX computes too roughly: ``lost`` says where (see :mod:`ppl_jax.running.precision`)."""
    warnings.warn(
        f"JAX's {_float_name()} will not do for this model: {lost}. Set jax.config.update('jax_enable_x64', True), use "
        f"{remedy}, or write the model in variables of order 1 (subtract what is large and known).",
        RuntimeWarning,
        stacklevel=callers_level(),
    )


def _float_name() -> str:
    import jax.numpy as jnp  # who warns uses JAX already

    return jnp.result_type(float).name


def check_weights(table: TraceTable, log_weights: np.ndarray, finished: Any = None) -> None:
    """Raises DegenerateWeightsError, naming the sites to blame, if all weights are zero or one is NaN or infinite."""
    if len(log_weights) == 0:
        return
    broken = np.flatnonzero(np.isnan(log_weights) | (log_weights == np.inf))
    if broken.size:
        site = next((s for s in table[int(broken[0])].sites if not s.log_prob < np.inf), None)
        place = describe_site(site) if site is not None else "no single site"
        error = DegenerateWeightsError(
            f"{broken.size} of {len(log_weights)} importance weights are NaN or infinite; in trace {broken[0]} it "
            f"comes from {place} ({_density(site)}). Check the distribution's parameters there."
        )
    elif np.all(log_weights == -np.inf):
        error = DegenerateWeightsError(
            f"All {len(log_weights)} importance weights are zero. {blame(table)} Check the observed values, widen the "
            "prior or the likelihood, or use more traces."
        )
    else:
        return
    error.finished = finished
    raise error


def _density(site: Site | None) -> str:
    return f"log density {site.log_prob} of {site.value!r} under {site.distribution!r}" if site else "weights cancel"


def blame(table: TraceTable) -> str:
    """Which sites have density zero in the first traces, and one example."""
    blamed: Counter[str] = Counter()
    example = ""
    number = min(INSPECTED, len(table))
    for trace in table[:number]:
        site = next((site for site in trace.sites if site.log_prob == -np.inf), None)
        if site is not None:
            blamed[describe_site(site)] += 1
            example = example or f"for example {site.value!r} under {site.distribution!r}"
    counts = ", ".join(f"{place} in {count}" for place, count in blamed.most_common(3))
    return f"Of {number} traces looked at, density zero was met at: {counts} ({example})." if counts else ""
