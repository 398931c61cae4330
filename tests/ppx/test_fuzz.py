"""Random and mutated messages into the decoder, the front end and the connection: errors of ours, and nothing else.

The seeds are the golden messages and some larger ones; they are damaged in bytes, cut, joined, repeated. The quick
tests take thousands, ``make test-all`` a million.
"""

from __future__ import annotations

import random
import resource
import struct
from pathlib import Path

import pytest
import simulators
from inference import MODES, PATIENCE, connected, expected, local_prior, prior
from simulators import simulator

import ppx
from ppx import messages as m

GOLDEN = [path.read_bytes() for path in sorted((Path(__file__).parent / "golden").glob("*.bin"))]
QUICK = 10_000
DEEP = pytest.param(400_000, marks=pytest.mark.slow)


def mutated(rng, seeds):
    """A message with some damage; sometimes none, sometimes nothing but noise."""
    kind = rng.random()
    if kind < 0.03:
        return rng.randbytes(rng.randrange(200))
    data = bytearray(rng.choice(seeds))
    if kind < 0.1 or not data:
        return bytes(data)
    for _ in range(1 + int(rng.expovariate(0.7))):
        at = rng.randrange(len(data)) if data else 0
        action = rng.random()
        if action < 0.35 and data:
            data[at] = rng.choice((0, 1, 2, 4, 8, 12, 16, 127, 128, 254, 255, rng.randrange(256)))
        elif action < 0.55 and len(data) >= 4:
            at = at & ~3
            word = rng.choice((0, 1, 4, 2**31 - 1, 2**31, 2**32 - 1, len(data), rng.randrange(2 * len(data) + 1)))
            data[at : at + 4] = struct.pack("<I", word)[: len(data) - at]
        elif action < 0.7 and len(data) >= 8:
            at = at & ~7
            number = rng.choice((0.0, -1.0, 1e308, float("inf"), float("nan"), 2.0**53, rng.gauss(0.0, 1.0)))
            data[at : at + 8] = struct.pack("<d", number)[: len(data) - at]
        elif action < 0.78:
            del data[at:]
        elif action < 0.84:
            data += rng.randbytes(rng.randrange(40))
        elif action < 0.92 and data:
            length = rng.randrange(1, 40)
            start = rng.randrange(len(data))
            data[at : at + length] = data[start : start + length]
        else:
            other = rng.choice(seeds)
            data[at:] = other[at:]
    return bytes(data)


def seeds():
    """Golden messages, and some with long rows, many sites and deep mixtures."""
    layout = ("Normal", (), ())
    for _ in range(8):
        layout = ("Mixture", (2,), (layout, ("Normal", (), ())))
    deep = m.Site(ppx.SiteKind.SAMPLE, "deep", "", layout, ())
    many = tuple(m.Site(ppx.SiteKind.TAG, f"a{k}", "", None, ()) for k in range(30))
    rows = tuple(float(k) for k in range(200))
    return [
        *GOLDEN,
        ppx.encode(m.RunResult(traces=m.Traces((deep, *many), ((1, 2),) * 5, (0, 1, 2) * 40, rows))),
        ppx.encode(m.Run(m.Draws(1, 2, 3, 4, m.Policy(bytes(40), True), m.Replay((1,) * 80, (1,) * 80, rows[:80])))),
    ]


def memory():
    """Largest resident size so far, bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("count", [QUICK, DEEP])
def test_the_decoder(count):
    """Whatever comes is a message or a PPXError; with memory of forms, it says the same as without; memory stays."""
    rng, known = random.Random(1), seeds()
    decoder, accepted, before = ppx.Decoder(max_forms=500), 0, 0
    for number in range(count):
        data = mutated(rng, known)
        try:
            message = ppx.decode(data)
        except (ppx.MalformedMessage, ppx.UnsupportedMessage) as error:
            with pytest.raises(type(error)):
                decoder(memoryview(data))
        else:
            accepted += 1
            assert repr(decoder(memoryview(data))) == repr(message)
            ppx.encode(message)
        if number == count // 2:
            before = memory()
    assert accepted > count / 20
    assert memory() - before < 30e6


class Feed:
    """In place of a front end's channel: gives it bytes, keeps its answers."""

    def __init__(self, messages):
        self.messages = messages
        self.sent = []
        self.capacity = 1 << 20
        self.shares_memory = False

    def receive(self):
        return next(self.messages, None)

    def send(self, data):
        assert len(data) <= self.capacity
        self.sent.append(type(ppx.decode(data)))

    def open(self, shared):
        return None

    def use(self, mailbox):
        pass

    def close(self):
        pass


@pytest.mark.parametrize("model", ["gum", "everything", "nested_rejection", "fails"])
@pytest.mark.parametrize("count", [QUICK // 10, pytest.param(50_000, marks=pytest.mark.slow)])
def test_the_front_end(count, model):
    """Answers every message with one of its own, in every state, and at the end still works."""
    rng, known = random.Random(2), seeds()
    known = [data for data in known if _size_of_run(data) < 3]
    answers = [ppx.encode(m.SampleResult((), (x,), k)) for x in (0.0, 0.4, 1.0, 2.0) for k in (0, 3, 50)]
    answers += [ppx.encode(m.SampleResult((3,), (0.1, 0.2, 0.3))), ppx.encode(m.SampleResult((2, 2), (0.1,) * 4))]
    runs = [ppx.encode(m.Run()), ppx.encode(m.Run(m.Draws(1, 2, 1, 0, m.Policy(b"\x06", True))))]
    shakes = [ppx.encode(m.Handshake("x", 2, int(capabilities))) for capabilities in MODES.values()]
    answers += [ppx.encode(m.ObserveResult()), ppx.encode(m.TagResult())]

    def messages():
        for _ in range(count):
            choice = rng.random()
            if choice < 0.5:
                yield rng.choice(answers)
            elif choice < 0.6:
                yield rng.choice(runs)
            elif choice < 0.62:
                yield rng.choice(shakes)
            else:
                data = mutated(rng, known)
                yield data if _size_of_run(data) < 3 else runs[0]
        yield shakes[-1]
        yield ppx.encode(m.Run(m.Draws(1, 2, 5)))

    served = ppx.FrontEnd(getattr(simulators, model), "ipc://*")
    served.close()
    served._channel = feed = Feed(messages())
    served.serve()
    assert len(feed.sent) == count + 2
    assert feed.sent[-2:] == [m.HandshakeResult, m.RunResult]
    assert {m.HandshakeResult, m.Sample, m.Error, m.Reset} <= set(feed.sent)
    assert len(served._numbers) < 100


@pytest.mark.parametrize("mode", ["draws", "mailbox"])
def test_a_front_end_over_the_wire(mode, tmp_path):
    """In a process of its own, through its real transports: every message is answered, and in the end all is well."""
    rng, known = random.Random(4), seeds()
    answer = ppx.encode(m.SampleResult((), (0.5,), 3))
    with simulator("gum", f"ipc://{tmp_path}/s") as peer, connected(peer.endpoint, MODES[mode]) as mine:
        for _ in range(2_000):
            data = answer if rng.random() < 0.3 else mutated(rng, known)
            if type(_decoded(data)) is m.Handshake:
                continue  # may end the use of this mailbox
            mine._channel.send(data if _size_of_run(data) < 3 else answer)
            assert ppx.decode(mine._channel.receive(PATIENCE)) is not None
        assert peer.process.poll() is None
        mine.handshake(PATIENCE)
        assert [r.visits for r in local_prior(mine, 5, 3)] == [expected(t) for t in prior(simulators.gum, 5, 3)]


def _size_of_run(data):
    """How many executions a message asks for: a million of them is no error, but no test either."""
    try:
        message = ppx.decode(data)
    except ppx.PPXError:
        return 0
    return message.draws.count if type(message) is m.Run and message.draws is not None else 0


class Answers:
    """In place of a connection's channel: answers whatever is asked with what the fuzzer has."""

    def __init__(self, make):
        self.make = make
        self.capacity = ppx.constants.MAX_MESSAGE

    def send(self, data):
        pass

    def receive(self, timeout, interrupted):
        return self.make()

    def use(self, mailbox):
        mailbox.close()

    def close(self):
        pass


@pytest.mark.parametrize("count", [QUICK // 2, pytest.param(400_000, marks=pytest.mark.slow)])
def test_the_connection(count, monkeypatch):
    """Handshakes, requests and the table of sites: a PPXError or a message, nothing else."""
    rng, known = random.Random(3), seeds()
    welcome = [data for data in known if type(_decoded(data)) is m.HandshakeResult]
    stories = [data for data in known if type(_decoded(data)) in (m.RunResult, m.Sample)]
    shaking = False

    def make():
        return mutated(rng, welcome if shaking else stories if rng.random() < 0.7 else known)

    monkeypatch.setattr(ppx.connection, "InferenceChannel", lambda *_: Answers(make))
    connection = ppx.Connection("ipc:///nowhere", capabilities=MODES["draws"])
    handshakes = executions = 0
    for _ in range(count):
        shaking = rng.random() < 0.02
        try:
            if shaking:
                connection.handshake(1.0)
                handshakes += 1
                continue
            message = connection.request(m.Run())
            if getattr(message, "traces", None) is not None:
                found = connection.sites.receive(message.traces)
                executions += len(found.types)
                assert found.starts[-1] == len(message.traces.rows)
            if type(message) is m.Sample and message.site:
                assert connection.sites[message.site].address is not None
        except ppx.PPXError:
            pass
    assert handshakes > count / 1000
    assert executions > count / 1000


def _decoded(data):
    try:
        return ppx.decode(data)
    except ppx.PPXError:
        return None
