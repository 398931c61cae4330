"""One answer of ``ic.py``, in a process of its own: from nothing to an effective sample size on GUM-M.

    python time_to_ess.py WIDTH TRAINING_TRACES WANTED     trains an LSTM of so many units, then draws guided traces

Prints JSON. Who starts it counts the seconds, from the start of the process, and says where JAX keeps what it compiles.
"""

import json
import sys
import time

import numpy as np
import programs

import ppl_jax as ppl

_PART = 2000  # guided traces drawn at a time
_MOST = 400_000


def main() -> int:
    """Command line: see the module's docstring."""
    width, training_traces, wanted = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    begin = time.perf_counter()
    network = ppl.train(
        programs.gum_marsaglia, training_traces, core=ppl.nn.LSTM(width), learning_rate=3e-3, seed=0, progress=False
    )
    trained = time.perf_counter() - begin
    log_weights, results, ess = np.empty(0), np.empty(0), 0.0
    while ess < wanted and len(results) < _MOST:
        part = ppl.importance_sampling(
            programs.gum_marsaglia, programs.GUM_DATA, _PART, proposal=network, seed=100 + len(results), progress=False
        )
        log_weights = np.concatenate([log_weights, part.log_weights])
        results = np.concatenate([results, part.results.values])
        weights = np.exp(log_weights - log_weights.max())
        weights /= weights.sum()
        ess = float(1.0 / np.square(weights).sum())
    mean = float(weights @ results)
    error = float(np.sqrt(np.square(weights) @ np.square(results - mean)))
    answer = {
        "ess": ess,
        "traces": len(results),
        "training_seconds": trained,
        "mean": mean,
        "standard_errors_off": abs(mean - programs.GUM_MEANS["posterior"]) / error,
    }
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
