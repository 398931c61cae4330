"""The peer's inference compilation, timed; the programs are those of ``models.py``.

Run by the peer's own Python, as ``models.py`` is. The task "GUM-M train lstm 256" of a number and a seed trains on so
many fresh traces, going on with the network of the call before; "GUM-M infer lstm" of a number draws so many guided
traces. Both answer the seconds they took; the second, the effective sample size and the posterior mean too.
"""

from contextlib import redirect_stdout
from functools import partial
from io import StringIO

import pyprob
import torch
import workers
from peer.models import GUM, OBSERVED, GUMMarsaglia
from pyprob import InferenceEngine, InferenceNetwork

PROGRAMS = {"GUM": GUM, "GUM-M": GUMMarsaglia}
CORES = {"lstm": InferenceNetwork.LSTM, "ff": InferenceNetwork.FEEDFORWARD}
EMBEDDINGS = {name: {"dim": 64} for name in OBSERVED}


def train(model, core, batch_size, number, seed):
    """``number`` traces of training; the LSTM has the peer's 512 units."""
    pyprob.seed(seed)
    with redirect_stdout(StringIO()):  # it reports every step
        _, took = workers.timed(
            lambda: model.learn_inference_network(
                num_traces=number, inference_network=core, observe_embeddings=EMBEDDINGS, batch_size=batch_size
            )
        )
    return took


def infer(model, number, seed):
    """``number`` guided traces."""
    pyprob.seed(seed)
    engine = InferenceEngine.IMPORTANCE_SAMPLING_WITH_INFERENCE_NETWORK
    results, took = workers.timed(
        lambda: model.posterior_results(num_traces=number, inference_engine=engine, observe=OBSERVED)
    )
    return {**took, "mean": float(results.mean), "ess": float(results.effective_sample_size)}


def versions(number, seed):
    """What is being timed."""
    return {"pyprob": pyprob.__version__, "torch": torch.__version__}


def main():
    """Answers requests until standard input is closed."""
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    pyprob.set_verbosity(0)
    tasks = {"versions": versions}
    for name, program in PROGRAMS.items():
        for label, core in CORES.items():
            model = program()
            tasks[f"{name} train {label} 256"] = partial(train, model, core, 256)
            tasks[f"{name} infer {label}"] = partial(infer, model)
    workers.serve(tasks)


if __name__ == "__main__":
    main()
