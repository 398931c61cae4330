"""The pictures of the demo, for black and white print: what tells things apart is line style, hatch and grey."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from comparison import weighted_quantiles
from posterior import KINDS, LABELS, MOMENTUM, Summary

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

IC, MH = "inference compilation", "Metropolis-Hastings"
LINES = {IC: "-", MH: "--"}
BARS = {IC: {"color": "0.45"}, MH: {"color": "white", "edgecolor": "black", "hatch": "////"}}
PROJECTIONS = {  # title: (axis summed over, label across, label upwards)
    "front": (0, "x (voxels)", "y (voxels)"),
    "from above": (1, "x (voxels)", "depth (voxels)"),
    "from the side": (2, "y (voxels)", "depth (voxels)"),
}
MOST_CHANNELS = 10
BINS = 30  # of densities


def draw_calorimeter(path: Path, observed: np.ndarray, truth: Summary, posteriors: Mapping[str, Summary]) -> None:
    """The data, what truly was deposited, and what the posteriors predict; three projections of each, in grey."""
    rows = {"observed, with noise": observed, "truth, without noise (not seen)": truth.image}
    rows |= {f"predicted by {name}": posterior.image for name, posterior in posteriors.items()}
    figure, axes = plt.subplots(len(rows), 3, figsize=(11, 3.1 * len(rows)), layout="constrained")
    for column, (title, (summed, across, upwards)) in enumerate(PROJECTIONS.items()):
        sums = [image.sum(axis=summed) for image in rows.values()]
        top = max(total.max() for total in sums)
        for row, (name, total) in enumerate(zip(rows, sums, strict=True)):
            panel = axes[row, column]
            shown = panel.imshow(total, cmap="Greys", origin="lower", vmin=0.0, vmax=top, aspect="auto")
            panel.set(xlabel=across, ylabel=upwards, title=f"{name}\n{title}" if column == 0 else title)
            panel.yaxis.set_major_locator(MaxNLocator(6, integer=True))
        figure.colorbar(shown, ax=axes[:, column], location="bottom", shrink=0.9, pad=0.02, label="energy (GeV)")
    _save(figure, path)


def draw_momentum(
    path: Path, prior: Mapping[str, np.ndarray], truth: Summary, posteriors: Mapping[str, Summary]
) -> None:
    """Posterior densities of the components of the momentum, with prior and truth."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    for panel, name in zip(axes, MOMENTUM, strict=True):
        _densities(panel, name, prior, truth, posteriors)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    _save(figure, path)


def draw_energies(
    path: Path, prior: Mapping[str, np.ndarray], truth: Summary, posteriors: Mapping[str, Summary]
) -> None:
    """Energies of the final-state particles by kind, and what the detector saw and missed."""
    figure, axes = plt.subplots(2, 2, figsize=(13, 8.5), layout="constrained")
    _intervals(axes[0, 0], truth, posteriors)
    for panel, name in zip(axes.flat[1:], ("leading", "missing", "missing transverse"), strict=True):
        _densities(panel, name, prior, truth, posteriors)
    figure.legend(*axes[0, 1].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    _save(figure, path)


def draw_channels(
    path: Path, names: Sequence[str], prior: np.ndarray, truth: int, found: Mapping[str, np.ndarray]
) -> None:
    """Probabilities of the decay channels.

    Args:
      path: of the picture.
      names: of the channels.
      prior: branching ratios, (channels,).
      truth: the channel that was.
      found: engine -> probabilities, (channels,).
    """
    most = np.max([prior, *found.values()], axis=0)
    chosen = [k for k in np.argsort(-most, kind="stable")[:MOST_CHANNELS].tolist() if k != truth]
    chosen = sorted([truth, *chosen[: MOST_CHANNELS - 1]], key=lambda k: -prior[k])
    rest = [k for k in range(len(names)) if k not in chosen]
    places = np.arange(len(chosen) + 1)
    bars = {"prior (branching ratio)": (prior, {"color": "white", "edgecolor": "black"})}
    bars |= {name: (shares, BARS[name]) for name, shares in found.items()}
    height = 0.8 / len(bars)
    figure, panel = plt.subplots(figsize=(10, 0.5 * len(places) + 1.2), layout="constrained")
    for number, (label, (shares, style)) in enumerate(bars.items()):
        widths = [*shares[chosen], shares[rest].sum()]
        panel.barh(places + (number - 0.5 * (len(bars) - 1)) * height, widths, height, label=label, **style)
    labels = [f"{names[k]}  ◀ truth" if k == truth else names[k] for k in chosen]
    panel.set_yticks(places, [*labels, f"{len(rest)} others"])
    panel.get_yticklabels()[chosen.index(truth)].set_fontweight("bold")
    panel.invert_yaxis()
    panel.set(xlabel="probability", xlim=(0, None))
    panel.legend(loc="lower right")
    _save(figure, path)


def draw_coverage(
    path: Path, truths: np.ndarray, intervals: np.ndarray, means: np.ndarray, prior_means: Sequence[float]
) -> None:
    """Posterior intervals of many test events against the truth.

    Args:
      path: of the picture.
      truths: (events, 3), GeV.
      intervals: low and high ends of 90 % credible intervals, (events, 3, 2), GeV.
      means: posterior means, (events, 3), GeV.
      prior_means: of the three components, GeV.
    """
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.6), layout="constrained")
    for number, (panel, name) in enumerate(zip(axes, MOMENTUM, strict=True)):
        true, mean = truths[:, number], means[:, number]
        low, high = intervals[:, number].T
        inside = (low <= true) & (true <= high)
        for mask, marker, label in ((inside, "o", "covers the truth"), (~inside, "x", "does not")):
            ends = np.abs(np.stack([low, high]) - mean)[:, mask]
            face = {"markerfacecolor": "white"} if marker == "o" else {"markersize": 8}
            panel.errorbar(
                true[mask], mean[mask], ends, fmt=marker, color="black", ecolor="0.7", elinewidth=1, label=label, **face
            )
        ends = [true.min(), true.max()]
        panel.plot(ends, ends, "k-", linewidth=1, label="posterior mean = truth")
        panel.axhline(prior_means[number], color="k", linestyle=":", label="prior mean")
        panel.set(xlabel=f"true {_short(name)} (GeV)", ylabel=f"{_short(name)}: posterior mean, 90 % interval (GeV)")
        panel.set_title(f"{inside.mean():.0%} of {len(true)} intervals cover the truth")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    _save(figure, path)


def draw_training(path: Path, history: Sequence[tuple[int, float, float]]) -> None:
    """The loss while the network learned."""
    traces, loss, held_out = np.array(history).T
    width = max(1, len(loss) // 100)
    smooth = np.convolve(loss, np.full(width, 1.0 / width), mode="valid")
    seen = np.isfinite(held_out)
    figure, panel = plt.subplots(figsize=(8, 4), layout="constrained")
    panel.plot(traces[width - 1 :], smooth, color="0.6", label=f"training, mean of {width} steps")
    panel.plot(traces[seen], held_out[seen], "ko-", label="events held out")
    panel.set(xlabel="traces that the network has seen", ylabel="loss (nats; 0 is the prior)")
    panel.legend()
    _save(figure, path)


def draw_chains(path: Path, truth: Summary, posterior: Summary) -> None:
    """The paths of the Markov chains through the momentum."""
    figure, axes = plt.subplots(3, 1, figsize=(11, 7), layout="constrained", sharex=True)
    styles = ("-", "--", ":", "-.")
    for panel, name in zip(axes, MOMENTUM, strict=True):
        for number, chain in enumerate(posterior.chain_values(name)):
            grey = f"{0.15 * number:.2f}"
            panel.plot(chain, styles[number % 4], color=grey, linewidth=0.8, label=f"chain {number + 1}")
        panel.axhline(truth.values[name][0], color="k", linewidth=4, alpha=0.3, label="truth")
        panel.set(ylabel=f"{_short(name)} (GeV)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    axes[-1].set(xlabel="traces kept")
    _save(figure, path)


# -- parts of figures --------------------------------------------------------------------------------------------------


def _densities(
    panel: plt.Axes, name: str, prior: Mapping[str, np.ndarray], truth: Summary, posteriors: Mapping[str, Summary]
) -> None:
    """Densities of one quantity, where the posteriors are: of a narrow one the picture has a part of the prior only."""
    before, true = prior[name], float(truth.values[name][0])
    whole = np.quantile(before, [0.002, 0.998])
    ends = [weighted_quantiles(one.values[name], one.weights, np.array([0.005, 0.995])) for one in posteriors.values()]
    low, high = min(true, *(end[0] for end in ends)), max(true, *(end[1] for end in ends))
    margin = 0.5 * (high - low)
    low, high = min(low, max(low - margin, whole[0])), max(high, min(high + margin, whole[1]))
    panel.stairs(*np.histogram(before, BINS, density=True), fill=True, color="0.85", label="prior")
    edges = np.linspace(low, high, BINS + 1)
    for engine, posterior in posteriors.items():
        shares, _ = np.histogram(posterior.values[name], edges, weights=posterior.weights)
        style = {"color": "k", "linestyle": LINES[engine], "linewidth": 1.5}
        panel.stairs(shares / np.diff(edges), edges, baseline=None, label=engine, **style)
    panel.axvline(true, color="k", linewidth=4, alpha=0.3, label="truth")
    panel.set(xlabel=LABELS[name], ylabel="probability density (1/GeV)", xlim=(low, high))


def _intervals(panel: plt.Axes, truth: Summary, posteriors: Mapping[str, Summary]) -> None:
    """Median, central half and central 90 % of the energy in each kind of particle."""
    names = [*KINDS, "visible"]
    places = np.arange(len(names))
    for number, (engine, posterior) in enumerate(posteriors.items()):
        shift = (number - 0.5 * (len(posteriors) - 1)) * 0.3
        for place, name in zip(places, names, strict=True):
            quantiles = weighted_quantiles(
                posterior.values[name], posterior.weights, np.array([0.05, 0.25, 0.5, 0.75, 0.95])
            )
            label = engine if place == 0 else None
            panel.plot(quantiles[[0, -1]], [place + shift] * 2, "k", linestyle=LINES[engine], linewidth=1)
            panel.barh(place + shift, quantiles[3] - quantiles[1], 0.24, quantiles[1], label=label, **BARS[engine])
            panel.plot(quantiles[2], place + shift, "k|", markersize=10)
    true = [truth.values[name][0] for name in names]
    panel.plot(true, places, "k*", markersize=11, markerfacecolor="white", label="truth")
    panel.set_yticks(places, [*KINDS, "all visible particles"])
    panel.invert_yaxis()
    panel.set(xlabel="energy (GeV): median, central half, central 90 %")
    panel.legend(fontsize="small")


def _short(name: str) -> str:
    return f"$p_{name[1]}$"


def _save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, dpi=110)
    plt.close(figure)
