"""A simulator of PPX 1.0.0 that runs already survives Ctrl-C and time-outs in the middle of its executions."""

import os
import random
import signal
import threading
import time
import warnings

import official
import pytest
from test_compatibility import plain_simulator

import ppl_jax as ppl
import ppl_jax.distributions as dist

DATA = {"y": 1.5}
SEED = 4


@pytest.fixture(scope="module", autouse=True)
def _generated(tmp_path_factory):
    official.generate(official.SCHEMA_1_0_0, "plain", tmp_path_factory.mktemp("generated"))


class Slow:
    """A model of several draws that takes some milliseconds; ``hangs`` are pauses of the next executions, seconds."""

    def __init__(self):
        self.executions = 0
        self.hangs = []

    def __call__(self, peer):
        self.executions += 1
        pause = self.hangs.pop() if self.hangs else 0.0
        total = peer.sample(dist.Normal(0.0, 1.0), "[model()+0x1]", "first")
        time.sleep(pause)
        vector = peer.sample(dist.Normal([0.0, 1.0, 2.0], [1.0, 1.0, 1.0]), "[model()+0x2]", "vector")
        k = peer.sample(dist.Categorical([0.2, 0.8]), "[model()+0x3]", "k")
        for number in range(int(k) + 3):
            total += peer.sample(dist.Uniform(5.0, 6.0), f"[model()+0x{10 + number}]")
            time.sleep(0.0003)
        peer.tag("[model()+0x4]", "sum", total)
        peer.observe(dist.Normal(total + float(vector[0]) - 20.0, 1.0), "[model()+0x5]", "y", 0.0)
        return total


@pytest.fixture
def interruption():
    """A function that presses Ctrl-C after some seconds."""
    timers = []

    def press(seconds):
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
        timers.append(timer)
        timer.start()

    yield press
    for timer in timers:
        timer.cancel()
        timer.join()


def forever(model):
    """Executes a model until Ctrl-C."""
    while True:
        model()


def first_traces(model, number):
    posterior = ppl.importance_sampling(model, DATA, number, seed=SEED, progress=False)
    return [trace.result for trace in posterior], posterior.log_weights.tolist()


def test_interrupts_at_random_moments_leave_the_simulator_alive(interruption):
    """24 times Ctrl-C: what was finished is kept and right, the same simulator serves the next run."""
    program, draw = Slow(), random.Random(1)
    with plain_simulator(program) as peer, ppl.RemoteModel(peer.endpoint, timeout=60.0) as model:
        expected, weights = first_traces(model, 200)
        cut = 0
        for number in range(24):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # that it was interrupted
                interruption(draw.uniform(0.005, 0.12))
                try:
                    if number % 3:
                        posterior = ppl.importance_sampling(model, DATA, 100_000, seed=SEED, progress=False)
                        assert len(posterior) < 100_000
                        done = min(len(posterior), 200)
                        assert [trace.result for trace in posterior[:done]] == expected[:done]
                        cut += 1
                    else:
                        forever(model)
                except KeyboardInterrupt:  # here: also before the engine had begun
                    cut += 1
        assert cut == 24
        assert first_traces(model, 20) == (expected[:20], weights[:20])
        assert peer.handshakes == ["ppl_jax"]  # one connection: none was begun in the middle of an execution


def test_time_outs_leave_the_simulator_alive():
    """Five executions that take longer than allowed: their answers are awaited, and they are run again."""
    program = Slow()
    with plain_simulator(program) as peer:
        with ppl.RemoteModel(peer.endpoint) as model:
            expected = first_traces(model, 20)
        before = program.executions
        with ppl.RemoteModel(peer.endpoint, timeout=0.3) as model:
            for _ in range(5):
                program.hangs = [0.4]
                assert first_traces(model, 20) == expected
        assert program.executions == before + 5 * 21


def test_a_simulator_that_stays_silent_is_said_to_be_in_an_execution(interruption, monkeypatch):
    """A second Ctrl-C ends the wait; the next run begins by running the old execution out."""
    program = Slow()
    with plain_simulator(program) as peer, ppl.RemoteModel(peer.endpoint) as model:
        expected = first_traces(model, 5)
        program.hangs = [3.0]
        interruption(0.3)
        interruption(2.0)
        with pytest.warns(UserWarning, match="PPX 1.0.0") as told, pytest.raises(KeyboardInterrupt):
            forever(model)
        text = " ".join(str(one.message) for one in told)
        assert "Waiting for the simulator" in text
        assert "still in the middle of an execution" in text
        assert first_traces(model, 5) == expected


def test_a_closed_model_leaves_the_simulator_idle(interruption):
    program = Slow()
    with plain_simulator(program) as peer:
        with ppl.RemoteModel(peer.endpoint) as model:
            expected = first_traces(model, 5)
            program.hangs = [0.8]
            interruption(0.2)
            with pytest.raises(KeyboardInterrupt):
                forever(model)
        with ppl.RemoteModel(peer.endpoint) as model:
            assert first_traces(model, 5) == expected
