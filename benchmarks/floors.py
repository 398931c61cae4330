"""What the machine itself costs: the same arithmetic written by hand, with no library around it.

Served to ``run.py`` by a process of its own (see ``workers.py``). The host's floors are plain Python with ``random``
and ``math``: the draws and densities of a program or of a Metropolis-Hastings step, inlined, nothing recorded, no
address, no handler. The device's floor is the vectorised program in numpy, which keeps two numbers a trace. A library
that lets programs be programs cannot reach them; how far it stays away says what its bookkeeping costs.
"""

import math
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import programs
import workers

PRIOR_STDDEV, STDDEV = math.sqrt(5.0), math.sqrt(2.0)
FIRST, SECOND = programs.GUM_DATA.values()
HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


def log_normal_density(value: float, loc: float, scale: float) -> float:
    """Log density of a normal, as a Python function."""
    z = (value - loc) / scale
    return -0.5 * z * z - HALF_LOG_2PI - math.log(scale)


def log_likelihood(mean: float) -> float:
    """Of the two data of GUM."""
    return log_normal_density(FIRST, mean, STDDEV) + log_normal_density(SECOND, mean, STDDEV)


def nothing() -> None:
    """The empty function whose call is timed."""


def empty_calls(number: int) -> None:
    """Calls of an empty Python function in a loop."""
    for _ in range(number):
        nothing()


def draw_mean() -> float:
    """GUM's mean."""
    return random.gauss(1.0, PRIOR_STDDEV)


def draw_mean_by_rejection() -> float:
    """GUM-M's mean."""
    square = 1.0
    while square >= 1.0:
        x, y = random.uniform(-1.0, 1.0), random.uniform(-1.0, 1.0)
        square = x * x + y * y
    return 1.0 + PRIOR_STDDEV * x * math.sqrt(-2.0 * math.log(square) / square)


def prior(draw: Callable[[], float], number: int) -> None:
    """A mean and two simulated data."""
    for _ in range(number):
        mean = draw()
        random.gauss(mean, STDDEV)
        random.gauss(mean, STDDEV)


def importance_sampling(draw: Callable[[], float], number: int) -> None:
    """A mean and two densities."""
    for _ in range(number):
        log_likelihood(draw())


def metropolis_hastings(walk: bool, number: int) -> None:
    """Steps on GUM: a random walk, or draws from the prior."""
    mean = draw_mean()
    density = log_normal_density(mean, 1.0, PRIOR_STDDEV) + log_likelihood(mean)
    for _ in range(number):
        new = random.gauss(mean, 1.0) if walk else draw_mean()
        new_density = log_normal_density(new, 1.0, PRIOR_STDDEV) + log_likelihood(new)
        log_ratio = new_density - density
        if not walk:
            log_ratio += log_normal_density(mean, 1.0, PRIOR_STDDEV) - log_normal_density(new, 1.0, PRIOR_STDDEV)
        if log_ratio >= 0.0 or random.random() < math.exp(log_ratio):
            mean, density = new, new_density


def hidden_markov(score: bool, number: int) -> None:
    """Sixteen states, each with a density or a simulated datum."""
    states = range(3)
    for _ in range(number):
        belief = programs.HMM_START
        for value in programs.HMM_SERIES:
            (state,) = random.choices(states, belief)
            centre = programs.HMM_CENTRES[state]
            log_normal_density(value, centre, 1.0) if score else random.gauss(centre, 1.0)
            belief = programs.HMM_MOVES[state]


def vectorised(score: bool, number: int) -> None:
    """GUM in numpy, 16,384 executions at once; keeps the mean, and the weight or a datum."""
    generator = np.random.default_rng(0)
    kept = np.empty((2, number))
    for low in range(0, number, 1 << 14):
        part = kept[:, low : low + (1 << 14)]
        part[0] = 1.0 + PRIOR_STDDEV * generator.standard_normal(part.shape[1])
        if score:
            squares = ((FIRST - part[0]) / STDDEV) ** 2 + ((SECOND - part[0]) / STDDEV) ** 2
            part[1] = -0.5 * squares - 2.0 * (HALF_LOG_2PI + math.log(STDDEV))
        else:
            generator.standard_normal(part.shape[1])
            part[1] = part[0] + STDDEV * generator.standard_normal(part.shape[1])


def task(work: Callable[[int], None], number: int, seed: int) -> dict[str, Any]:
    """Seconds of ``number`` repetitions, by the clock and of the core."""
    random.seed(seed)
    return workers.timed(lambda: work(number))[1]


TASKS = {
    name: partial(task, work)
    for name, work in {
        "empty call": empty_calls,
        "GUM prior host": partial(prior, draw_mean),
        "GUM importance_sampling host": partial(importance_sampling, draw_mean),
        "GUM random_walk_mh host": partial(metropolis_hastings, True),
        "GUM lightweight_mh host": partial(metropolis_hastings, False),
        "GUM-M prior host": partial(prior, draw_mean_by_rejection),
        "GUM-M importance_sampling host": partial(importance_sampling, draw_mean_by_rejection),
        "HMM prior host": partial(hidden_markov, False),
        "HMM importance_sampling host": partial(hidden_markov, True),
        "GUM prior jax": partial(vectorised, False),
        "GUM importance_sampling jax": partial(vectorised, True),
    }.items()
}

if __name__ == "__main__":
    workers.serve(TASKS)
