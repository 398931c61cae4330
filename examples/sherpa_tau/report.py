"""What was found, in figures: as lines to print, as numbers to keep, and as the page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from comparison import choice_distance, distance, entropy, expected_distance, gelman_rubin, shares
from figures import IC, MH
from inference import CHAINS, Tests
from page import Picture, Section, Table, write_page
from posterior import KINDS, MOMENTUM, Summary

SHOWN = (*MOMENTUM, "visible", "missing", "missing transverse")


@dataclass(frozen=True)
class Comparison:
    """All figures of a run; those of one event are of the event that is shown.

    Attributes:
      events: test events of known truth.
      coverage: momentum component -> share of 90 % credible intervals that cover the truth.
      gain: momentum component, or "vector" (length of the difference) -> mean error of the prior mean over that of the
        posterior mean.
      gain_seen: the same over the events in which most of the energy was seen.
      log_loss, prior_entropy: of the decay channel, nats.
      effective: median effective sample size of a test event; ``test_seconds`` for one.
      marginals: quantity -> truth, mean and standard deviation by each engine, and their Jensen-Shannon distance.
      expected: the distance that samples of these sizes would have if they were of one distribution.
      gelman_rubin: momentum component -> of the Markov chains.
      sizes, seconds: engine -> least effective sample size of the momentum's components; time.
    """

    events: int
    coverage: Mapping[str, float]
    gain: Mapping[str, float]
    gain_seen: Mapping[str, float]
    log_loss: float
    prior_entropy: float
    effective: float
    test_seconds: float
    marginals: Mapping[str, Mapping[str, float]]
    expected: float
    gelman_rubin: Mapping[str, float]
    sizes: Mapping[str, float]
    seconds: Mapping[str, float]

    @property
    def speed(self) -> float:
        """How many times faster inference compilation comes to an effective sample."""
        per_second = {name: self.sizes[name] / self.seconds[name] for name in self.sizes}
        return per_second[IC] / per_second[MH]

    def as_dict(self) -> dict[str, Any]:
        """All figures, for JSON."""
        return asdict(self) | {"speed": self.speed}

    def findings(self) -> list[tuple[str, str, str]]:
        """What was measured: of what, the figure, and what it means."""
        covered, gain = list(self.coverage.values()), self.gain
        apart = {name: row["distance"] for name, row in self.marginals.items()}
        worst = max(apart, key=lambda name: apart[name])
        return [
            (
                "90 % credible intervals of px, py, pz that cover the truth",
                ", ".join(f"{one:.0%}" for one in covered),
                f"right intervals cover 90 %, and {self.events} events tell that to about "
                f"{200 * (0.09 / self.events) ** 0.5:.0f} %; fewer would be overconfident, more too careful",
            ),
            (
                "error of the prior mean over that of the posterior mean: px, py, pz; the vector",
                ", ".join(f"{gain[name]:.1f}" for name in MOMENTUM) + f"; {gain['vector']:.1f}",
                "how much the data tell: 1 is nothing, 10 a tenth of the error. Neutrinos take any part of the energy "
                "along unseen, so that pz stays as it was",
            ),
            (
                "log loss of the decay channel, against the prior's entropy (nats)",
                f"{self.log_loss:.2f} / {self.prior_entropy:.2f}",
                "what is left of not knowing the channel: 0 is certainty, the entropy is knowing nothing",
            ),
            (
                "largest Jensen-Shannon distance of a marginal, Metropolis-Hastings to compilation",
                f"{apart[worst]:.2f} ({worst})",
                f"0 is agreement, 1 the greatest there is; samples of these sizes from one distribution are about "
                f"{self.expected:.2f} apart",
            ),
            (
                "time to an effective sample, Metropolis-Hastings over compilation",
                f"{self.speed:.0f}",
                "how many times faster the network gets there; its training is not counted, and serves every event",
            ),
        ]

    def lines(self) -> list[str]:
        """All figures as lines of text."""
        out = [f"over {self.events} test events (median effective sample size {self.effective:.0f}, "
               f"{self.test_seconds:.2f} s each), and for the event shown:"]  # fmt: skip
        for what, found, meaning in self.findings():
            out.append(f"  {what}: {found}")
            out.append(f"      {meaning}")
        seen = ", ".join(f"{self.gain_seen[name]:.1f}" for name in MOMENTUM)
        out.append(f"  gain where most of the energy was seen: {seen}; vector {self.gain_seen['vector']:.1f}")
        out.append(f"{'':22s}{'truth':>10s}{IC:>24s}{MH:>24s}{'distance':>10s}")
        for name, row in self.marginals.items():
            if name == "channel":
                out.append(f"{'decay channel':22s}{'':58s}{row['distance']:10.3f}")
                continue
            cells = "".join(f"{row[f'{e} mean']:14.2f} ± {row[f'{e} sd']:7.2f}" for e in (IC, MH))
            out.append(f"{name:22s}{row['truth']:10.2f}{cells}{row['distance']:10.3f}")
        out.append(f"  (distance of two samples of these sizes from one distribution: about {self.expected:.2f})")
        rubin = ", ".join(f"{name} {value:.3f}" for name, value in self.gelman_rubin.items())
        out.append(f"  Gelman-Rubin of {CHAINS} chains: {rubin}")
        for name in (IC, MH):
            out.append(f"  {name}: effective sample size {self.sizes[name]:.0f} in {self.seconds[name]:.1f} s")
        return out


def compare(
    prior: Mapping[str, np.ndarray],
    channels: Any,
    truth: Summary,
    posteriors: Mapping[str, Summary],
    tests: Tests,
) -> Comparison:
    """All figures of a run."""
    one, other = posteriors[IC], posteriors[MH]
    marginals: dict[str, dict[str, float]] = {}
    for name in SHOWN:
        row = {"truth": float(truth.values[name][0])}
        for engine, found in posteriors.items():
            mean = found.mean(name)
            variance = found.weights @ (found.values[name] - mean) ** 2
            row |= {f"{engine} mean": mean, f"{engine} sd": float(np.sqrt(variance))}
        row["distance"] = distance(one.values[name], one.weights, other.values[name], other.weights)
        marginals[name] = row
    number = len(channels.names)
    both = [shares(found.channels, found.weights, number) for found in (one, other)]
    marginals["channel"] = {"distance": choice_distance(*both)}
    prior_means = np.array([prior[name].mean() for name in MOMENTUM])
    seen = tests.visible > 0.5 * np.linalg.norm(tests.truths, axis=1)
    return Comparison(
        events=len(tests.truths),
        coverage=dict(zip(MOMENTUM, tests.coverage.tolist(), strict=True)),
        gain=_gain(tests, prior_means, np.ones(len(seen), bool)),
        gain_seen=_gain(tests, prior_means, seen),
        log_loss=float(tests.log_losses.mean()),
        prior_entropy=entropy(channels.ratios),
        effective=float(np.median(tests.effective)),
        test_seconds=tests.seconds / len(tests.truths),
        marginals=marginals,
        expected=expected_distance(one.least_effective, other.least_effective),
        gelman_rubin={name: gelman_rubin(other.chain_values(name)) for name in MOMENTUM},
        sizes={name: found.least_effective for name, found in posteriors.items()},
        seconds={name: found.seconds for name, found in posteriors.items()},
    )


def _gain(tests: Tests, prior_means: np.ndarray, which: np.ndarray) -> dict[str, float]:
    after, before = tests.errors(prior_means, which)
    true = tests.truths[which]
    lengths = [np.linalg.norm(guess - true, axis=1).mean() for guess in (prior_means, tests.means[which])]
    ratios = dict(zip(MOMENTUM, (before / after).tolist(), strict=True))
    return ratios | {"vector": float(lengths[0] / lengths[1])}


def describe(truth: Summary, names: Sequence[str]) -> str:
    """One event in words."""
    momentum = ", ".join(f"{truth.values[name][0]:.1f}" for name in MOMENTUM)
    energies = ", ".join(f"{kind} {truth.values[kind][0]:.1f} GeV" for kind in KINDS if truth.values[kind][0] > 0.0)
    return f"{names[int(truth.channels[0])]}, tau momentum ({momentum}) GeV, {energies or 'nothing visible'}"


def page(
    output: Path, found: Comparison, seconds: Mapping[str, float], event: str, settings: Mapping[str, Any]
) -> None:
    """Writes ``index.html`` with all pictures of the folder."""
    generator = settings["generator"]
    marginals = [
        (
            name,
            *(f"{row[key]:.2f}" if key in row else "" for key in ("truth", *_columns(IC), *_columns(MH))),
            f"{row['distance']:.3f}",
        )
        for name, row in found.marginals.items()
    ]
    engines = [(name, f"{found.sizes[name]:.0f}", f"{found.seconds[name]:.1f}") for name in (IC, MH)]
    rubin = [(name, f"{value:.3f}") for name, value in found.gelman_rubin.items()]
    seen = ", ".join(f"{name} {value:.1f}" for name, value in found.gain_seen.items())
    sections = [
        Section(
            "The event",
            [
                f"What happened, which no engine was told: {event}.",
                "The data are the energies in the voxels, with noise. Below them, what the two posteriors predict: the "
                "mean energy that their decays leave, without noise. All pictures of a column have one scale.",
            ],
            [Picture(output / "calorimeter.png", "The calorimeter: three projections; sums along the third axis.")],
        ),
        Section(
            "What made it",
            ["The same data, explained by two engines that have nothing in common but the simulator."],
            [
                Picture(output / "momentum.png", "The momentum of the tau lepton."),
                Picture(output / "channels.png", "The decay channel; the true one in bold, with its branching ratio."),
                Picture(output / "energies.png", "Energies of final-state particles by kind, and what was not seen."),
                Table(
                    "Posterior means and standard deviations (GeV), and Jensen-Shannon distance of the marginals "
                    f"(about {found.expected:.2f} is expected of samples of these sizes from one distribution)",
                    ["", "truth", "compilation: mean", "s.d.", "Metropolis-Hastings: mean", "s.d.", "distance"],
                    marginals,
                ),
            ],
        ),
        Section(
            "The engines",
            [
                f"Inference compilation came to an effective sample {found.speed:.0f} times faster than "
                "Metropolis-Hastings, training not counted: it is done once for all events.",
            ],
            [
                Table("", ["engine", "effective sample size of the momentum", "seconds"], engines),
                Table("Gelman-Rubin statistic of the Markov chains", ["", "split R-hat"], rubin),
                Picture(output / "chains.png", "The Markov chains after burn-in."),
                Picture(output / "training.png", "The training of the network."),
            ],
        ),
        Section(
            f"Over {found.events} events",
            [
                "Events that the network never saw, each inferred by inference compilation. Neutrinos, and with them "
                "much of the energy, leave nothing in the calorimeter, nor do muons: of their events hardly more is "
                "known afterwards than before.",
                f"Gain in the error of the mean over events in which most of the energy was seen: {seen}.",
            ],
            [
                Picture(output / "coverage.png", "Posterior means and 90 % credible intervals against the truth."),
                Table("What was found, and what it means", ["", "found", "what it means"], found.findings()),
            ],
        ),
        Section(
            "This run",
            [],
            [
                Table("Wall times", ["", "seconds"], [(name, f"{value:.0f}") for name, value in seconds.items()]),
                Table("Settings", ["", ""], [(name, str(value)) for name, value in settings.items()]),
            ],
        ),
    ]
    introduction = [
        f"The event generator {generator} decays tau leptons; its random numbers are taken over, so that every one of "
        "them is a latent variable of a probabilistic program. A tau lepton with a momentum that nobody knows decays "
        "in a channel that nobody knows, and a calorimeter measures what comes out. All of it is inferred from the "
        "image.",
    ]
    write_page(output / "index.html", f"What made this shower? {generator}, inverted", introduction, sections)


def _columns(engine: str) -> tuple[str, str]:
    return f"{engine} mean", f"{engine} sd"
