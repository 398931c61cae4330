"""Simulators that the tests run in other processes: ``python remote_programs.py PROGRAM ENDPOINT [plain]``.

Beside the programs of ``programs.py``, which are known there, programs for what only simulators have: rejection scopes,
errors, and faults. ``plain`` makes the front end one of PPX 1.0.0.
"""

import math
import os
import signal
import sys
import time
from pathlib import Path

import ppl_jax as ppl
import ppl_jax.distributions as dist
import ppx

sys.path.append(str(Path(__file__).resolve().parents[1]))  # now: a folder in there is called ppx as well

import programs


def everything():
    """Every kind of statement, uncontrolled draws, arrays, a structure that changes, a nested result."""
    width = ppl.sample(dist.Gamma(2.0, 1.0), name="width")
    nuisance = ppl.sample(dist.Bernoulli(0.5), name="nuisance", control=False)
    count = ppl.sample(dist.Poisson(1.5 + nuisance), name="count")
    total = 0.0
    for _ in range(count):
        total += ppl.sample(dist.Uniform(-width, width), name="u")
        if ppl.sample(dist.Bernoulli(0.3), name="more"):
            total += ppl.sample(dist.Normal(total, 1.0 + width), name="extra")
    angle = ppl.sample(dist.VonMises(0.3, 2.0), name="angle")
    share = ppl.sample(dist.Beta(2.0, 1.0 + count), name="share")
    kind = ppl.sample(dist.Categorical([0.2, 0.5, 0.3]), name="kind")
    mixed = ppl.sample(dist.Mixture([0.3, 0.7], [dist.Normal(0.0, 1.0), dist.Normal(4.0, 0.5)]), name="mixed")
    vector = ppl.sample(dist.MultivariateNormal([0.0, 1.0], [[1.0, 0.0], [0.5, 2.0]]), name="vector")
    array = ppl.sample(dist.Normal([0.0, mixed], [1.0, 2.0]), name="array")
    bounded = ppl.sample(dist.TruncatedNormal(0.0, 1.0, -0.5, 2.0), name="bounded")
    ppl.factor(-0.1 * total * total, name="penalty")
    ppl.observe(dist.Normal(total, 1.0), 0.5, name="given")
    ppl.observe(dist.Normal([mixed, share], 1.0), name="pair")
    ppl.observe(dist.Normal(mixed + kind, 1.0), name="y")
    ppl.tag([angle, bounded], name="both")
    ppl.tag(vector[0] + array[1], name="sum")
    return total


EVERYTHING_DATA = {"y": 1.5, "pair": [0.5, 0.2]}


def truncated():
    """y ~ Normal(z, 1/2), z ~ Normal(mu, 1) given z > 0 by rejection, mu ~ Uniform(-1.5, 1.5).

    A prior without bounds would not do: a random walk tries values for which the loop would never end.
    """
    mu = ppl.sample(dist.Uniform(-1.5, 1.5), name="mu")
    with ppx.rejection_scope() as scope:
        while (z := ppl.sample(dist.Normal(mu, 1.0), name="z")) <= 0.0:
            scope.reject()
    ppl.observe(dist.Normal(z, 0.5), name="y")
    return mu


TRUNCATED_DATA = {"y": 1.2}


def nested():
    """Two rejection loops, one in the other, with draws before, between and after them."""
    first = ppl.sample(dist.Uniform(0.0, 1.0), name="first")
    with ppx.rejection_scope() as outer:
        while True:
            x = ppl.sample(dist.Normal(first, 1.0), name="x")
            with ppx.rejection_scope() as inner:
                while (y := ppl.sample(dist.Normal(x, 1.0), name="y")) < -0.5:
                    inner.reject()
            if x + y > 0.0:
                break
            outer.reject()
    last = ppl.sample(dist.Normal(0.0, 1.0), name="last")
    ppl.observe(dist.Normal(x + y + last, 1.0), name="data")
    return x + y


def two_loops():
    """Two loops one behind the other; their draws have one address, those of the second are nuisances.

    And some of its passes draw nothing.
    """
    total = ppl.sample(dist.Uniform(-1.0, 1.0), name="shift")
    for attempts in (0, 2):
        with ppl.rejection_scope("loop", control=attempts == 0) as scope:
            for _ in range(attempts):
                scope.reject()
            while (x := ppl.sample(dist.Normal(0.5, 1.0), name="x")) < 0.0:
                scope.reject()
            total += x
    ppl.observe(dist.Normal(total, 1.0), name="y")
    return total


def taken_along():
    """The outer loop's pass is rejected where the inner one's scope is open."""
    mu = ppl.sample(dist.Normal(0.0, 1.0), name="mu")
    with ppl.rejection_scope("outer") as outer:
        for attempt in range(3):
            with ppl.rejection_scope("inner"):
                x = ppl.sample(dist.Normal(mu, 1.0), name="x")
                if attempt < 2:
                    outer.reject()
    ppl.observe(dist.Normal(x, 1.0), name="data")


def observes_in_scope():
    """Bad use of a scope."""
    ppl.sample(dist.Normal(0.0, 1.0))
    with ppl.rejection_scope("loop"):
        ppl.observe(dist.Normal(0.0, 1.0), 0.3, name="there")


def factors_in_scope():
    """Bad use of a scope."""
    ppl.sample(dist.Normal(0.0, 1.0))
    with ppl.rejection_scope("loop"):
        ppl.factor(-1.0, name="there")


def draws_in_scope():
    """A scope whose draw may be given data."""
    ppl.sample(dist.Normal(0.0, 1.0))
    with ppl.rejection_scope("loop"):
        ppl.sample(dist.Normal(0.0, 1.0), name="there")


def forgotten():
    """An observe of which nobody has the value, met in some executions only."""
    if ppl.sample(dist.Uniform(0.0, 1.0), name="u") > 0.9:
        ppl.observe(dist.Normal(0.0, 1.0), name="rare")
    ppl.observe(dist.Normal(0.0, 1.0), name="y")


def raising():
    """An exception in one execution of ten."""
    x = ppl.sample(dist.Uniform(0.0, 1.0), name="x")
    if x > 0.9:
        raise ValueError(f"x is {x:.3f}, beyond the tables")
    ppl.observe(dist.Normal(x, 1.0), name="y")
    return x


def bad_parameter():
    """A standard deviation below zero in one execution of ten."""
    x = ppl.sample(dist.Uniform(-0.1, 0.9), name="x")
    ppl.observe(dist.Normal(0.0, x), name="y")
    return x


def not_a_number():
    """NaN where data should be, in one execution of ten."""
    x = ppl.sample(dist.Uniform(0.0, 1.0), name="x")
    ppl.observe(dist.Normal(x, 1.0), math.nan if x > 0.9 else 0.3, name="y")
    return x


def suicidal():
    """Dies once, the first time that the file of which the environment tells is not there."""
    x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
    marker = Path(os.environ["PPX_TEST_MARKER"])
    if x > 1.0 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    y = ppl.sample(dist.Normal(x, 1.0), name="y")
    ppl.observe(dist.Normal(y, 1.0), name="data")
    return x + y


def hanging():
    """Hangs once, the first time that the file of which the environment tells is not there."""
    x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
    marker = Path(os.environ["PPX_TEST_MARKER"])
    if x > 1.0 and not marker.exists():
        marker.touch()
        time.sleep(1000.0)
    y = ppl.sample(dist.Normal(x, 1.0), name="y")
    ppl.observe(dist.Normal(y, 1.0), name="data")
    return x + y


def healthy():
    """What the two above do when they do neither."""
    x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
    y = ppl.sample(dist.Normal(x, 1.0), name="y")
    ppl.observe(dist.Normal(y, 1.0), name="data")
    return x + y


def doomed():
    """Says something and dies, in one execution of ten."""
    x = ppl.sample(dist.Uniform(0.0, 1.0), name="x")
    if x > 0.9:
        print(f"the detector melted at {x:.3f}", file=sys.stderr, flush=True)
        os._exit(3)
    ppl.observe(dist.Normal(x, 1.0), name="y")
    return x


def sleeping():
    """Never comes to an end."""
    ppl.sample(dist.Normal(0.0, 1.0), name="x")
    time.sleep(1000.0)


def slow():
    """A hundredth of a second an execution."""
    x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
    time.sleep(0.01)
    ppl.observe(dist.Normal(x, 1.0), name="y")
    return x


def meeting():
    """Comes to its end only where three processes are in the middle of an execution at the same time.

    They meet in the folder of which the environment tells; without one they do not. Where it has PPX_TEST_TOUCHY, one
    execution of six raises.
    """
    x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
    if x > 1.0 and "PPX_TEST_TOUCHY" in os.environ:
        raise ValueError(f"x is {x:.3f}, beyond the tables")
    folder = os.environ.get("PPX_TEST_MEETING")
    if folder is not None:
        (Path(folder) / str(os.getpid())).touch()
        deadline = time.monotonic() + 30.0
        while len(os.listdir(folder)) < 3:
            if time.monotonic() > deadline:
                raise RuntimeError("nobody else came")
            time.sleep(0.002)
    y = ppl.sample(dist.Normal(x, 1.0), name="y")
    ppl.observe(dist.Normal(y, 1.0), name="data")
    return x + y


_CALLS = []


def forgetful():
    """Not the same when it is run again: its draws depend on how often it was called."""
    _CALLS.append(1)
    for step in range(3):
        x = ppl.sample(dist.Normal(float(len(_CALLS)), 1.0), name=f"x{step}")
        ppl.observe(dist.Normal(x, 1.0), 0.0)


def thousand():
    """A random walk of a thousand steps that is looked at now and then."""
    x = 0.0
    for step in range(1000):
        x = ppl.sample(dist.Normal(x, 1.0))
        if step % 100 == 99:
            ppl.observe(dist.Normal(x, 1.0), float(step % 7))
    return x


def noisy():
    """Nuisances of all kinds around what a network may propose for; dies once, where the environment says so."""
    width = ppl.sample(dist.Gamma(2.0, 1.0), name="width")
    shift = ppl.sample(dist.Normal(0.0, 1.0), name="shift", control=False)
    kicks = ppl.sample(dist.Normal([0.0, shift, 1.0], [1.0, 2.0, 0.5]), name="kicks", control=False)
    pair = ppl.sample(dist.MultivariateNormal([0.0, 1.0], [[1.0, 0.0], [0.5, 2.0]]), control=False)
    total = 0.1 * float(kicks.sum() + pair.sum())
    for _ in range(ppl.sample(dist.Poisson(1.5), name="count")):
        with ppl.rejection_scope("polar") as scope:
            while True:
                x = ppl.sample(dist.Uniform(-1.0, 1.0), name="x")
                y = ppl.sample(dist.Uniform(-1.0, 1.0), name="y", control=False)
                corner = ppl.sample(dist.Normal([0.0, 0.0], 0.5), name="corner")
                if x * x + y * y + corner[0] < 1.0:
                    break
                scope.reject()
        total += x * ppl.sample(dist.Normal(corner[1], 1.0 + width), name="step")
    hits = ppl.sample(dist.Poisson(30.0), name="hits", control=False)
    last = ppl.sample(dist.Normal(total, 1.0), name="last")
    noise = ppl.sample(dist.VonMises(0.0, 2.0), control=False)
    _die_once(last + noise > 2.0)
    ppl.factor(-0.01 * total * total, name="penalty")
    ppl.observe(dist.Normal(total, 1.0), 0.5, name="given")
    ppl.observe(dist.Normal([last, noise], 1.0), name="data")
    ppl.tag(hits + noise, "sum")
    return last


NOISY_DATA = {"given": 0.3, "data": [1.0, 0.2]}


def _die_once(now):
    marker = os.environ.get("PPX_TEST_MARKER")
    if now and marker is not None and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def healthy_noise():
    """A nuisance between two draws for which a network may propose; no more than PPX 1.0.0 knows."""
    x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
    noise = ppl.sample(dist.Normal(x, 1.0), name="noise", control=False)
    y = ppl.sample(dist.Normal(noise, 1.0), name="y")
    ppl.observe(dist.Normal(y, 1.0), name="data")
    return x + y


def here_and_there():
    """A draw of one address in a scope, and sometimes outside of it, where a network may propose for it."""
    first = ppl.sample(dist.Uniform(0.0, 1.0), name="first")
    with ppl.rejection_scope("loop") as scope:
        while (unit := ppl.sample(dist.Uniform(0.0, 1.0), address="unit")) > 0.6:
            scope.reject()
    if first > 0.6:
        unit += ppl.sample(dist.Uniform(0.0, 1.0), address="unit")
    ppl.observe(dist.Normal(unit, 1.0), 0.3)
    ppl.observe(dist.Normal(first, 1.0), name="data")
    return unit


def noisy_with_faults():
    """An exception in some executions, in others an observe of which nobody has the value; where PPX_TEST_TOUCHY is."""
    touchy = "PPX_TEST_TOUCHY" in os.environ
    first = ppl.sample(dist.Uniform(0.0, 1.0), name="first")
    noise = ppl.sample(dist.Uniform(0.0, 1.0), name="noise", control=False)
    if touchy and noise < 0.05:
        ppl.observe(dist.Normal(0.0, 1.0), name="rare")
    if touchy and noise > 0.95:
        raise ValueError(f"noise is {noise:.3f}, beyond the tables")
    ppl.observe(dist.Normal(first, 1.0), name="data")


def unknown_size():
    """A mixture whose number of components is drawn, and bounds that are: it dies of a value that cannot be there."""
    number = 1 + ppl.sample(dist.Categorical([0.3, 0.4, 0.3]), name="number")
    means = [ppl.sample(dist.Normal(0.0, 3.0), name="mean") for _ in range(number)]
    for y in (-2.0, 0.5, 2.5):
        chosen = ppl.sample(dist.Categorical([1.0 + j for j in range(number)]), name="choice")
        if not 0 <= chosen < number:
            os.abort()
        ppl.observe(dist.Normal(means[chosen], 1.0), y, name="y")
    bound = ppl.sample(dist.Uniform(0.0, 10.0), name="bound")
    below = ppl.sample(dist.Uniform(0.0, bound), name="below")
    if not 0.0 <= below <= bound:
        os.abort()
    ppl.observe(dist.Normal(below, 0.5), 2.0, name="z")
    return float(number)


_NOISE = []


def noisy_and_forgetful():
    """Dies once, and draws more nuisances when it is run again."""
    first = ppl.sample(dist.Uniform(0.0, 1.0), name="first")
    for _ in range(2 if os.path.exists(os.environ.get("PPX_TEST_MARKER", "")) else 1):
        ppl.sample(dist.Uniform(0.0, 1.0), name="noise", control=False)
    second = ppl.sample(dist.Normal(0.0, 1.0), name="second")
    _NOISE.append(second)
    _die_once(len(_NOISE) > 5)
    ppl.observe(dist.Normal(first + second, 1.0), name="data")


def main() -> None:
    """Serves the program that the command line names."""
    name, endpoint, *how = sys.argv[1:]
    model = globals().get(name) or getattr(programs, name)
    capabilities = ppx.Capability(0) if "plain" in how else ppx.ALL_CAPABILITIES
    ppx.serve(model, endpoint, capabilities=capabilities)


if __name__ == "__main__":
    main()
