"""Under a network, simulators draw nuisances by themselves: fewer messages, and nothing else changes."""

import math
import sys
from functools import cache

import numpy as np
import pytest
import remote_programs
from infer.test_compiled import untrained
from remote_programs import NOISY_DATA
from remote_simulators import HERE, MODES, WAIT, simulator
from test_remote_forks import Killer, connect_all, values

import ppl_jax as ppl
from ppl_jax import handlers
from ppl_jax.errors import RemoteParameterError
from ppl_jax.nn import LSTM, FeedForward
from ppl_jax.remote.statements import Statement
from ppl_jax.streams import CountedStream, Stream
from ppx import messages as m
from ppx.connection import Connection
from ppx.constants import SiteKind

sys.path.append(str(HERE.parent / "ppx"))
from cpp_front_end import built

pytestmark = pytest.mark.usefixtures("nothing_left")


@cache
def network(program):
    """One that proposes for the draws of a program of remote_programs.py."""
    return untrained(getattr(remote_programs, program), LSTM(8))


@cache
def track_network():
    """One for the simulator track in C++."""
    with track() as model:
        return untrained(model, FeedForward(8, 1))


@pytest.fixture(scope="module", autouse=True)
def trained():
    """Before descriptors and threads are counted."""
    track_network()
    guided(remote_programs.noisy, network("noisy"), 5)


@pytest.fixture
def messages(monkeypatch):
    """The messages that are sent."""
    sent = []
    send = Connection.send

    def recording(connection, message):
        sent.append(message)
        return send(connection, message)

    monkeypatch.setattr(Connection, "send", recording)
    return sent


def track(**options):
    """The example in C++: nuisances in rejection scopes between draws that are proposed for."""
    return ppl.RemoteModel(command=[str(built("track")), "{endpoint}"], timeout=WAIT, **options)


def answers(messages, shape=None):
    """How many draws were asked for, of any shape or of this one."""
    return sum(type(message) is m.SampleResult and shape in (None, message.shape) for message in messages)


TRACK_DATA = {f"hit {plane}": 2.0 * plane for plane in range(8)}


def guided(model, proposal, number, data=NOISY_DATA, seed=3, **options):
    return ppl.importance_sampling(model, data, number, proposal=proposal, seed=seed, progress=False, **options)


def contents(posterior):
    """All that traces hold, and the log weights."""
    return [
        (
            [
                (s.kind, s.address, s.instance, s.name, np.ravel(s.value).tolist(), s.control, s.observed)
                for s in trace.sites
            ],
            [site.distribution for site in trace.sites],
            np.ravel(trace.result).tolist(),
        )
        for trace in posterior
    ], posterior.log_weights.tolist()


# -- the same, by fewer messages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["shared memory", pytest.param("sockets", marks=pytest.mark.slow)])
def test_importance_sampling(mode, messages):
    """As of the program here, and as where a handler is to see every draw, which are messages then."""
    how, options = MODES[mode]
    number = 60
    expected = contents(guided(remote_programs.noisy, network("noisy"), number, fresh_loops=0))
    with simulator("noisy", *how, **options) as model:
        assert contents(guided(model, network("noisy"), number)) == expected
        asked = answers(messages)
        messages.clear()
        assert contents(guided(handlers.trace(model), network("noisy"), number)) == expected
        assert asked < 0.6 * answers(messages)
        passes = answers(messages, (2,)) - number  # every pass has one such array, and so has every trace
        messages.clear()
        again = guided(model, network("noisy"), number)
        assert contents(again) == expected
    # Now the program is known. Nothing but what is controlled and outside scopes, or "corner", is asked for.
    steps = sum(site.name == "step" for trace in again for site in trace.sites)
    assert answers(messages) == 3 * number + steps + passes
    assert sum(type(message) is m.Run for message in messages) == number


def test_simulators_in_cpp(messages):
    """Seven or so draws a trace are proposed for, and the loops of eight planes are the simulator's."""
    number = 100
    with track() as model:
        by_draws = contents(guided(handlers.trace(model), track_network(), number, TRACK_DATA))
        asked = answers(messages)
        guided(model, track_network(), 3, TRACK_DATA)
        messages.clear()
        found = guided(model, track_network(), number, TRACK_DATA)
    assert contents(found) == by_draws
    controlled = sum(site.control for trace in found for site in trace.sites)
    assert answers(messages) == controlled < asked / 2


@pytest.mark.parametrize("mode", ["1.0.0 here", pytest.param("1.0.0 there", marks=pytest.mark.slow)])
def test_simulators_that_ask_for_everything(mode, messages):
    """Front ends of PPX 1.0.0 know no Run with draws, and no scopes: every draw is a message."""
    how, options = MODES[mode]
    with simulator("healthy_noise", *how, **options) as model:
        found = contents(guided(model, network("healthy_noise"), 40, {"data": 1.0}))
    assert found == contents(guided(remote_programs.healthy_noise, network("healthy_noise"), 40, {"data": 1.0}))
    assert answers(messages) == 3 * 40


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 3])
def test_the_kernel_of_chains(processes, messages):
    """Of new executions in chains the nuisances are the simulator's, too; what is accepted is drawn afterwards."""
    settings = {"burn_in": 5, "num_chains": 2, "proposal_share": 1.0, "seed": 4, "progress": False}

    def chains(model):
        return ppl.metropolis_hastings(model, NOISY_DATA, 60, proposal=network("noisy"), **settings)

    expected = contents(chains(remote_programs.noisy))
    with simulator("noisy", num_processes=processes) as model:
        assert contents(chains(model)) == expected
        asked = answers(messages)
        messages.clear()
        assert contents(chains(handlers.trace(model))) == expected
    assert asked < 0.7 * answers(messages)


@pytest.mark.parametrize("processes", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_draw_in_a_scope_and_outside_of_it(processes):
    """An execution that meets it outside for the first time is done again: there it is the network's."""
    net, data = network("here_and_there"), {"data": 0.4}
    expected = contents(guided(remote_programs.here_and_there, net, 80, data, fresh_loops=0))
    with simulator("here_and_there", num_processes=processes) as model:
        found = guided(model, net, 80, data)
    assert contents(found) == expected
    outside = [len([s for s in trace.sites if s.address == "unit"]) == 2 for trace in found]
    assert not outside[0]
    assert any(outside)


@pytest.mark.slow
def test_fresh_loops_are_asked_for():
    options = {"fresh_loops": 2, "number": 12}
    expected = contents(guided(remote_programs.noisy, network("noisy"), **options))
    with simulator("noisy") as model:
        assert contents(guided(model, network("noisy"), **options)) == expected


@pytest.mark.slow
def test_engines_take_turns():
    """What one has told a simulator to ask for does not hold for the next."""
    engines = (
        lambda model, **options: guided(model, network("noisy"), 20, **options),
        lambda model, **_: ppl.importance_sampling(model, NOISY_DATA, 20, seed=1, progress=False),
        lambda model, **_: ppl.metropolis_hastings(model, NOISY_DATA, 20, burn_in=0, seed=2, progress=False),
    )
    expected = [values(engine(remote_programs.noisy, fresh_loops=0)) for engine in engines]
    with simulator("noisy") as model:
        for _ in range(2):
            assert [values(engine(model)) for engine in engines] == expected


# -- faults ------------------------------------------------------------------------------------------------------------


def test_a_simulator_that_dies_between(tmp_path, monkeypatch):
    """Another one, which knows no site yet, is brought to where it was."""
    expected = contents(guided(remote_programs.noisy, network("noisy"), 60, fresh_loops=0))
    marker = tmp_path / "died"
    monkeypatch.setenv("PPX_TEST_MARKER", str(marker))
    marker.touch()
    with simulator("noisy") as model:
        guided(model, network("noisy"), 5)  # the program is known
        marker.unlink()
        assert contents(guided(model, network("noisy"), 60)) == expected
    assert marker.exists()


@pytest.mark.slow
def test_simulators_killed_at_random():
    done = 0
    with track(num_processes=3, fork=True, max_failures=1000) as model:
        expected = contents(guided(model, track_network(), 200, TRACK_DATA))
        connect_all(model)
        while done < 20:
            killer = Killer(model, 20 - done)
            killer.start()
            found = guided(model, track_network(), 200, TRACK_DATA)
            killer.stopped.set()
            killer.join()
            done += killer.done
            assert contents(found) == expected


@pytest.mark.slow
def test_another_number_of_nuisances_when_it_is_run_again(tmp_path, monkeypatch):
    """The controlled draw after them has the same prior, but not the same place in the stream."""
    net = network("noisy_and_forgetful")  # before the program may die
    monkeypatch.setenv("PPX_TEST_MARKER", str(tmp_path / "died"))
    with (
        simulator("noisy_and_forgetful") as model,
        pytest.raises(ppl.ModelError, match="did other things when it was run again"),
    ):
        guided(model, net, 40, {"data": 1.0})
    assert (tmp_path / "died").exists()


@pytest.mark.parametrize(("error", "what"), [(ppl.ModelError, "beyond the tables"), (ppl.ObservationError, "rare")])
def test_errors_are_those_of_asking_for_everything(error, what, monkeypatch):
    """The same error, after the same finished traces, and the simulator lives on."""
    net, found = network("noisy_with_faults"), []
    monkeypatch.setenv("PPX_TEST_TOUCHY", "1")

    def failing(model, seed):
        """The error of a run."""
        with pytest.raises((ppl.ModelError, ppl.ObservationError)) as caught:
            guided(model, net, 300, {"data": 0.4}, seed, lockstep=1)
        return caught.value

    here = None
    seed = -1
    while not isinstance(here, error) or len(here.finished) < 3:
        seed += 1
        here = failing(remote_programs.noisy_with_faults, seed)
    with simulator("noisy_with_faults") as model:
        for program in (model, handlers.trace(model), model):
            there = failing(program, seed)
            assert isinstance(there, error)
            assert what in str(there)
            assert contents(there.finished) == contents(here.finished)
            found.append(str(there))
        (pid,) = model.process_ids
        assert len(ppl.prior(model, 1, observations={"noise": 0.5}, seed=3, progress=False)) == 1
        assert model.process_ids == [pid]
    assert found[0] == found[1] == found[2]


# -- streams -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "index"), [(5, 6), (2**64 - 1, 0), (0x0123456789ABCDEF, 0xFEDCBA9876543210)])
def test_a_counted_stream_goes_anywhere(seed, index):
    plain = Stream(seed, index)
    expected = [plain.random() for _ in range(3000)]
    counted = CountedStream(seed, index)
    for position in (0, 3, 16, 15, 17, 2, 1001, 1000, 999, 2500, 0):
        counted.move_to(position)
        assert counted.position == position
        assert [counted.random() for _ in range(40)] == expected[position : position + 40]
        assert counted.position == position + 40


# -- distributions -----------------------------------------------------------------------------------------------------


def test_statements_give_the_same_distribution_for_the_same_numbers_only():
    statement = Statement(m.Site(SiteKind.SAMPLE, "a", "", ("Uniform", (), ()), (), False))
    one = statement.make((0.0, 1.0))
    assert statement.make((0.0, 1.0)) is one
    assert statement.make((0.0, 2.0)).high == 2.0
    assert math.copysign(1.0, statement.make((-0.0, 2.0)).low) == -1.0
    with pytest.raises(RemoteParameterError, match="at a"):
        statement.make((math.nan, 1.0))
