"""PPX 1.0.0 peers, written here with flatc's code for the 1.0.0 schema and bare sockets only, work with ours unchanged.

They are as strict as those that exist: their inference side fails where a string or a vector is absent, their simulator
gives up (here: raises) when anything comes that it did not expect, and neither writes or checks a file identifier.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager

import numpy as np
import official
import pytest
import simulators
import zmq
from inference import MODES, PATIENCE, connected, execute, expected, numbers_of, prior
from simulators import front_end, simulator

import ppl_jax as ppl
import ppl_jax.distributions as dist
import ppx
from ppx import messages as m
from ppx.positions import PositionedStream

SEED = 3
OURS = {  # how distributions are called on the wire, in the words of ppl_jax
    name: getattr(dist, name) for name in official.PARAMETERS if official.FAMILIES.index(name) < 11
}


@pytest.fixture(scope="module", autouse=True)
def _generated(tmp_path_factory):
    official.generate(official.SCHEMA_1_0_0, "plain", tmp_path_factory.mktemp("generated"))


def table(kind, /, **fields):
    return official.make("plain", kind, **fields)


def tensor(value, scalar=()):
    array = np.asarray(value, dtype=float)
    return table("Tensor", data=array.ravel().tolist(), shape=list(array.shape or scalar))


def value_of(tensor_table):
    """As an existing inference side decodes: both vectors must be there; empty data is None, shape [] one dimension."""
    data, shape = np.array(tensor_table.data, dtype=float), list(tensor_table.shape)
    assert tensor_table.data is not None
    assert tensor_table.shape is not None
    return None if len(data) == 0 else data.reshape(shape) if shape else data


# -- an inference side of 1.0.0 ---------------------------------------------------------------------------------------


class PlainInference:
    """REQ socket, one message for each statement."""

    def __init__(self, endpoint, scalar):
        self.scalar = scalar
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.REQ)
        self.socket.set(zmq.LINGER, 100)
        self.socket.connect(endpoint)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.socket.close()
        self.context.term()

    def request(self, body):
        self.socket.send(official.pack("plain", body))
        assert self.socket.poll(1000 * PATIENCE)
        data = self.socket.recv()
        assert data[4:8] != b"PPXF"
        return official.unpack("plain", data)

    def handshake(self):
        answer = self.request(table("Handshake", system_name="pyprob 1.0.0"))
        return answer.systemName.decode(), answer.modelName.decode()

    def distribution(self, message):
        family = official.FAMILIES[message.distributionType - 1]
        parameters = []
        for name in official.PARAMETERS[family].split():
            first, *rest = name.split("_")
            found = value_of(getattr(message.distribution, first + "".join(word.capitalize() for word in rest)))
            parameters.append(found.item() if found.size == 1 and family != "Categorical" else found)
        return OURS[family](*parameters)

    def run(self, rng):
        """One execution: (kind, address, name, distribution, value, control) of each statement, and the result."""
        statements, message = [], self.request(table("Run"))
        while True:
            kind = type(message).__name__
            if kind == "RunResultT":
                return statements, None if message.result is None else value_of(message.result)
            assert kind in ("SampleT", "ObserveT", "TagT"), kind
            address, name, made, control = message.address.decode(), message.name.decode(), None, True
            if kind == "SampleT":
                made, control = self.distribution(message), bool(message.control)
                value = made.sample(rng)
                reply = table("SampleResult", result=tensor(value, self.scalar))
            elif kind == "ObserveT":
                made = self.distribution(message)
                value = made.sample(rng) if message.value is None else value_of(message.value)
                reply = table("ObserveResult")
            else:
                value, reply = value_of(message.value), table("TagResult")
            statements.append((kind[:-1].lower(), address, name, made, numbers_of(value), control))
            message = self.request(reply)


def as_statements(trace):
    found = []
    for visit, site in zip(expected(trace), trace.sites, strict=True):
        found.append((visit.kind, visit.address, visit.name, site.distribution, visit.value, visit.control))
    return found


@pytest.mark.parametrize("scalar", [(), (1,)], ids=["[]", "[1]"])
@pytest.mark.parametrize("name", ["gum", "branching", "hidden_markov", "everything", "rejection"])
def test_an_inference_side_of_1_0_0_drives_our_front_end(name, scalar):
    model = getattr(simulators, name)
    with front_end(model) as served, PlainInference(served.endpoint, scalar) as theirs:
        assert theirs.handshake() == ("ppx-python", model.__name__)
        here = simulators.every_pass if name == "rejection" else model  # 1.0.0 knows no scopes
        for index, trace in enumerate(prior(here, SEED, 10)):
            statements, result = theirs.run(PositionedStream(SEED, index))
            assert statements == as_statements(trace)
            assert numbers_of(result) == numbers_of(trace.result)


def test_a_front_end_in_its_own_process_without_a_handshake(tmp_path):
    with simulator("gum", f"ipc://{tmp_path}/s") as peer, PlainInference(peer.endpoint, (1,)) as theirs:
        (trace,) = prior(simulators.gum, SEED, 1)
        assert theirs.run(PositionedStream(SEED, 0))[0] == as_statements(trace)
        assert theirs.handshake()[1] == "gum"


def test_a_model_without_a_result_sends_none():
    with front_end(lambda: None, name="empty") as served, PlainInference(served.endpoint, ()) as theirs:
        assert theirs.run(None) == ([], None)


def test_what_1_0_0_does_not_expect_is_a_reset_as_it_knows_it():
    """Idle: for anything but Handshake and Run; also where the model fails, for want of an error message."""
    with front_end(simulators.fails) as served, PlainInference(served.endpoint, ()) as theirs:
        assert type(theirs.request(table("SampleResult", result=tensor(1.0)))).__name__ == "ResetT"
        assert type(theirs.request(table("Run"))).__name__ == "SampleT"
        assert type(theirs.request(table("SampleResult", result=tensor(0.1)))).__name__ == "ResetT"
        assert type(theirs.request(table("Run"))).__name__ == "SampleT"
        assert type(theirs.request(table("SampleResult", result=tensor(0.5)))).__name__ == "RunResultT"
        assert theirs.handshake()[1] == "fails"


# -- a simulator of 1.0.0 ---------------------------------------------------------------------------------------------


class PlainSimulator:
    """REP socket; serves a model that calls ``sample``, ``observe`` and ``tag``; gives up at anything unexpected."""

    def __init__(self, model, scalar, identifier=False, absent=False):
        self.model, self.scalar, self.identifier, self.absent = model, scalar, identifier, absent
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.REP)
        self.socket.set(zmq.LINGER, 0)
        self.socket.bind("ipc://*")
        self.endpoint = self.socket.get(zmq.LAST_ENDPOINT).decode().rstrip("\0")
        self.failure = None
        self.handshakes = []
        self.stopped = threading.Event()

    def put(self, body):
        self.socket.send(official.pack("plain", body, self.identifier))

    def get(self):
        while not self.socket.poll(20):
            if self.stopped.is_set():
                raise StopIteration
        return official.unpack("plain", self.socket.recv())

    def serve(self):
        try:
            while True:
                message = self.get()
                kind = type(message).__name__
                if kind == "HandshakeT":
                    self.handshakes.append(message.systemName.decode())  # fails on an absent name, as they do
                    self.put(table("HandshakeResult", system_name="pyprob_cpp 1.0.0", model_name="theirs"))
                elif kind == "RunT":
                    result = self.model(self)
                    self.put(table("RunResult", result=tensor(result, self.scalar)))
                else:
                    self.put(table("Reset"))
        except StopIteration:
            pass
        except BaseException as error:
            self.failure = error
        finally:
            self.socket.close()
            self.context.term()

    def distribution(self, made):
        family = made.family
        numbers = [getattr(made, name) for name in made.parameters]
        tensors = [tensor(number, self.scalar) for number in numbers]
        fields = dict(zip(official.PARAMETERS[family].split(), tensors, strict=True))
        return {"distribution_type": official.FAMILIES.index(family) + 1, "distribution": table(family, **fields)}

    def text(self, text):
        return None if self.absent and not text else text

    def sample(self, made, address, name="", control=True):
        fields = self.distribution(made)
        self.put(table("Sample", address=self.text(address), name=self.text(name), control=control, **fields))
        answer = self.get()
        assert type(answer).__name__ == "SampleResultT", answer
        assert list(answer.result.shape) == list(made.shape)
        value = np.array(answer.result.data).reshape(made.shape)
        return value if made.shape else value.item()

    def observe(self, made, address, name, value=None):
        fields = {} if value is None else {"value": tensor(value, self.scalar)}
        self.put(table("Observe", address=address, name=self.text(name), **self.distribution(made), **fields))
        assert type(self.get()).__name__ == "ObserveResultT"

    def tag(self, address, name, value):
        self.put(table("Tag", address=address, name=self.text(name), value=tensor(value, self.scalar)))
        assert type(self.get()).__name__ == "TagResultT"


@contextmanager
def plain_simulator(model, scalar=(), **options):
    peer = PlainSimulator(model, scalar, **options)
    thread = threading.Thread(target=peer.serve)
    thread.start()
    try:
        yield peer
    finally:
        peer.stopped.set()
        thread.join()
    assert peer.failure is None, repr(peer.failure)


def their_model(peer):
    mu = peer.sample(dist.Normal(1.0, 2.0), "[forward()+0xd4]", "mu")
    for _ in range(3):
        peer.sample(dist.Uniform(0.0, 1.0), "[forward()+0xe0]", control=False)
    k = peer.sample(dist.Categorical([0.2, 0.3, 0.5]), "[forward()+0x100]", "k")
    peer.sample(dist.Categorical([1.0]), "[forward()+0x108]")
    vector = peer.sample(dist.Normal([0.0, mu, k], [1.0, 2.0, 3.0]), "[forward()+0x110]", "vector")
    for family, numbers in (
        ("Poisson", [3.0]), ("Bernoulli", [0.3]), ("Beta", [2.0, 0.5]), ("Exponential", [2.0]), ("Gamma", [3.0, 2.0]),
        ("LogNormal", [0.0, 1.0]), ("Binomial", [10.0, 0.7]), ("Weibull", [2.0, 1.5]),
    ):  # fmt: skip
        peer.sample(OURS[family](*numbers), f"[{family}()+0x1]")
    peer.observe(dist.Normal(mu, 1.0), "[forward()+0x200]", "asked")
    peer.observe(dist.Normal(vector, 1.0), "[forward()+0x210]", "given", [1.0, 2.0, 3.0])
    peer.tag("[forward()+0x220]", "grid", np.arange(4.0).reshape(2, 2))
    return vector[0] + mu


class Twin:
    """The same statements, in ppl_jax."""

    def sample(self, made, address, name="", control=True):
        return ppl.sample(made, name or None, address=address, control=control)

    def observe(self, made, address, name, value=None):
        ppl.observe(made, value, name, address=address)

    def tag(self, address, name, value):
        ppl.tag(value, name, address=address)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("scalar", "identifier", "absent"),
    [((), False, False), ((1,), False, False), ((), True, False), ((1,), False, True)],
)
def test_a_simulator_of_1_0_0_is_driven_by_our_connection(mode, scalar, identifier, absent):
    """Whatever we announce: nothing is agreed on, and every trace is that of the twin."""
    with (
        plain_simulator(their_model, scalar, identifier=identifier, absent=absent) as peer,
        connected(peer.endpoint, MODES[mode]) as mine,
    ):
        assert mine.active == 0
        assert mine.peer == m.HandshakeResult("pyprob_cpp 1.0.0", "theirs")
        assert peer.handshakes == ["ppl_jax"]
        for index, trace in enumerate(prior(lambda: their_model(Twin()), SEED, 5)):
            found = execute(mine, rng=PositionedStream(SEED, index))
            assert found.visits == expected(trace)
            assert found.result == numbers_of(trace.result)


def test_a_reset_and_an_unknown_answer_reach_the_caller():
    with plain_simulator(their_model) as peer, connected(peer.endpoint) as mine:
        assert mine.request(m.TagResult(), PATIENCE) == m.Reset()
        mine.handshake(PATIENCE)


def test_a_handshake_answered_by_something_else():
    class Refusing(PlainSimulator):
        def serve(self):
            self.get()
            self.put(table("Reset"))
            self.socket.close()
            self.context.term()

    peer = Refusing(None, ())
    thread = threading.Thread(target=peer.serve)
    thread.start()
    with ppx.Connection(peer.endpoint) as mine, pytest.raises(ppx.OutOfState, match="answered a Handshake with Reset"):
        mine.handshake(PATIENCE)
    thread.join()


def test_a_reset_says_why_where_the_simulator_runs(capfd):
    """PPX 1.0.0 has no message for a reason, so that it is printed."""
    with front_end(simulators.fails) as served, PlainInference(served.endpoint, ()) as theirs:
        assert type(theirs.request(table("Run"))).__name__ == "SampleT"
        assert type(theirs.request(table("SampleResult", result=tensor(0.1)))).__name__ == "ResetT"
    told = capfd.readouterr().err
    assert "ValueError: no luck with 0.1 (" in told
    assert "(at simulators:fails" in told
    assert "answered with Reset" in told
