"""Simulation-based calibration: is an inference right on average over everything the model can produce?

The model is run forward many times; each time the data that it produced are given to the inference, and the true value
of each quantity is ranked among draws from the posterior. If the posteriors are right, the ranks are uniform, and
intervals of every level cover the truth as often as they say. An overconfident inference piles ranks up at both ends,
a biased one at one end (Talts et al., "Validating Bayesian inference algorithms with simulation-based calibration",
2018).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ppl_jax.empirical import Empirical
from ppl_jax.errors import InterruptedRunWarning, ObservationError, PPLError
from ppl_jax.infer import prior
from ppl_jax.language.handlers import Handler, Messenger
from ppl_jax.language.site import FACTOR, OBSERVE, Site
from ppl_jax.language.trace import Trace
from ppl_jax.running.checks import callers_level, check_count
from ppl_jax.running.progress import Progress
from ppl_jax.shown import element_name, html_text
from ppl_jax.streams import Stream, check_seed, derive_seed

LEVELS = (0.5, 0.8, 0.9, 0.95)
_SIMULATIONS, _INFERENCES, _DRAWS, _TIES = range(4)  # labels of seeds

Infer = Callable[[dict[str, Any], int], Empirical]
Quantity = Callable[[Trace], Any]


@dataclass(frozen=True)
class Calibration:
    """What :func:`calibration` found.

    Attributes:
      ranks: for each quantity, float64 (num_simulations,): the randomised rank of the truth among the posterior's
        draws, uniform on (0, 1) if the posteriors are right.
      effective_sample_sizes: of the posteriors, float64 (num_simulations,).
      num_draws: posterior draws among which the truth was ranked.
    """

    ranks: Mapping[str, np.ndarray]
    effective_sample_sizes: np.ndarray
    num_draws: int

    @property
    def p_values(self) -> dict[str, float]:
        """For each quantity, the p-value of uniform ranks; small means miscalibrated.

        Two Kolmogorov-Smirnov tests, of the ranks, which sees bias, and of their distances from the middle, which sees
        posteriors that are too narrow or too wide; twice the smaller of their p-values.
        """
        return {name: _uniformity(ranks) for name, ranks in self.ranks.items()}

    def coverage(self, level: float) -> dict[str, float]:
        """For each quantity, how often the central credible interval of this level held the truth."""
        if not 0.0 < level < 1.0:
            raise ValueError(f"level must be in (0, 1), got {level!r}.")
        return {name: float(np.mean(np.abs(ranks - 0.5) <= 0.5 * level)) for name, ranks in self.ranks.items()}

    def passes(self, significance: float = 0.01) -> bool:
        """Whether no quantity's ranks contradict uniformity, at this significance for all quantities together."""
        return min(self.p_values.values()) >= significance / len(self.ranks)

    def __str__(self) -> str:
        """A table: p-value, mean rank and coverage of each quantity, and the effective sample sizes."""
        number = len(self.effective_sample_sizes)
        low, middle, high = np.quantile(self.effective_sample_sizes, [0.05, 0.5, 0.95])
        error = 0.5 / np.sqrt(number)
        wanted = [self.coverage(level) for level in LEVELS]
        width = max(8, *(len(name) for name in self.ranks))
        heads = "".join(f"{f'{level:.0%}':>8s}" for level in LEVELS)
        lines = [f"{'quantity':{width}s}{'p-value':>10s}{'mean rank':>11s}{heads}   (covered at this level)"]
        for name, p_value in self.p_values.items():
            covered = "".join(f"{f'{coverage[name]:.1%}':>8s}" for coverage in wanted)
            lines.append(f"{name:{width}s}{p_value:10.3g}{float(np.mean(self.ranks[name])):11.3f}{covered}")
        lines.append(
            f"{number} simulations, {self.num_draws} draws each; coverage has a standard error of at most {error:.1%}; "
            f"effective sample size {middle:.0f} (5 % to 95 %: {low:.0f} to {high:.0f})"
        )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return html_text(str(self))


def calibration(
    model: Callable[[], Any],
    infer: Infer,
    quantities: Iterable[str] | Mapping[str, Quantity],
    *,
    num_simulations: int = 200,
    num_draws: int = 100,
    seed: int | None = None,
    progress: bool = True,
) -> Calibration:
    """Ranks the truth in the posteriors of data that the model itself produced.

    >>> ppl.diagnostics.calibration(
    ...     model, lambda data, seed: ppl.importance_sampling(model, data, 1000, seed=seed, progress=False), ["mu"])

    Args:
      model: a callable without arguments whose observes have different names; a value that it gives to an observe is
        replaced by a simulated one.
      infer: function of (observations, seed) that returns the posterior.
      quantities: names of sites, or name -> function of a trace, each giving a number or an array, of which every
        element becomes a quantity of its own ("x[0]", "x[1]", ...).
      num_simulations: how many data sets are simulated and inferred.
      num_draws: draws from each posterior; they should be fewer than its effective sample size, because copies of a
        few traces do not rank well.
      seed: integer in [0, 2**64); None for a fresh one.
      progress: whether to show a progress bar.

    Returns:
      Calibration. On Ctrl-C, of the simulations inferred so far, with an InterruptedRunWarning.

    Raises:
      What ``infer`` raises; ``finished`` of a PPLError is the Calibration of the simulations before.
      ObservationError: an observe has no name, or shares it with another.
      PPLError: the model has a factor, from which nothing can be simulated, or no observe.
    """
    check_count("num_simulations", num_simulations, 2)
    check_count("num_draws", num_draws)
    chosen = _functions(quantities)
    seed = check_seed(seed)
    simulations = prior(
        _Simulated(model), num_simulations, seed=derive_seed(seed, _SIMULATIONS), backend="host", progress=False
    )
    ties = Stream(derive_seed(seed, _TIES))
    ranks: list[dict[str, float]] = []
    sizes: list[float] = []
    number = 0
    with Progress(num_simulations, "simulation", progress) as bar:
        try:
            for number, truth in enumerate(simulations):
                posterior = _whole(infer, _data(truth), derive_seed(seed, _INFERENCES, number))
                draws = posterior.resample(num_draws, derive_seed(seed, _DRAWS, number))
                found: dict[str, float] = {}
                for name, function in chosen.items():
                    found |= _ranks(name, function(truth), [function(draw) for draw in draws], ties)
                size = posterior.effective_sample_size
                ranks.append(found)
                sizes.append(size)
                bar.advance(1, f"ESS {size:.0f}")
        except (KeyboardInterrupt, InterruptedRunWarning):
            if len(ranks) < 2:
                raise KeyboardInterrupt from None
            warnings.warn(
                f"Interrupted: returning the calibration of the {len(ranks)} simulations that were inferred.",
                InterruptedRunWarning,
                stacklevel=callers_level(),
            )
        except PPLError as error:
            error.add_note(f"This was simulation {number} of {num_simulations}, with seed={seed}.")
            if error.finished is None or isinstance(error.finished, Empirical):
                error.finished = _concluded(ranks, sizes, num_draws) if len(ranks) > 1 else None
            raise
    return _concluded(ranks, sizes, num_draws)


def _whole(infer: Infer, data: dict[str, Any], seed: int) -> Empirical:
    """The posterior. An engine that is interrupted returns what it has, which must not be taken for its posterior.

    Raises:
      InterruptedRunWarning: it was interrupted.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", InterruptedRunWarning)
        return infer(data, seed)


def _concluded(ranks: list[dict[str, float]], sizes: list[float], num_draws: int) -> Calibration:
    names = ranks[0].keys()
    if any(found.keys() != names for found in ranks):
        raise PPLError("A quantity changed its shape between traces. Choose numbers or arrays of one shape.")
    return Calibration({name: np.array([r[name] for r in ranks]) for name in names}, np.array(sizes), num_draws)


def _uniformity(ranks: np.ndarray) -> float:
    from scipy import stats  # takes half a second to import

    tests = (stats.kstest(ranks, "uniform"), stats.kstest(np.abs(2.0 * ranks - 1.0), "uniform"))
    return min(1.0, 2.0 * min(float(test.pvalue) for test in tests))


def _functions(quantities: Iterable[str] | Mapping[str, Quantity]) -> dict[str, Quantity]:
    if isinstance(quantities, str):
        quantities = [quantities]
    if not isinstance(quantities, Mapping):
        quantities = {name: lambda trace, name=name: trace[name] for name in quantities}
    if not quantities:
        raise ValueError("quantities must name at least one site or function of a trace.")
    return dict(quantities)


class _SimulateMessenger(Messenger):
    """Takes away the values that a model gives to its observes, so that the engine draws them."""

    __slots__ = ("met",)

    def __init__(self) -> None:
        self.met: set[str] = set()

    def process(self, site: Site) -> None:
        if site.kind == FACTOR:
            raise PPLError(
                f"The model has a factor ({site.name or site.address}), from which no data can be simulated. State it "
                "as an observe of a value with a distribution."
            )
        if site.kind == OBSERVE:
            if site.name is None or site.name in self.met:
                problem = "it has no name" if site.name is None else "another observe has the same name"
                problem += ", so that simulated data cannot be given to the inference."
                raise ObservationError(site, problem, "Name each differently.")
            self.met.add(site.name)
            site.value = None


class _Simulated(Handler):
    def messenger(self) -> _SimulateMessenger:
        return _SimulateMessenger()


def _data(simulation: Trace) -> dict[str, Any]:
    """The simulated data of a trace, by name."""
    data = {site.name: site.value for site in simulation.sites if site.kind == OBSERVE and site.name is not None}
    if not data:
        raise PPLError("The model observes nothing, so there is nothing to infer from. Name what it observes.")
    return data


def _ranks(name: str, truth: Any, draws: list[Any], ties: Stream) -> dict[str, float]:
    """(rank + u) / (n + 1) for each element; equal values are ranked at random, so that counts are uniform too."""
    true, sampled = np.asarray(truth, dtype=np.float64), np.array(draws, dtype=np.float64)
    if sampled.shape[1:] != true.shape:
        raise PPLError(
            f"'{name}' has shape {true.shape} in the simulation and {sampled.shape[1:]} in the posterior. Choose "
            "numbers, or arrays of one shape."
        )
    below, equal = np.sum(sampled < true, axis=0), np.sum(sampled == true, axis=0)
    labels = [name] if true.shape == () else [element_name(name, at) for at in np.ndindex(true.shape)]
    count = len(draws) + 1
    return {
        label: (int(low) + (int(same) + 1) * ties.random()) / count
        for label, low, same in zip(labels, below.ravel(), equal.ravel(), strict=True)
    }
