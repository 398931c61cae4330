"""Memory of long runs, of real processes: a million traces in memory, and a flat line on disk."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads Linux's /proc"),
]

MIB = 2**20


def measured(number, path):
    """Peak resident memory in bytes, and private resident memory at every tenth of the run, of one process."""
    program = textwrap.dedent(f"""
        import math, re
        import ppl_jax as ppl, ppl_jax.distributions as dist

        number, seen, readings = {number}, 0, []

        def private():
            rollup = open("/proc/self/smaps_rollup").read()
            return sum(1024 * int(n) for n in re.findall(r"Private_(?:Clean|Dirty): +(\\d+) kB", rollup))

        def model():
            global seen
            seen += 1
            if seen % (number // 10) == 0:
                readings.append(private())
            mu = ppl.sample(dist.Normal(1.0, math.sqrt(5.0)), name="mu")
            ppl.observe(dist.Normal(mu, math.sqrt(2.0)), 8.0, name="obs0")
            ppl.observe(dist.Normal(mu, math.sqrt(2.0)), 9.0, name="obs1")
            return mu

        posterior = ppl.importance_sampling(
            model, num_traces=number, seed=1, backend="host", path={path!r}, progress=False
        )
        assert len(posterior) == number and abs(posterior.map("mu").mean - 7.25) < 0.1
        # Not ru_maxrss: a process begins with that of the process which started it.
        peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())
        print(1024 * int(peak[1]), *readings)
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    peak, *readings = map(int, done.stdout.split())
    assert len(readings) == 10
    return peak, readings


def test_a_million_traces_in_memory_take_less_than_a_gibibyte():
    peak, readings = measured(1_000_000, None)
    assert peak < 1024 * MIB
    assert readings[-1] - readings[0] > 50 * MIB  # it does hold them


def test_memory_is_flat_when_traces_go_to_disk(tmp_path):
    """A run holds back a MiB or two before it writes; eight hundred thousand traces more add nothing to that."""
    _, readings = measured(1_000_000, str(tmp_path / "traces"))
    assert readings[-1] - readings[1] < 4 * MIB
