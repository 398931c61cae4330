"""How good trained networks are: posteriors against exact answers, and effective sample sizes on typical observations.

Trainings take a minute or two of one core. The longest is that of the letters: 123 s of processor time, compiling
included; with another seed (11) its median effective sample size was 0.44 of the traces, where 0.3 is asked for.
"""

import math

import numpy as np
import programs
import pytest
from scipy import stats
from scipy.special import logsumexp

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.nn import LSTM, Transformer

pytestmark = pytest.mark.slow

# -- a vector-valued model: a linear Gaussian --------------------------------------------------------------------------

TRIL = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [-0.5, 0.2, 2.0]])
LOC = np.array([1.0, -2.0, 0.5])
DESIGN = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, -1.0], [1.0, 1.0, 0.0], [0.5, -0.5, 1.0]])
LINEAR_DATA = {"y": np.array([2.0, -3.5, -0.5, 2.5])}


def linear():
    theta = ppl.sample(dist.MultivariateNormal(LOC, TRIL), name="theta")
    ppl.observe(dist.Normal(DESIGN @ theta, 0.7), name="y")
    return theta


def linear_posterior():
    """Mean of theta given y, and log p(y)."""
    prior = TRIL @ TRIL.T
    evidence = DESIGN @ prior @ DESIGN.T + 0.49 * np.eye(4)
    mean = LOC + prior @ DESIGN.T @ np.linalg.solve(evidence, LINEAR_DATA["y"] - DESIGN @ LOC)
    return mean, float(stats.multivariate_normal.logpdf(LINEAR_DATA["y"], DESIGN @ LOC, evidence))


# -- an image model: a letter somewhere on a noisy grid ----------------------------------------------------------------

LETTERS = {
    "A": "010101111101101", "C": "111100100100111", "E": "111100110100111", "H": "101101111101101",
    "L": "100100100100111", "T": "111010010010010", "U": "101101101101111", "X": "101101010101101",
}  # fmt: skip
GLYPHS = np.array([[int(bit) for bit in bits] for bits in LETTERS.values()], float).reshape(-1, 5, 3)
HEIGHT, WIDTH = 8, 7
DOWN, RIGHT = HEIGHT - 5 + 1, WIDTH - 3 + 1


def rendered(letter, down, right):
    image = np.zeros((HEIGHT, WIDTH))
    image[down : down + 5, right : right + 3] = GLYPHS[letter]
    return image


def letters():
    letter = ppl.sample(dist.Categorical(np.ones(len(GLYPHS))), name="letter")
    down = ppl.sample(dist.Categorical(np.ones(DOWN)), name="down")
    right = ppl.sample(dist.Categorical(np.ones(RIGHT)), name="right")
    ppl.observe(dist.Normal(rendered(letter, down, right), 0.5), name="image")
    return letter


LETTERS_DATA = {"image": rendered(3, 2, 1) + 0.5 * np.random.default_rng(5).normal(size=(HEIGHT, WIDTH))}


def letters_posterior():
    """P(letter | image), and log p(image), by enumeration."""
    log_joint = np.array([
        [
            stats.norm.logpdf(LETTERS_DATA["image"], rendered(k, i, j), 0.5).sum()
            for i in range(DOWN)
            for j in range(RIGHT)
        ]
        for k in range(len(GLYPHS))
    ])  # fmt: skip
    evidence = logsumexp(log_joint)
    return np.exp(logsumexp(log_joint, axis=1) - evidence), float(evidence - math.log(log_joint.size))


# -- the comparison ----------------------------------------------------------------------------------------------------

# Program, data, exact log evidence, traces to train on, embeddings, core, ESS fraction asked for on typical data.
CASES = {
    "gum": (programs.gum, programs.GUM_DATA, programs.GUM_LOG_EVIDENCE, 40_000, None, LSTM(64), 0.6),
    "gum_marsaglia": (
        programs.gum_marsaglia, programs.GUM_DATA, programs.GUM_LOG_EVIDENCE, 60_000, None, LSTM(64), 0.3,
    ),
    "branching": (
        programs.branching, programs.BRANCHING_DATA, programs.branching_posterior()[1], 30_000, None, LSTM(64), 0.3,
    ),
    "hidden_markov": (
        programs.hidden_markov, programs.HMM_DATA, programs.hidden_markov_posterior()[1], 60_000, None, LSTM(64), 0.3,
    ),
    "hidden_markov_transformer": (
        programs.hidden_markov, programs.HMM_DATA, programs.hidden_markov_posterior()[1], 60_000, None,
        Transformer(64, 1, 4, 16), 0.3,
    ),
    "linear": (linear, LINEAR_DATA, linear_posterior()[1], 40_000, None, LSTM(64), 0.3),
    "letters": (
        letters, LETTERS_DATA, letters_posterior()[1], 200_000, {"image": {"dim": 64, "kind": "cnn2d"}}, LSTM(64), 0.3,
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES)
def trained(request):
    model, data, evidence, number, embeddings, core, fraction = CASES[request.param]
    rate, size = 3e-3, 128 if embeddings else 256
    network = ppl.train(
        model, number, observe_embeddings=embeddings, core=core, batch_size=size, learning_rate=rate, seed=0,
        progress=False,
    )  # fmt: skip
    posterior = ppl.importance_sampling(model, data, 5000, proposal=network, seed=1, progress=False)
    return request.param, model, data, evidence, fraction, network, posterior


def test_effective_sample_sizes_on_typical_observations(trained):
    _, model, data, _, fraction, network, _ = trained
    fractions = []
    for trace in ppl.prior(model, 20, seed=7, progress=False):
        simulated = {name: trace[name] for name in data}
        posterior = ppl.importance_sampling(model, simulated, 500, proposal=network, seed=3, progress=False)
        fractions.append(posterior.effective_sample_size / 500)
    assert np.median(fractions) >= fraction


def test_the_evidence_is_exact(trained):
    *_, evidence, _, _, posterior = trained
    # The weights' relative standard error, from the effective sample size; four of them.
    relative = math.sqrt(1.0 / posterior.effective_sample_size - 1.0 / 5000)
    assert posterior.effective_sample_size > 100
    assert abs(math.expm1(posterior.log_evidence - evidence)) < 4.0 * relative


def test_the_posterior_is_exact(trained):
    name, _, _, _, _, _, posterior = trained
    ess = posterior.effective_sample_size
    values = posterior.values
    if name.startswith("gum"):
        found = np.array([trace["mu"] for trace in values]) @ posterior.weights
        assert abs(found - programs.GUM_MEAN) < 4.0 * programs.GUM_STDDEV / math.sqrt(ess)
        return
    if name == "linear":
        found = posterior.weights @ np.array([trace["theta"] for trace in values])
        spread = np.sqrt(posterior.weights @ np.square(np.array([trace["theta"] for trace in values]) - found))
        assert (abs(found - linear_posterior()[0]) < 4.5 * spread / math.sqrt(ess)).all()
        return
    if name.startswith("hidden_markov"):
        states = np.array([[trace[f"x{step}"] for step in range(16)] for trace in values])
        found = np.stack([posterior.weights @ (states == state) for state in range(3)], axis=1)
        exact = programs.hidden_markov_posterior()[0]
    else:
        exact = (letters_posterior() if name == "letters" else programs.branching_posterior())[0]
        chosen = np.array([trace["letter" if name == "letters" else "r"] for trace in values])
        found = np.array([posterior.weights[chosen == k].sum() for k in range(len(exact))])
    # Frequencies of at most 48 outcomes: 4.5 standard errors, and one more trace.
    assert (abs(found - exact) < 4.5 * np.sqrt(exact * (1.0 - exact) / ess) + 1.0 / ess).all()
