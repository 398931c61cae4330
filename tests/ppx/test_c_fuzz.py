"""Random and mutated messages into the C core, built with the address and undefined-behaviour sanitizers.

What is held to: no crash, no step outside a buffer, no hang, no memory that grows; whatever the core sends is valid;
and it takes for a message what the Python decoder takes for one.
"""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
from pathlib import Path

import pytest
from c_core import program
from dialogues import asked

import ppx
from ppx import messages as m

SANITIZERS = "address,undefined"
QUICK, DEEP = 20_000, 1_000_000
GROWTH = 30_000  # kilobytes that the memory may go on growing after a quarter of the messages: caches of the allocator
SECONDS_FOR_EACH = 2e-3  # far more than a message takes; what takes longer hangs


def seeds() -> list[bytes]:
    """Messages of every kind, those that a front end expects more often."""
    data = (
        m.Observation("mu", (), (0.5,)),
        m.Observation("obs0", (1,), (2.5,)),
        m.Observation("grid", (2, 3), (1.0,) * 6),
        m.Observation("what", (), (3.0,)),
        m.Observation("none", None, ()),
    )
    some, others = m.Policy(asked(1, 3), False, data), m.Policy(asked(2), True, data[:1])
    policies = [None, m.Policy(), m.Policy(b"", True), some, others]
    long = m.Replay((1,) * 50, range(1, 51), (1.0,) * 50)
    replays = [None, m.Replay((1, 2), (1, 1), (0.25, 1.0)), m.Replay((), (), ()), long]
    draws = [
        m.Draws(seed, seed, count, position, policy, replay)
        for seed, count, position in ((0, 1, 0), (2**63, 3, 5), (7, 40, 1))
        for policy in policies
        for replay in replays
        if count == 1 or replay is None
    ]
    runs = [m.Run(), *(m.Run(orders) for orders in draws)]
    shared = m.SharedMemory(os.getpid(), 3, 4096 + 2 * 65_536, 12345)
    handshakes = [m.Handshake("fuzz", 2, bits, offer) for bits in (0, 1, 3, 7, 15, 31) for offer in (None, shared)]
    site = m.Site(layout=("Mixture", (2,), (("Normal", (), ()), ("Beta", (2,), (1,)))), shape=(), name="x", address="a")
    traces = m.Traces((site,), ((1, 1),), (0, 0), (1.0,) * 8, (m.Error(4, "bad", "a", 1),))
    others = [
        m.SampleResult((), (1.0,), 3), m.SampleResult((2, 1), (1.0, 2.0)), m.SampleResult(None, ()), m.ObserveResult(),
        m.TagResult(), m.Reset(), m.Error(6, "enough", "somewhere"), m.HandshakeResult("a", "b", 2, 31, "c"),
        m.Sample("address", "name", site.layout, (0.5, 0.5, 0.0, 1.0, 1.0, 2.0, 3.0)), m.RunResult((), (1.0,)),
        m.Sample(site=1, numbers=(1.0, 2.0), traces=traces, position=4), m.RunResult(traces=traces, position=9),
        m.Observe("a", "b", ("Normal", (), ()), (0.0, 1.0), (), (3.0,)), m.Tag("a", "b", (3,), (1.0, 2.0, 3.0)),
        m.Handshake("old"),
    ]  # fmt: skip
    return [ppx.encode(message) for message in [*runs, *handshakes, *others, *others]]


def written(messages: list[bytes], path: Path) -> Path:
    path.write_bytes(b"".join(struct.pack("<I", len(message)) + message for message in messages))
    return path


def run_fuzz(*words: str, seconds: float) -> str:
    options = {"ASAN_OPTIONS": "quarantine_size_mb=4:detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
    command = [str(program("fuzz", sanitize=SANITIZERS)), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env={**os.environ, **options})
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize("count", [QUICK, pytest.param(DEEP, marks=pytest.mark.slow)])
def test_no_message_breaks_a_session(count, tmp_path):
    path = written(seeds(), tmp_path / "seeds")
    said = run_fuzz("session", str(path), str(count), "1", seconds=60.0 + SECONDS_FOR_EACH * count)
    early, late = map(int, said.split())
    assert late - early < GROWTH


def test_memory_that_runs_out_breaks_no_session(tmp_path):
    """One of 200 allocations fails: what cannot be done is refused, and nothing is lost or used twice."""
    path = written(seeds(), tmp_path / "seeds")
    run_fuzz("starved", str(path), str(QUICK), "1", seconds=60.0 + SECONDS_FOR_EACH * QUICK)


@pytest.mark.parametrize("count", [QUICK, pytest.param(400_000, marks=pytest.mark.slow)])
def test_c_and_python_take_the_same_bytes_for_messages(count, tmp_path):
    rng = random.Random(2)
    messages = [damaged(rng, rng.choice(SEEDS)) for _ in range(count)]
    path = written(messages, tmp_path / "messages")
    lines = run_fuzz("decode", str(path), seconds=60.0 + SECONDS_FOR_EACH * count).splitlines()
    assert len(lines) == count
    accepted = 0
    for data, line in zip(messages, lines, strict=True):
        expected = as_python_reads(data)
        if expected == "1" and line.split()[:2] in UNREAD:  # the front end looks no deeper into what it never expects
            continue
        assert line == expected, data.hex()
        accepted += line[0] == "0"
    assert count // 10 < accepted < count


GOLDEN = Path(__file__).parent / "golden"


def test_the_golden_messages(tmp_path):
    index = json.loads((GOLDEN / "messages.json").read_text())
    files = [entry["file"] for entry in index["messages"] + index["malformed"]]
    messages = [(GOLDEN / file).read_bytes() for file in files]
    lines = run_fuzz("decode", str(written(messages, tmp_path / "messages")), seconds=60.0).splitlines()
    for file, data, line in zip(files, messages, lines, strict=True):
        expected = as_python_reads(data)
        assert line == expected or (expected == "1" and line.split()[:2] in UNREAD), file


SEEDS = seeds()
UNREAD = [["0", str(ppx.constants.BODY_NUMBERS[name])] for name in ("RunResult", "Sample", "Observe", "Tag")]


def damaged(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        at = rng.randrange(len(changed))
        kind = rng.randrange(4)
        if kind == 0:
            changed[at] = rng.choice((0, 1, 4, 255, rng.randrange(256)))
        elif kind == 1:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            at &= ~3
            word = rng.choice((0, 1, 2, 4, 2**31, 2**32 - 1, rng.randrange(len(data))))
            changed[at : at + 4] = struct.pack("<I", word)[: len(changed) - at]
        else:
            del changed[max(at, 4) :]
    return bytes(changed)


def as_python_reads(data: bytes) -> str:
    """The line that the C program prints for a message."""
    try:
        message = ppx.decode(data)
    except ppx.MalformedMessage:
        return "1"
    except ppx.UnsupportedMessage:
        return "3"
    words: list = [0, ppx.constants.BODY_NUMBERS[type(message).__name__]]
    if type(message) is m.SampleResult:
        words += [message.position, len(message.value), *(message.shape or ())]
    elif type(message) is m.Handshake:
        words += [message.version, message.capabilities]
    elif type(message) is m.Run and message.draws is not None:
        draws = message.draws
        words += [draws.seed, draws.first, draws.position, draws.count]
        if draws.policy is not None:
            words += ["policy", len(draws.policy.asked), int(draws.policy.ask_others), len(draws.policy.observations)]
        if draws.replay is not None:
            words += ["replay", len(draws.replay.sites), len(draws.replay.values)]
    return " ".join(map(str, words))
