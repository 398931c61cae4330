"""An epidemic, inverted: from weekly reported cases to how it began, when it was slowed down, and how many it reached.

    python examples/demo.py [--traces 60000] [--output build/demo]

The simulator is a chain-binomial (Reed-Frost) epidemic in a town of 5,000: every week each susceptible person escapes
infection by each infectious one independently, until nobody is infectious. In some week people change their behaviour
and the reproduction number drops. What we see are five counts of reported cases, a fraction of the infections, with 20
% of error. Three engines explain the same reports: importance sampling, sequential Monte Carlo, and random-walk
Metropolis-Hastings, the reference. One simulated epidemic, whose truth is known, plays the part of the data. The
pictures show the reports with what the posterior says about the infections behind them, and the posterior of every
quantity beside prior and truth.
"""

import argparse
import time
from pathlib import Path

import matplotlib
import numpy as np

import ppl_jax as ppl
import ppl_jax.distributions as dist

matplotlib.use("Agg")
from matplotlib import pyplot as plt

PEOPLE = 5000
WEEKS = 14
ENDS = (3, 5, 7, 9, 13)  # the last week of each reporting period
TRUTH = {"reproduction": 2.4, "slowed": 6, "reduction": 0.6, "imported": 4, "reported": 0.35}
QUANTITIES = {
    "reproduction": "reproduction number at the start",
    "reduction": "reduction of transmission",
    "slowed": "week in which people changed their behaviour",
    "infected": "people infected in all (thousands)",
}


def epidemic() -> list[int]:
    """The simulator: plain Python whose draws are named. Returns the infections of each week."""
    reproduction = ppl.sample(dist.LogNormal(np.log(2.0), 0.4), name="reproduction")
    slowed = ppl.sample(dist.Categorical(np.full(WEEKS, 1.0 / WEEKS)), name="slowed")
    reduction = ppl.sample(dist.Beta(2.0, 2.0), name="reduction")
    reported = ppl.sample(dist.Beta(4.0, 6.0), name="reported")
    infectious = ppl.sample(dist.Poisson(4.0), name="imported")
    susceptible, infections, since_report = PEOPLE, [], 0
    for week in range(WEEKS):
        infections.append(infectious)
        since_report += infectious
        if week in ENDS:
            expected = reported * since_report
            ppl.observe(dist.Normal(expected, 0.2 * expected + 5.0), name=f"reports until week {week}")
            since_report = 0
        if infectious:  # an epidemic that has died out draws no more
            number = reproduction * (1.0 - reduction if week >= slowed else 1.0)
            escape = (1.0 - min(number / PEOPLE, 1.0)) ** infectious
            # A nuisance: Metropolis-Hastings moves the five quantities above and lets the infections fall as they may.
            infectious = ppl.sample(dist.Binomial(susceptible, 1.0 - escape), control=False)
            susceptible -= infectious
    ppl.tag(sum(infections) / 1000.0, name="infected")
    return infections


def make_data() -> tuple[dict[str, float], list[int], float]:
    """Reports of one epidemic that ran with the true parameters, the infections behind them, and their sum."""
    run = ppl.prior(epidemic, 1, observations=TRUTH, seed=3, progress=False)[0]
    names = [f"reports until week {week}" for week in ENDS]
    return {name: round(run[name]) for name in names}, run.result, run["infected"]


def infer(data: dict[str, float], num_traces: int) -> dict[str, ppl.Empirical]:
    """The posterior by each engine."""
    engines = {
        "importance sampling": lambda: ppl.importance_sampling(epidemic, data, num_traces, num_workers=2, seed=1),
        "sequential Monte Carlo": lambda: ppl.smc(epidemic, data, num_traces // 4, seed=1),
        "Metropolis-Hastings": lambda: ppl.metropolis_hastings(
            epidemic, data, num_traces // 4, num_chains=4, burn_in=num_traces // 20, thinning=4, num_workers=2, seed=1
        ),
    }
    posteriors = {}
    for name, engine in engines.items():
        print(f"{name}:", flush=True)
        start = time.perf_counter()
        posteriors[name] = engine()
        print(f"  {time.perf_counter() - start:.1f} s")
    return posteriors


def report(posteriors: dict[str, ppl.Empirical], truth: dict[str, float]) -> None:
    """Prints mean and standard deviation of every quantity by every engine."""
    print(f"\n{'quantity':48s}{'truth':>8s}" + "".join(f"{name:>26s}" for name in posteriors))
    for key, label in QUANTITIES.items():
        marginals = [posterior.map(key) for posterior in posteriors.values()]
        cells = "".join(f"{marginal.mean:16.3f} ± {marginal.stddev:7.3f}" for marginal in marginals)
        print(f"{label:48s}{truth[key]:8.3f}{cells}")
    for name, posterior in posteriors.items():
        if name != "Metropolis-Hastings":
            ess, evidence = posterior.effective_sample_size, posterior.log_evidence
            print(f"{name}: effective sample size {ess:,.0f} of {len(posterior):,}, log evidence {evidence:.2f}")


def draw_curves(path: Path, data: dict[str, float], infections: list[int], posterior: ppl.Empirical) -> None:
    """Reports per week, and the infections behind them: truth and 90 % credible band."""
    curves = np.array([trace.result for trace in posterior.resample(2000, seed=2)])
    low, middle, high = np.quantile(curves, [0.05, 0.5, 0.95], axis=0)
    weeks = np.arange(len(infections))
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.fill_between(weeks, low, high, color="0.8", label="infections: 90 % credible band")
    axes.plot(weeks, middle, "k--", label="infections: posterior median")
    axes.plot(weeks, infections, "ko", markerfacecolor="white", label="infections: truth (not seen)")
    begins = np.array((0, *(week + 1 for week in ENDS[:-1])))
    lengths = np.array(ENDS) + 1 - begins
    heights = np.array(list(data.values())) / lengths
    axes.bar(
        begins - 0.5, heights, lengths, align="edge", color="none", edgecolor="0.2", hatch="///",
        label="reported cases (the data), per week",
    )  # fmt: skip
    axes.set(xlabel="week", ylabel="people per week", title="What the reports say about the epidemic")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_marginals(path: Path, prior: ppl.Empirical, posteriors: dict[str, ppl.Empirical], truth: dict) -> None:
    """Posterior of each quantity by each engine, with the prior and the truth."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    styles = dict(zip(posteriors, ["-", "--", ":"], strict=True))
    for panel, (key, label) in zip(axes.flat, QUANTITIES.items(), strict=True):
        before = np.asarray(prior.map(key).values, dtype=float)
        if key == "slowed":
            edges = np.arange(before.max() + 2) - 0.5
        else:
            edges = np.linspace(0.0, max(np.quantile(before, 0.99), 1.2 * truth[key]), 40)
        panel.hist(before, edges, density=True, color="0.85", label="prior")
        for name, posterior in posteriors.items():
            values = np.asarray(posterior.map(key).values, dtype=float)
            weights = posterior.weights
            panel.hist(
                values, edges, weights=weights, density=True, histtype="step", color="k", linestyle=styles[name],
                linewidth=1.5, label=name,
            )  # fmt: skip
        panel.axvline(truth[key], color="k", linewidth=4, alpha=0.3, label="truth")
        panel.set(xlabel=label, ylabel="probability density")
    axes[0, 0].legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Command line: see ``--help``."""
    parser = argparse.ArgumentParser(description="Infers a simulated epidemic from its weekly reports.")
    parser.add_argument("--traces", type=int, default=60_000, help="executions for importance sampling")
    parser.add_argument("--output", type=Path, default=Path("build/demo"), help="folder for the pictures")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    data, infections, infected = make_data()
    truth = {**TRUTH, "infected": infected}
    print("the data:", ", ".join(f"{count:.0f} {name}" for name, count in data.items()))
    prior = ppl.prior(epidemic, 5000, seed=5, progress=False)
    posteriors = infer(data, arguments.traces)
    report(posteriors, truth)
    curves, marginals = arguments.output / "epidemic.png", arguments.output / "posterior.png"
    draw_curves(curves, data, infections, posteriors["Metropolis-Hastings"])
    draw_marginals(marginals, prior, posteriors, truth)
    print(f"\npictures: {curves} (the epidemic), {marginals} (every quantity, engine by engine)")


if __name__ == "__main__":
    main()
