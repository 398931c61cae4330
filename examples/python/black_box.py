"""A program that nobody may change, fed through its standard input and read from its standard output.

    python examples/python/black_box.py

Its own random numbers stay its own: what is inferred are its input parameters. (``ppl.RemoteModel`` and the front ends
of PPX take over the draws inside, which is what makes everything that happened in the program known.) The program here
is awk, which adds noise to a straight line; any command that reads and writes text will do in its place.
"""

import subprocess

import ppl_jax as ppl
import ppl_jax.distributions as dist

PROGRAM = ["awk", '{ for (x = 0; x < 5; x++) printf "%.6f ", $1 + $2 * x; print "" }']


def run(intercept: float, slope: float) -> list[float]:
    """What the program prints for two parameters."""
    done = subprocess.run(PROGRAM, input=f"{intercept!r} {slope!r}\n", capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def model():
    """The program's parameters are latent; what it prints is compared with data, which have errors of sd 0.3."""
    intercept = ppl.sample(dist.Normal(0.0, 2.0), name="intercept")
    slope = ppl.sample(dist.Normal(0.0, 1.0), name="slope")
    line = run(intercept, slope)
    ppl.tag(line, name="printed")
    ppl.observe(dist.Normal(line, 0.3), name="points")


def main() -> None:
    """What line do these points lie on?"""
    data = {"points": [1.1, 1.4, 2.2, 2.3, 3.0]}
    posterior = ppl.metropolis_hastings(model, data, num_traces=1500, burn_in=300, seed=0, progress=False)
    for name, mean in posterior.map(["intercept", "slope"]).mean.items():
        print(f"{name}: {mean:.2f} ± {posterior.map(name).stddev:.2f}")


if __name__ == "__main__":
    main()
