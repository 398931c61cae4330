"""How many functions of the package a draw passes: what a newcomer must read to follow it."""

import sys
from contextlib import nullcontext
from pathlib import Path

import ppl_jax as ppl
import ppl_jax.distributions as dist

ROOT = str(Path(ppl.__file__).parent.parent)
OWN = (f"{ROOT}/ppl_jax/", f"{ROOT}/ppx/")


class Hops:
    """Calls of the package's Python functions while it is watched."""

    def __init__(self):
        self.names = []

    def __enter__(self):
        sys.setprofile(self._see)
        return self

    def __exit__(self, *exception):
        sys.setprofile(None)

    def _see(self, frame, event, argument):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(OWN):
            self.names.append(f"{code.co_filename.removeprefix(ROOT)}:{code.co_qualname}")


def test_a_draw_under_importance_sampling():
    prior, hops = dist.Normal(0.0, 1.0), Hops()

    def model():
        executions.append(None)
        watched = hops if len(executions) == 150 else nullcontext()  # long after the first visit of the call site
        with watched:
            x = ppl.sample(prior, name="x")
        ppl.observe(dist.Normal(x, 1.0), name="y")

    executions = []
    ppl.importance_sampling(model, {"y": 1.0}, 200, seed=1, backend="host", progress=False)
    assert 5 < len(hops.names) <= 9, hops.names
