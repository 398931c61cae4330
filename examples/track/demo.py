"""A particle detector, inverted: from eight noisy hits to what made them and what happened on the way.

    python examples/track/demo.py [--traces 500000] [--steps 20000] [--training 60000] [--output build/demo]

The simulator is the C++ program ``track.cpp``: a charged particle flies through eight planes in a magnetic field, is
scattered in each, and in some radiates a photon, whose energy comes from a rejection loop. It runs in processes of its
own; its random draws are taken over through PPX. One simulated event, whose truth is known, plays the part of the data.
Three engines explain its hits independently: importance sampling, for which the simulator draws by itself and sends
whole traces; random-walk Metropolis-Hastings, for which it replays a trace with one value changed; and inference
compilation, for which a network that was trained on the simulator's traces proposes every draw. The pictures show the
event with the tracks that may have made it, and the posterior of every quantity beside prior and truth.
"""

import argparse
import time
from pathlib import Path

import matplotlib
import numpy as np

import ppl_jax as ppl

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SIMULATOR = Path(__file__).resolve().parents[2] / "build" / "examples" / "track"
PLANES = np.arange(1, 9) * 0.15  # m along the detector, as in track.cpp
RESOLUTION = 6.0  # mm, as in track.cpp
TRUTH = {"momentum": 2.4, "positive": 1, "angle": 0.02, **{f"radiates in plane {n}": int(n == 3) for n in range(8)}}
EVENT = 58  # the seed of what TRUTH leaves open: scattering, noise, and the energy of the photon
QUANTITIES = {
    "momentum": "momentum at the start (GeV/c)",
    "positive": "charge (0: negative, 1: positive)",
    "angle": "angle at the start (rad)",
    "radiated": "energy radiated as photons (GeV)",
}
STYLES = {"importance sampling": "-", "Metropolis-Hastings": "--", "inference compilation": ":"}
GUIDED = 2000  # executions that the network guides


def make_event(simulator: ppl.RemoteModel) -> tuple[dict[str, float], ppl.Trace]:
    """The hits of one event that happened with the true values, in mm, and the whole event."""
    event = ppl.prior(simulator, 1, observations=TRUTH, seed=EVENT, progress=False)[0]
    return {f"hit {plane}": round(event[f"hit {plane}"], 1) for plane in range(len(PLANES))}, event


def infer(
    simulator: ppl.RemoteModel, data: dict[str, float], traces: int, steps: int, training: int
) -> dict[str, ppl.Empirical]:
    """The posterior by each engine."""
    print("training a network:", flush=True)
    start = time.perf_counter()
    network = ppl.train(simulator, training, core="feedforward", seed=6)
    print(f"  {time.perf_counter() - start:.1f} s, once for all events", flush=True)
    engines = {
        "importance sampling": lambda: ppl.importance_sampling(simulator, data, traces, seed=1),
        "Metropolis-Hastings": lambda: ppl.metropolis_hastings(
            simulator, data, steps, num_chains=4, burn_in=steps // 8, thinning=2, seed=2
        ),
        "inference compilation": lambda: ppl.importance_sampling(simulator, data, GUIDED, proposal=network, seed=3),
    }
    posteriors = {}
    for name, engine in engines.items():
        print(f"{name}:", flush=True)
        start = time.perf_counter()
        posteriors[name] = engine()
        print(f"  {time.perf_counter() - start:.1f} s", flush=True)
    return posteriors


def report(posteriors: dict[str, ppl.Empirical], event: ppl.Trace) -> None:
    """Prints mean, standard deviation and Monte Carlo error of every quantity by every engine, beside the truth."""
    print(f"\n{'':34s}{'truth':>8s}" + "".join(f"{name + ' (± s.e.)':>38s}" for name in posteriors))
    for key, label in QUANTITIES.items():
        marginals = [posterior.map(key) for posterior in posteriors.values()]
        cells = "".join(f"{m.mean:14.3f}, sd {m.stddev:.3f} (± {m.standard_error:.3f})".rjust(38) for m in marginals)
        print(f"{label:34s}{event[key]:8.3f}{cells}")
    for name in ("importance sampling", "inference compilation"):
        sampled = posteriors[name]
        print(
            f"{name}: effective sample size {sampled.effective_sample_size:,.0f} of {len(sampled):,}, "
            f"log evidence {sampled.log_evidence:.3f}"
        )
    chains = [chain.map("momentum") for chain in posteriors["Metropolis-Hastings"].chains]
    print(f"Metropolis-Hastings: Gelman-Rubin statistic of the momentum {gelman_rubin(chains):.3f}")


def gelman_rubin(chains: list[ppl.Empirical]) -> float:
    """Potential scale reduction (Gelman & Rubin 1992): near 1 where the chains agree."""
    within = np.mean([chain.variance for chain in chains])
    between = np.var([chain.mean for chain in chains], ddof=1)
    return float(np.sqrt(1.0 + between / within))


def draw_event(path: Path, data: dict[str, float], event: ppl.Trace, posterior: ppl.Empirical) -> None:
    """The hits, the true track, and the tracks that may have made them."""
    tracks = np.array([trace.result for trace in posterior.resample(2000, seed=3)])
    low, middle, high = np.quantile(tracks, [0.05, 0.5, 0.95], axis=0)
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axes.fill_between(PLANES, low, high, color="0.8", label="track: 90 % credible band")
    axes.plot(PLANES, middle, "k--", label="track: posterior median")
    axes.plot(PLANES, event.result, "k-", linewidth=1, label="track: truth (not seen)")
    axes.errorbar(PLANES, list(data.values()), RESOLUTION, fmt="ks", capsize=3, label="hits (the data), ± 1 s.d.")
    for number, plane in enumerate(np.flatnonzero(emissions(event))):
        label = "a photon was radiated here (not seen)" if number == 0 else None
        axes.axvline(PLANES[plane], color="k", linestyle=":", label=label)
    axes.set(xlabel="position along the detector (m)", ylabel="deflection (mm)", title="What may have made the hits")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def emissions(event: ppl.Trace) -> np.ndarray:
    """Whether a photon was radiated in each plane, (planes,)."""
    return np.array([event[f"radiates in plane {plane}"] for plane in range(len(PLANES))])


def draw_marginals(path: Path, prior: ppl.Empirical, posteriors: dict[str, ppl.Empirical], event: ppl.Trace) -> None:
    """Posterior of each quantity by each engine, with the prior and the truth."""
    figure, axes = plt.subplots(2, 3, figsize=(13, 7), layout="constrained")
    for panel, (key, label) in zip(axes.flat, QUANTITIES.items(), strict=False):
        before = np.asarray(prior.map(key).values, dtype=float)
        low, high = np.quantile(before, [0.001, 0.999])
        edges = np.array([-0.5, 0.5, 1.5]) if key == "positive" else np.linspace(low, high, 40)
        panel.hist(before, edges, density=True, color="0.85", label="prior")
        for name, posterior in posteriors.items():
            values = np.asarray(posterior.map(key).values, dtype=float)
            panel.hist(
                values, edges, weights=posterior.weights, density=True, histtype="step", color="k",
                linestyle=STYLES[name], linewidth=1.5, label=name,
            )  # fmt: skip
        panel.axvline(event[key], color="k", linewidth=4, alpha=0.3, label="truth")
        panel.set(xlabel=label, ylabel="probability density")
    axes[0, 1].set_xticks([0, 1])
    draw_emissions(axes[1, 1], posteriors, event)
    axes[1, 2].axis("off")  # five panels, and the legend of all
    axes[1, 2].legend(*axes[0, 0].get_legend_handles_labels(), loc="center")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_emissions(panel: plt.Axes, posteriors: dict[str, ppl.Empirical], event: ppl.Trace) -> None:
    """In which plane a photon was radiated: probability by each engine, and the truth."""
    planes = np.arange(len(PLANES))
    for name, posterior in posteriors.items():
        probabilities = [posterior.map(f"radiates in plane {plane}").mean for plane in planes]
        panel.step(planes, probabilities, "k", linestyle=STYLES[name], where="mid", label=name)
    for plane in np.flatnonzero(emissions(event)):
        panel.axvline(plane, color="k", linewidth=4, alpha=0.3)
    panel.set(xlabel="plane", ylabel="probability that it radiated there", ylim=(0, 1))


def main() -> None:
    """Command line: see ``--help``."""
    parser = argparse.ArgumentParser(description="Infers a particle's track from the hits that it left in a detector.")
    parser.add_argument("--traces", type=int, default=500_000, help="executions for importance sampling")
    parser.add_argument("--steps", type=int, default=20_000, help="traces that Metropolis-Hastings keeps")
    parser.add_argument("--training", type=int, default=60_000, help="traces that the network is trained on")
    parser.add_argument("--output", type=Path, default=Path("build/demo"), help="folder for the pictures")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    with ppl.RemoteModel(command=[str(SIMULATOR), "{endpoint}"], num_processes=8) as simulator:
        data, event = make_event(simulator)
        print("the data:", ", ".join(f"{name} at {position} mm" for name, position in data.items()))
        prior = ppl.prior(simulator, 50_000, seed=5, progress=False)
        posteriors = infer(simulator, data, arguments.traces, arguments.steps, arguments.training)
    report(posteriors, event)
    pictures = arguments.output / "event.png", arguments.output / "posterior.png"
    draw_event(pictures[0], data, event, posteriors["importance sampling"])
    draw_marginals(pictures[1], prior, posteriors, event)
    print(f"\npictures: {pictures[0]} (the event), {pictures[1]} (every quantity, engine by engine)")


if __name__ == "__main__":
    main()
