"""What a posterior says of one decay, as plain arrays: the traces, with an image in each, need not be kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import ppl_jax as ppl

MOMENTUM = ("px", "py", "pz")
# Kinds of final-state particles, by the PDG numbers that each comprises.
KINDS = {
    "electron": (11,),
    "muon": (13,),
    "charged hadrons": (211, 321, 213, 2212),
    "photons and neutral pions": (22, 111),
    "other neutral hadrons": (130, 310, 311, 221, 2112),
}
UNSEEN = (12, 13, 14, 16)  # neutrinos and muons leave nothing in the calorimeter
LABELS = {
    "px": "momentum of the tau, $p_x$ (GeV)",
    "py": "momentum of the tau, $p_y$ (GeV)",
    "pz": "momentum of the tau, $p_z$ (GeV)",
    "leading": "energy of the leading visible particle (GeV)",
    "visible": "energy of all visible particles (GeV)",
    "missing": "missing energy (GeV)",
    "missing transverse": "missing transverse momentum (GeV)",
}
IMAGES = 400  # traces of which the images are averaged


@dataclass(frozen=True)
class Summary:
    """A posterior, or with one sample of weight 1 the truth.

    Attributes:
      values: quantity (keys of LABELS and KINDS) -> float64 (n,), in GeV.
      channels: number of the decay channel, int64 (n,).
      weights: float64 (n,), of sum 1.
      image: mean energy deposited in each voxel, (depth, height, width), GeV.
      effective: momentum component -> how many independent samples its mean is worth.
      seconds: that the inference took.
      chains: how many Markov chains the samples are; 1 where they are independent.
    """

    values: Mapping[str, np.ndarray]
    channels: np.ndarray
    weights: np.ndarray
    image: np.ndarray
    effective: Mapping[str, float]
    seconds: float
    chains: int = 1

    @property
    def least_effective(self) -> float:
        """The effective sample size of the momentum component that has the smallest."""
        return min(self.effective.values())

    def mean(self, quantity: str) -> float:
        """Posterior mean."""
        return float(self.weights @ self.values[quantity])

    def chain_values(self, quantity: str) -> np.ndarray:
        """Values chain by chain, (chains, length); chains are cut to the length of the shortest."""
        length = len(self.weights) // self.chains
        parts = np.array_split(self.values[quantity], self.chains)
        return np.stack([part[:length] for part in parts])


def summarise(posterior: ppl.Empirical, seconds: float, seed: int) -> Summary:
    """The summary of what an engine returned.

    Args:
      posterior: traces of the simulator.
      seconds: that it took.
      seed: of the choice of traces for the mean image.
    """
    marginals = [posterior.map(name) for name in MOMENTUM]
    return Summary(
        quantities(posterior),
        np.asarray(posterior.map("channel").values, np.int64),
        posterior.weights,
        mean_image(posterior, seed),
        {name: worth(marginal) for name, marginal in zip(MOMENTUM, marginals, strict=True)},
        seconds,
        posterior.num_chains,
    )


def truth_of(trace: Any) -> Summary:
    """A simulated event, of which everything is known."""
    one = ppl.Empirical([trace])
    channel = np.array([trace["channel"]], np.int64)
    image = _deposits(trace)
    return Summary(quantities(one), channel, np.ones(1), image, dict.fromkeys(MOMENTUM, 1.0), 0.0)


def quantities(posterior: ppl.Empirical) -> dict[str, np.ndarray]:
    """Quantity -> values of all traces, float64 (n,), in GeV."""
    values = {name: np.asarray(posterior.map(name).values, np.float64) for name in MOMENTUM}
    particles = np.asarray(posterior.map("particles").values, np.float64)  # (n, 8, 5): PDG number, px, py, pz, E
    missing = np.asarray(posterior.map("missing").values, np.float64)  # (n, 4): px, py, pz, E
    numbers, energies = np.abs(particles[..., 0]).astype(np.int64), particles[..., 4]
    for kind, members in KINDS.items():
        values[kind] = np.where(np.isin(numbers, members), energies, 0.0).sum(axis=1)
    seen = np.where(np.isin(numbers, UNSEEN), 0.0, energies)
    values["leading"], values["visible"] = seen.max(axis=1), seen.sum(axis=1)
    values["missing"], values["missing transverse"] = missing[:, 3], np.hypot(missing[:, 0], missing[:, 1])
    return values


def worth(marginal: ppl.Empirical) -> float:
    """How many independent samples would know the mean as well: variance over squared standard error.

    It counts what weights cost and what correlation costs, so that samples of all engines can be compared. A few heavy
    samples do not know their own error, so that it is never more than weights alone leave.
    """
    error = float(marginal.standard_error)
    found = float(marginal.variance) / error**2 if error > 0.0 else 1.0
    return min(found, marginal.effective_sample_size)


def mean_image(posterior: ppl.Empirical, seed: int) -> np.ndarray:
    """The mean energy in each voxel without noise: what the posterior predicts, (depth, height, width), GeV."""
    drawn = posterior.resample(min(IMAGES, len(posterior)), seed)
    return np.mean([_deposits(trace) for trace in drawn], axis=0)


def _deposits(trace: Any) -> np.ndarray:
    site = next(site for site in trace.sites if site.name == "calorimeter")
    return np.asarray(site.distribution.loc, np.float64)
