"""The two engines, and how inference compilation does over many events of known truth."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from comparison import log_loss, shares, weighted_quantiles
from posterior import MOMENTUM, Summary, summarise

import ppl_jax as ppl

CHAINS = 4


def compiled(simulator: Any, network: Any, image: np.ndarray, traces: int, seed: int, progress: bool = True) -> Summary:
    """The posterior by inference compilation: decays proposed by the network, weighted."""
    start = time.perf_counter()
    data = {"calorimeter": image}
    posterior = ppl.importance_sampling(simulator, data, traces, proposal=network, seed=seed, progress=progress)
    return summarise(posterior, time.perf_counter() - start, seed)


def metropolis(simulator: Any, image: np.ndarray, steps: int, seed: int) -> Summary:
    """The posterior by random-walk Metropolis-Hastings: chains that start at decays drawn from the prior.

    Args:
      simulator: the model.
      image: the observed calorimeter, (depth, height, width), GeV.
      steps: of all chains together; a fifth of them is burn-in.
      seed: of the chains.
    """
    start = time.perf_counter()
    kept = min(CHAINS * 1000, steps // 5)
    thinning = max(1, 4 * steps // 5 // kept)
    burn_in = steps // 5 // CHAINS
    posterior = ppl.metropolis_hastings(
        simulator, {"calorimeter": image}, kept, num_chains=CHAINS, burn_in=burn_in, thinning=thinning, seed=seed
    )
    return summarise(posterior, time.perf_counter() - start, seed)


@dataclass(frozen=True)
class Tests:
    """Posteriors of many events of known truth.

    Attributes:
      truths, means: (events, 3), GeV.
      intervals: of 90 %, (events, 3, 2), GeV.
      log_losses: of the decay channel, nats, (events,).
      effective: effective sample sizes, (events,).
      visible: true energy of all visible particles, GeV, (events,).
      seconds: in all.
    """

    truths: np.ndarray
    means: np.ndarray
    intervals: np.ndarray
    log_losses: np.ndarray
    effective: np.ndarray
    visible: np.ndarray
    seconds: float

    @property
    def coverage(self) -> np.ndarray:
        """How often the intervals cover the truth, (3,)."""
        low, high = self.intervals[..., 0], self.intervals[..., 1]
        return ((low <= self.truths) & (self.truths <= high)).mean(axis=0)

    def errors(self, prior_means: np.ndarray, which: Any = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Mean absolute errors of posterior means and prior means, (3,) each, GeV, over some of the events."""
        true = self.truths[which]
        return np.abs(self.means[which] - true).mean(axis=0), np.abs(prior_means - true).mean(axis=0)


def test(
    simulator: Any,
    network: Any,
    events: Iterable[tuple[np.ndarray, Summary]],
    traces: int,
    ratios: np.ndarray,
    seed: int,
) -> Tests:
    """Infers every event by inference compilation; says how far it is.

    Args:
      simulator: the model.
      network: proposes.
      events: image and truth of each.
      traces: executions per event.
      ratios: prior probabilities of the channels.
      seed: of the first event's executions; the next ones have the next.
    """
    start = time.perf_counter()
    rows = []
    for number, (image, truth) in enumerate(events):
        found = compiled(simulator, network, image, traces, seed + number, progress=False)
        intervals = [weighted_quantiles(found.values[name], found.weights, np.array([0.05, 0.95])) for name in MOMENTUM]
        kong = 1.0 / float(np.sum(found.weights**2))
        chosen = shares(found.channels, found.weights, len(ratios))
        rows.append(
            (
                [truth.values[name][0] for name in MOMENTUM],
                [found.mean(name) for name in MOMENTUM],
                intervals,
                log_loss(chosen, ratios, kong, int(truth.channels[0])),
                kong,
                truth.values["visible"][0],
            )
        )
        if (number + 1) % 10 == 0:
            effective = np.median([row[4] for row in rows])
            seconds = time.perf_counter() - start
            print(f"  {number + 1} events, {seconds:.0f} s, median effective sample size {effective:.0f}", flush=True)
    return Tests(*(np.array(column) for column in zip(*rows, strict=True)), time.perf_counter() - start)
