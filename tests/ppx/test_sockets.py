"""The ZeroMQ ends of a connection: deaths, time-outs, files, limits and encryption."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import zmq
from simulators import front_end, gum, simulator

import ppx
from ppx import messages as m
from ppx import sockets

NO_MAILBOX = ppx.ALL_CAPABILITIES & ~ppx.Capability.SHARED_MEMORY


def connected(endpoint, **options):
    connection = ppx.Connection(endpoint, **options)
    connection.handshake(30.0)
    return connection


@pytest.fixture(params=["socket", "mailbox"])
def capabilities(request):
    """Both transports."""
    return NO_MAILBOX if request.param == "socket" else ppx.ALL_CAPABILITIES


@pytest.fixture(params=[pytest.param("socket", marks=pytest.mark.slow), "mailbox"])
def slow_capabilities(request):
    """Both transports, one of them only in the deep checks: every process that is started takes its time."""
    return NO_MAILBOX if request.param == "socket" else ppx.ALL_CAPABILITIES


# -- dead peers -------------------------------------------------------------------------------------------------------


def test_a_simulator_that_is_killed_while_it_computes_is_noticed(tmp_path, capabilities):
    with simulator("busy", f"ipc://{tmp_path}/s") as peer, connected(peer.endpoint, capabilities=capabilities) as mine:
        assert type(mine.request(m.Run(), 30.0)) is m.Sample
        mine.send(m.SampleResult((), (0.0,)))
        assert mine.receive(0.05) is None
        killer = threading.Timer(0.2, peer.process.kill)
        killer.start()
        with pytest.raises(ppx.PeerLost, match="died"):
            mine.receive(60.0)
        killer.join()


def test_a_simulator_that_died_between_two_messages_is_noticed(tmp_path, capabilities):
    with simulator("gum", f"ipc://{tmp_path}/s") as peer, connected(peer.endpoint, capabilities=capabilities) as mine:
        assert type(mine.request(m.Run(), 30.0)) is m.Sample
        peer.process.kill()
        peer.process.wait()
        time.sleep(0.1)
        with pytest.raises(ppx.PeerLost, match="died"):
            mine.request(m.SampleResult((), (0.0,)), 60.0)


def test_a_connection_begins_anew_with_a_simulator_that_was_started_again(tmp_path, slow_capabilities):
    endpoint = f"ipc://{tmp_path}/s"
    mine = ppx.Connection(endpoint, capabilities=slow_capabilities)
    with mine:
        for _ in range(2):
            with simulator("gum", endpoint):
                mine.handshake(30.0)
                assert mine.active == slow_capabilities
                assert type(mine.request(m.Run(), 30.0)) is m.Sample
            with pytest.raises(ppx.PeerLost):
                mine.request(m.SampleResult((), (0.0,)), 60.0)


def test_over_tcp_too():
    with front_end(gum, "tcp://127.0.0.1:*") as served, connected(served.endpoint) as mine:
        assert served.endpoint.startswith("tcp://127.0.0.1:")
        assert type(mine.request(m.Run(), 30.0)) is m.Sample


def test_a_front_end_serves_the_next_after_an_inference_side_was_killed(tmp_path, slow_capabilities):
    """Killed in the middle of an execution, on both transports."""
    script = (
        "import sys, ppx; from ppx import messages as m\n"
        "c = ppx.Connection(sys.argv[1], capabilities=ppx.Capability(int(sys.argv[2]))); c.handshake(30.0)\n"
        "print(type(c.request(m.Run(), 30.0)).__name__, flush=True); sys.stdin.read()"
    )
    with simulator("gum", f"ipc://{tmp_path}/s") as peer:
        for _ in range(2):
            command = [sys.executable, "-c", script, peer.endpoint, str(int(slow_capabilities))]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            with subprocess.Popen(command, cwd=Path(__file__).resolve().parents[2], text=True, **pipes) as other:
                assert other.stdout.readline() == "Sample\n"
                other.kill()
            with connected(peer.endpoint, capabilities=slow_capabilities) as mine:
                assert type(mine.request(m.Run(), 30.0)) is m.Sample
                assert type(mine.request(m.SampleResult((), (0.0,)), 30.0)) is m.RunResult
        assert peer.process.poll() is None


# -- time-outs --------------------------------------------------------------------------------------------------------


def test_nobody_there(tmp_path):
    with ppx.Connection(f"ipc://{tmp_path}/nobody") as mine:
        with pytest.raises(ppx.PeerLost, match=r"no simulator answered at ipc://.*/nobody in 0\.05 s"):
            mine.handshake(0.05)
        with pytest.raises(ppx.PeerLost, match="no simulator answered"):
            mine.handshake(interrupted=lambda: True)


def test_a_simulator_may_be_started_after_the_connection(tmp_path):
    endpoint = f"ipc://{tmp_path}/late"
    with ppx.Connection(endpoint) as mine, simulator("gum", endpoint):
        assert mine.handshake(30.0).model_name == "gum"


def test_after_a_time_out_a_handshake_begins_anew(tmp_path, slow_capabilities):
    endpoint = f"ipc://{tmp_path}/s"
    with simulator("gum", endpoint) as peer, connected(endpoint, capabilities=slow_capabilities) as mine:
        for _ in range(2):
            assert type(mine.request(m.Run(), 30.0)) is m.Sample
            os.kill(peer.pid, signal.SIGSTOP)
            assert mine.request(m.SampleResult((), (0.0,)), 0.05) is None
            with pytest.raises(ppx.OutOfState, match="did not come yet"):
                mine.send(m.Run())
            os.kill(peer.pid, signal.SIGCONT)
            mine.handshake(30.0)
            assert mine.active == slow_capabilities
            assert len(mine.sites) == 0


def test_an_endpoint_that_is_none():
    for make in (ppx.Connection, lambda endpoint: ppx.FrontEnd(gum, endpoint)):
        with pytest.raises(zmq.ZMQError):
            make("nonsense")


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "number"), [("gum", signal.SIGTERM), ("busy", signal.SIGINT), ("deaf", signal.SIGTERM)]
)
def test_a_signal_ends_a_front_end_and_removes_its_file(tmp_path, number, model):
    """While it waits, within a model, and within a model that catches everything."""
    endpoint = f"ipc://{tmp_path}/s"
    with simulator(model, endpoint) as peer, connected(endpoint) as mine:
        assert stat.S_ISSOCK(os.stat(tmp_path / "s").st_mode)
        if model != "gum":
            assert type(mine.request(m.Run(), 30.0)) is m.Sample
            mine.send(m.SampleResult((), (0.0,)))
            assert mine.receive(0.1) is None
        peer.process.send_signal(number)
        assert peer.process.wait(30.0) == 0
        assert os.listdir(tmp_path) == []
        with pytest.raises(ppx.PeerLost):
            mine.request(m.Run(), 30.0) if model == "gum" else mine.receive(30.0)


def test_a_front_end_stops_with_the_process_that_started_it(tmp_path):
    """If it was told to: here by the environment, as RemoteModel does."""
    endpoint = f"ipc://{tmp_path}/s"
    command = [sys.executable, str(Path(__file__).with_name("simulators.py")), "gum", endpoint]
    starter = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:]).pid, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", starter, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PPX_STOP_WITH_PARENT": "1"},
    ) as parent:  # fmt: skip
        served = psutil.Process(int(parent.stdout.readline()))
        with connected(endpoint) as mine:
            assert type(mine.request(m.Run(), 30.0)) is m.Sample
            parent.kill()
            parent.wait()
            assert served.wait(30.0) is None  # not our child: there is no status
    assert os.listdir(tmp_path) == []


def test_a_file_that_somebody_else_made_meanwhile_stays(tmp_path):
    served = ppx.FrontEnd(gum, f"ipc://{tmp_path}/s")
    os.unlink(tmp_path / "s")
    (tmp_path / "s").write_text("theirs")
    served.close()
    assert (tmp_path / "s").read_text() == "theirs"


def test_closing_twice_and_abstract_endpoints():
    served = ppx.FrontEnd(gum, "ipc://@ppx-test-of-abstract-endpoints")
    with connected_later(served) as mine:
        assert mine.peer.model_name == "gum"
    served.close()
    served.close()


def connected_later(served):
    thread = threading.Thread(target=served.serve)
    thread.start()
    mine = connected(served.endpoint)
    served.stop()
    thread.join()
    return mine


# -- limits -----------------------------------------------------------------------------------------------------------


def test_messages_that_are_too_long_cut_the_connection_not_the_memory():
    """By ZeroMQ's own limit, set on both ends; a front end goes on with the next connection."""
    with front_end(gum) as served:
        context = zmq.Context()
        raw = context.socket(zmq.REQ)
        raw.set(zmq.LINGER, 0)
        raw.connect(served.endpoint)
        raw.send(bytes((64 << 20) + 1))
        assert raw.poll(300) == 0
        raw.close()
        context.term()
        with connected(served.endpoint) as mine:
            assert type(mine.request(m.Run(), 30.0)) is m.Sample


def test_a_front_end_that_sends_too_much_is_lost():
    context = zmq.Context()
    raw = context.socket(zmq.REP)
    raw.set(zmq.LINGER, 0)
    raw.bind("ipc://*")
    endpoint = raw.get(zmq.LAST_ENDPOINT).decode().rstrip("\0")

    def serve():
        raw.recv()
        raw.send(ppx.encode(m.HandshakeResult("x", "y")))
        raw.recv()
        raw.send(bytes((64 << 20) + 1))

    thread = threading.Thread(target=serve)
    thread.start()
    with connected(endpoint) as mine, pytest.raises(ppx.PeerLost, match="closed the connection"):
        mine.request(m.Run(), 30.0)
    thread.join()
    raw.close()
    context.term()


def test_messages_of_several_frames_are_refused():
    with front_end(gum) as served:
        context = zmq.Context()
        raw = context.socket(zmq.REQ)
        raw.connect(served.endpoint)
        raw.send_multipart([ppx.encode(m.Handshake("x", 2, 1)), b"more"])
        assert type(ppx.decode(raw.recv())) is m.Reset
        raw.send(ppx.encode(m.Handshake("x", 2, 1)))
        assert ppx.decode(raw.recv()).capabilities == 1
        raw.send_multipart([ppx.encode(m.Run())] * 3)
        assert ppx.decode(raw.recv()).code == ppx.ErrorCode.MALFORMED
        raw.close()
        context.term()


def test_a_silent_network_is_noticed_by_heartbeats(monkeypatch):
    """A peer that is stopped, as by a cable that is cut: nothing closes the connection, only the heartbeats fail."""
    monkeypatch.setattr(sockets, "HEARTBEAT", 50)
    monkeypatch.setattr(sockets, "SILENCE", 150)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    endpoint = f"tcp://127.0.0.1:{port}"
    with simulator("gum", endpoint) as peer, connected(endpoint, capabilities=NO_MAILBOX) as mine:
        os.kill(peer.pid, signal.SIGSTOP)
        with pytest.raises(ppx.PeerLost, match="closed the connection or died"):
            mine.request(m.Run(), 30.0)


def test_a_simulator_on_the_same_machine_may_be_silent(tmp_path, monkeypatch):
    """Stopped in a debugger, say: the connection stands, and nobody asked for a time-out."""
    monkeypatch.setattr(sockets, "HEARTBEAT", 20)
    monkeypatch.setattr(sockets, "SILENCE", 60)
    with simulator("gum", f"ipc://{tmp_path}/s") as peer, connected(peer.endpoint, capabilities=NO_MAILBOX) as mine:
        os.kill(peer.pid, signal.SIGSTOP)
        assert mine.request(m.Run(), 0.5) is None
        os.kill(peer.pid, signal.SIGCONT)
        assert type(mine.receive(30.0)) is m.Sample


# -- encryption -------------------------------------------------------------------------------------------------------


@pytest.fixture
def keys():
    if not zmq.has("curve"):
        pytest.skip("this ZeroMQ has no CURVE")
    return zmq.curve_keypair()


def test_an_encrypted_connection(keys):
    with front_end(gum, "tcp://127.0.0.1:*", curve=keys) as served:
        for curve in (None, zmq.curve_keypair()):
            with connected(served.endpoint, server_key=keys[0], curve=curve) as mine:
                assert type(mine.request(m.Run(), 30.0)) is m.Sample


def test_another_key_is_refused(keys):
    other, _ = zmq.curve_keypair()
    with front_end(gum, "tcp://127.0.0.1:*", curve=keys) as served:
        with ppx.Connection(served.endpoint, server_key=other) as mine, pytest.raises(ppx.PeerLost):
            mine.handshake(5.0)
        with connected(served.endpoint, server_key=keys[0]) as mine:
            assert mine.peer.model_name == "gum"


def test_without_a_key_nothing_is_heard(keys):
    with (
        front_end(gum, "tcp://127.0.0.1:*", curve=keys) as served,
        ppx.Connection(served.endpoint) as mine,
        pytest.raises(ppx.PeerLost),
    ):
        mine.handshake(5.0)


def test_a_front_end_without_a_key_is_not_trusted(keys):
    with (
        front_end(gum, "tcp://127.0.0.1:*") as served,
        ppx.Connection(served.endpoint, server_key=keys[0]) as mine,
        pytest.raises(ppx.PeerLost),
    ):
        mine.handshake(5.0)


def test_default_endpoints_are_of_this_machine():
    import inspect

    from ppl_jax.serving import frontend

    assert inspect.signature(ppx.serve).parameters["endpoint"].default == frontend.DEFAULT_ENDPOINT
    assert inspect.signature(ppx.FrontEnd).parameters["endpoint"].default == "tcp://127.0.0.1:5555"
