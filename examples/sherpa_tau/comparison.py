"""Numbers by which posteriors are judged: against the truth, against each other, chain against chain.

Everything here takes plain arrays and knows nothing of simulators.
"""

import numpy as np
from scipy.spatial.distance import jensenshannon

BINS = 12  # of the histograms that are compared


def weighted_quantiles(values: np.ndarray, weights: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Quantiles of weighted values: a line through the sorted values at the middle of their steps of weight.

    Args:
      values: (n,).
      weights: (n,), of sum 1.
      probabilities: (k,), in [0, 1].

    Returns:
      float64 (k,).
    """
    used = weights > 0.0
    order = np.argsort(values[used], kind="stable")
    steps = weights[used][order]
    return np.interp(probabilities, np.cumsum(steps) - 0.5 * steps, values[used][order])


def covers(values: np.ndarray, weights: np.ndarray, truth: float, level: float = 0.9) -> bool:
    """Whether the central credible interval of a level holds the truth."""
    low, high = weighted_quantiles(values, weights, np.array([0.5 - 0.5 * level, 0.5 + 0.5 * level]))
    return bool(low <= truth <= high)


def shares(choices: np.ndarray, weights: np.ndarray, number: int) -> np.ndarray:
    """The weight of each of ``number`` categories, float64 (number,); choices int (n,)."""
    return np.bincount(choices, weights=weights, minlength=number)


def log_loss(posterior: np.ndarray, prior: np.ndarray, effective: float, truth: int) -> float:
    """- log probability of the true category (nats).

    A category that none of a few samples has is not impossible: the prior counts as one sample more.

    Args:
      posterior, prior: probabilities of the categories, (k,).
      effective: how many samples the posterior is worth.
      truth: the category that was.
    """
    return float(-np.log((effective * posterior[truth] + prior[truth]) / (effective + 1.0)))


def entropy(probabilities: np.ndarray) -> float:
    """Entropy (nats): the log loss, on average, of who knows only these probabilities."""
    some = probabilities[probabilities > 0.0]
    return float(-(some * np.log(some)).sum())


def distance(first: np.ndarray, first_weights: np.ndarray, second: np.ndarray, second_weights: np.ndarray) -> float:
    """Jensen-Shannon distance of two weighted samples of one quantity, in [0, 1].

    The square root of the divergence in bits, between histograms of equal bins over the central 99 % of both. A few
    samples never agree perfectly: see ``expected_distance``.
    """
    both = np.concatenate([first, second])
    half = 0.5 * np.concatenate([first_weights, second_weights])
    low, high = weighted_quantiles(both, half, np.array([0.005, 0.995]))
    if high <= low:
        return 0.0
    edges = np.linspace(low, high, BINS + 1)
    one, other = (
        np.histogram(np.clip(values, low, high), edges, weights=weights)[0]
        for values, weights in ((first, first_weights), (second, second_weights))
    )
    return float(jensenshannon(one, other, base=2.0))


def choice_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Jensen-Shannon distance of two distributions over categories, in [0, 1]."""
    return float(jensenshannon(first, second, base=2.0))


def expected_distance(first_effective: float, second_effective: float) -> float:
    """About the Jensen-Shannon distance of two samples of one and the same distribution, of so many draws each.

    To second order the divergence of histograms of k bins is (k - 1) / (8 ln 2) (1 / n + 1 / m) bits on average.
    """
    bits = (BINS - 1) / (8.0 * np.log(2.0)) * (1.0 / first_effective + 1.0 / second_effective)
    return float(np.sqrt(min(1.0, bits)))


def gelman_rubin(chains: np.ndarray) -> float:
    """Split potential scale reduction: near 1 where halves of chains agree (Gelman et al., "Bayesian data analysis").

    Args:
      chains: values, (chains, length).

    Returns:
      sqrt([(n - 1) / n W + B / n] / W) with W the mean variance within halves of length n, B / n the variance of their
      means. NaN where nothing ever moved.
    """
    half = chains.shape[1] // 2
    parts = np.concatenate([chains[:, :half], chains[:, half : 2 * half]])
    within = parts.var(axis=1, ddof=1).mean()
    between = parts.mean(axis=1).var(ddof=1)
    return float(np.sqrt((half - 1) / half + between / within)) if within > 0.0 else float("nan")
