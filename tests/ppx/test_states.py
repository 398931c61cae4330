"""States and errors of the Python front end: what it answers to what, and that it lives on."""

from __future__ import annotations

import numpy as np
import pytest
import simulators
from inference import MODES, PATIENCE, connected, execute, expected, local_prior, prior
from simulators import front_end

import ppl_jax as ppl
import ppl_jax.distributions as dist
import ppx
from ppl_jax.serving.frontend import build_id
from ppx import ErrorCode
from ppx import messages as m

SEED = 3
EXTENDED = ["errors", "sites", "draws", "mailbox"]


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


def ask(connection, message):
    """The answer to a message; definitions are taken in."""
    answer = connection.request(message, PATIENCE)
    assert answer is not None
    if getattr(answer, "traces", None) is not None:
        connection.sites.receive(answer.traces)
    return answer


def is_refused(answer, mode, code):
    """A Reset of 1.0.0, or an Error with this code."""
    return answer == m.Reset() if mode == "1.0.0" else type(answer) is m.Error and answer.code == code


def works(connection):
    """Whether the connection still gives right traces."""
    connection.handshake(PATIENCE)
    trace = prior(simulators.gum, SEED, 1)[0]
    found = execute(connection, rng=ppx.positions.PositionedStream(SEED, 0))
    return [visit.value for visit in found.visits] == [visit.value for visit in expected(trace)]


# -- handshake --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [(0, 0), (1, 1), (2, 2), (4, 0), (5, 5), (8, 0), (9, 1), (12, 0), (13, 13), (15, 15), (16, 0), (2**32 - 1, 47)],
)
def test_capabilities_are_agreed_on_with_their_needs(offered, agreed):
    with front_end(simulators.gum) as served, ppx.Connection(served.endpoint) as mine:
        answer = ask(mine, m.Handshake("x", 2, offered))
        assert (answer.version, answer.capabilities) == (2, agreed)
        assert answer.model_name == "gum"
        answer = ask(mine, m.Handshake("x", 7, offered))
        assert (answer.version, answer.capabilities) == (2, agreed)
        answer = ask(mine, m.Handshake("x", 0, offered))
        assert answer.capabilities == 0


def test_a_front_end_of_1_0_0_announces_nothing():
    with front_end(simulators.gum, capabilities=ppx.Capability(0)) as served, connected(served.endpoint) as mine:
        assert mine.peer == m.HandshakeResult("ppx-python", "gum")
        assert mine.active == 0
        assert type(ask(mine, m.Run())) is m.Sample


@pytest.mark.parametrize("missing", ppx.Capability)
def test_both_sides_leave_out_what_one_lacks(missing):
    rest = ppx.ALL_CAPABILITIES & ~missing
    for here, there in ((rest, ppx.ALL_CAPABILITIES), (ppx.ALL_CAPABILITIES, rest)):
        with front_end(simulators.gum, capabilities=there) as served, connected(served.endpoint, here) as mine:
            assert missing not in mine.active
            assert mine.active == ppx.constants.active(here, there)
            assert works(mine)


def test_the_build_id_is_that_of_the_models_file(tmp_path):
    with front_end(simulators.gum) as served, connected(served.endpoint) as mine:
        first = mine.peer.build_id
        mine.handshake(PATIENCE)
        assert mine.peer.build_id == first != ""
    path = tmp_path / "changing.py"
    found = []
    for text in ("def model(): return 1", "def model():\n    return 1"):
        path.write_text(text)
        space = {}
        exec(compile(text, str(path), "exec"), space)
        found.append(build_id(space["model"]))
    assert found[0] != found[1]
    assert build_id(len) == ""


def test_a_handshake_forgets_sites_and_policy():
    with front_end(simulators.gum) as served, connected(served.endpoint) as mine:
        execute(mine, m.Run(m.Draws(SEED, 0, policy=m.Policy(b"", True))))
        assert len(mine.sites) == 4
        mine.handshake(PATIENCE)
        found = execute(mine, m.Run(m.Draws(SEED, 0)))
        assert found.questions == []
        assert len(mine.sites) == 4


def test_a_run_needs_no_handshake():
    with front_end(simulators.gum) as served, ppx.Connection(served.endpoint) as mine:
        assert ask(mine, m.Run()).layout == ("Normal", (), ())
        assert type(ask(mine, m.SampleResult((), (1.0,)))) is m.Observe


def test_the_mailbox_is_left_out_where_it_fails(monkeypatch):
    with front_end(simulators.gum) as served:
        monkeypatch.setattr(ppx.sockets, "attach", lambda shared: None)
        with connected(served.endpoint) as mine:
            assert mine.active == ppx.Capability(47)
            assert works(mine)
        monkeypatch.undo()
        monkeypatch.setattr(ppx.connection, "create", lambda capacity: None)
        with connected(served.endpoint) as mine:
            assert mine.active == ppx.Capability(47)
        monkeypatch.undo()
        with connected(served.endpoint) as mine:
            assert mine.active == ppx.ALL_CAPABILITIES


# -- states -----------------------------------------------------------------------------------------------------------

OUT_OF_PLACE = [
    m.SampleResult((), (1.0,)), m.ObserveResult(), m.TagResult(), m.Reset(), m.RunResult(), m.HandshakeResult(),
    m.Tag("a"), m.Sample("a", "", ("Delta", ()), (1.0,)), m.Error(1, "x"),
]  # fmt: skip


@pytest.mark.parametrize("message", OUT_OF_PLACE, ids=lambda message: type(message).__name__)
def test_idle_anything_but_handshake_and_run_is_refused(mode, message):
    with front_end(simulators.gum) as served, connected(served.endpoint, MODES[mode]) as mine:
        for _ in range(2):
            assert is_refused(ask(mine, message), mode, ErrorCode.OUT_OF_STATE)
        assert works(mine)


@pytest.mark.parametrize("message", OUT_OF_PLACE[1:8], ids=lambda message: type(message).__name__)
def test_running_what_is_no_answer_unwinds_the_model(mode, message):
    ended = []

    def model():
        try:
            return simulators.gum()
        finally:
            ended.append(True)

    with front_end(model) as served, connected(served.endpoint, MODES[mode]) as mine:
        assert type(ask(mine, m.Run())) is m.Sample
        assert is_refused(ask(mine, message), mode, ErrorCode.OUT_OF_STATE)
        assert ended == [True]
        assert is_refused(ask(mine, m.SampleResult((), (1.0,))), mode, ErrorCode.OUT_OF_STATE)
        assert works(mine)


@pytest.mark.parametrize("statements", range(4))
def test_running_a_run_begins_anew(mode, statements):
    """In the middle of an execution, at any statement; the model is left and entered again."""
    with front_end(simulators.everything) as served, connected(served.endpoint, MODES[mode]) as mine:
        answer = ask(mine, m.Run())
        first = answer
        for _ in range(statements):
            answer = ask(mine, reply_to(mine, answer))
        again = ask(mine, m.Run())
        assert type(again) is m.Sample
        assert again._replace(traces=None) == first._replace(traces=None)


def reply_to(connection, question):
    if type(question) is m.Observe:
        return m.ObserveResult()
    if type(question) is m.Tag:
        return m.TagResult()
    layout = connection.sites[question.site].layout if question.site else question.layout
    shape = (3,) if layout == ("Normal", (3,), (3,)) else ()
    return m.SampleResult(shape, (0.0,) * max(1, sum(shape)))


@pytest.mark.parametrize("again", MODES)
def test_running_a_handshake_begins_anew(mode, again):
    with front_end(simulators.gum) as served, connected(served.endpoint, MODES[mode]) as mine:
        assert type(ask(mine, m.Run())) is m.Sample
        mine.capabilities = MODES[again]
        assert works(mine)
        assert mine.active == MODES[again]


def test_another_inference_side_takes_over_in_the_middle(mode):
    with front_end(simulators.gum) as served, connected(served.endpoint, MODES[mode]) as first:
        assert type(ask(first, m.Run())) is m.Sample
        with connected(served.endpoint, MODES[mode]) as second:
            assert works(second)


def test_a_handshake_through_the_mailbox_is_refused():
    with front_end(simulators.gum) as served, connected(served.endpoint) as mine:
        for begin in (lambda: None, lambda: ask(mine, m.Run())):
            begin()
            answer = ask(mine, m.Handshake("x", 2, 31))
            assert answer.code == ErrorCode.OUT_OF_STATE
            assert "ZeroMQ" in answer.text


@pytest.mark.parametrize("model", ["stubborn", "endless"])
def test_a_model_that_catches_everything_is_left_all_the_same(model, mode):
    served_model = getattr(simulators, model)
    with front_end(served_model) as served, connected(served.endpoint, MODES[mode]) as mine:
        assert type(ask(mine, m.Run())) is m.Sample
        assert is_refused(ask(mine, m.TagResult()), mode, ErrorCode.OUT_OF_STATE)
        assert type(ask(mine, m.Run())) is m.Sample


@pytest.mark.parametrize("value", [(), (1.0, 2.0)])
def test_a_model_cannot_catch_that_an_answer_has_another_size(mode, value):
    with front_end(simulators.stubborn) as served, connected(served.endpoint, MODES[mode]) as mine:
        ask(mine, m.Run())
        answer = ask(mine, m.SampleResult((len(value),) if value else None, value))
        assert is_refused(answer, mode, ErrorCode.MALFORMED)


def test_a_model_cannot_catch_that_a_position_goes_back():
    with front_end(simulators.stubborn) as served, connected(served.endpoint) as mine:
        ask(mine, m.Run(m.Draws(1, 0, 1, 5, m.Policy(b"", True))))
        answer = ask(mine, m.SampleResult((), (1.0,), 4))
        assert [error.code for error in answer.traces.errors] == [ErrorCode.MALFORMED]


# -- bytes ------------------------------------------------------------------------------------------------------------


def send_bytes(connection, data):
    """Raw bytes on the connection's own transport, and the answer."""
    connection._channel.send(data)
    return ppx.decode(connection._channel.receive(PATIENCE))


@pytest.mark.parametrize("running", [False, True])
def test_malformed_bytes_are_answered(mode, running):
    unknown = bytearray(ppx.encode(m.Run()))
    unknown[unknown.index(3, 16)] = 99
    with front_end(simulators.gum) as served, connected(served.endpoint, MODES[mode]) as mine:
        for data, code in ((b"", 1), (b"nonsense", 1), (bytes(64), 1), (bytes(unknown), 3)):
            if running:
                assert type(ask(mine, m.Run())) is m.Sample
            assert is_refused(send_bytes(mine, data), mode, code)
        assert is_refused(ask(mine, m.SampleResult((), (1.0,))), mode, ErrorCode.OUT_OF_STATE)
        assert works(mine)


@pytest.mark.parametrize("value", [(), (1.0, 2.0), (1.0,) * 100])
def test_an_answer_of_another_size_is_malformed(mode, value):
    with front_end(simulators.gum) as served, connected(served.endpoint, MODES[mode]) as mine:
        ask(mine, m.Run())
        answer = ask(mine, m.SampleResult((len(value),) if value else None, value))
        assert is_refused(answer, mode, ErrorCode.MALFORMED)
        if mode != "1.0.0":
            assert answer.address == "programs:gum:1:9"
        assert works(mine)


@pytest.mark.parametrize(
    ("draws", "code", "text"),
    [
        (m.Draws(1, 0, 0), 1, "no executions"),
        (m.Draws(1, 0, 2, 0, m.Policy(b"\x02")), 3, "several executions cannot ask"),
        (m.Draws(1, 0, 2, 0, m.Policy(b"", True)), 3, "several executions cannot ask"),
        (m.Draws(1, 0, 1, 0, None, m.Replay((9,), (1,), (1.0,))), 1, "site 9"),
        (m.Draws(1, 0, 1, 0, None, m.Replay((0,), (1,), (1.0,))), 1, "site 0"),
        (m.Draws(1, 0, 1, 0, None, m.Replay((1,), (1,), ())), 1, "0 values, its sites 1"),
        (m.Draws(1, 0, 1, 0, None, m.Replay((1,), (1,), (1.0, 2.0))), 1, "2 values, its sites 1"),
        (m.Draws(1, 0, 1, 0, None, m.Replay((2**32 - 1,), (1,), (1.0,))), 1, "site 4294967295"),
    ],
)
def test_runs_that_contradict_themselves_are_refused_and_change_nothing(draws, code, text):
    with front_end(simulators.gum) as served, connected(served.endpoint) as mine:
        (before,) = local_prior(mine, SEED, 1)
        answer = ask(mine, m.Run(draws))
        assert type(answer) is m.Error
        assert answer.code == code
        assert text in answer.text
        (after,) = local_prior(mine, SEED, 1, policy=None)
        assert after.visits == before.visits


def test_a_position_that_goes_back_is_malformed():
    with front_end(simulators.gum) as served, connected(served.endpoint) as mine:
        ask(mine, m.Run(m.Draws(1, 0, 1, 5, m.Policy(b"", True))))
        answer = ask(mine, m.SampleResult((), (1.0,), 4))
        assert answer.traces.errors[0].code == ErrorCode.MALFORMED
        assert "cannot go back to 4" in answer.traces.errors[0].text
        for position in (5, 6, 2**63, 2**64 - 1):
            ask(mine, m.Run(m.Draws(1, 0, 1, 5)))
            assert type(ask(mine, m.SampleResult((), (1.0,), position))) is m.RunResult


# -- errors of the model ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["errors", "sites"])
def test_an_exception_fails_the_execution_and_nothing_else(how):
    with front_end(simulators.fails) as served, connected(served.endpoint, MODES[how]) as mine:
        for _ in range(3):
            ask(mine, m.Run())
            answer = ask(mine, m.SampleResult((), (0.125,)))
            assert type(answer) is m.Error
            assert answer.code == ErrorCode.MODEL
            assert "ValueError: no luck with 0.125" in answer.text
            assert "simulators.py, line" in answer.text
            assert answer.address == "simulators:fails:2:8"
            assert execute(mine, answer=lambda site, parameters: (0.5,)).result == (0.5,)


def test_an_exception_without_errors_is_a_reset():
    with front_end(simulators.fails) as served, connected(served.endpoint, MODES["1.0.0"]) as mine:
        ask(mine, m.Run())
        assert ask(mine, m.SampleResult((), (0.125,))) == m.Reset()
        assert execute(mine, answer=lambda site, parameters: (0.5,)).result == (0.5,)


def test_executions_of_a_batch_fail_one_by_one():
    with front_end(simulators.fails) as served, connected(served.endpoint) as mine:
        answer = ask(mine, m.Run(m.Draws(SEED, 0, 300)))
        traces = answer.traces
        draws = [dist.Uniform(0.0, 1.0).sample(ppx.positions.PositionedStream(SEED, k)) for k in range(300)]
        failed = [k for k, x in enumerate(draws) if x < 0.3]
        assert [error.execution for error in traces.errors] == failed
        assert all(
            error.code == ErrorCode.MODEL and str(draws[error.execution]) in error.text for error in traces.errors
        )
        np.testing.assert_array_equal(np.reshape(traces.rows, (-1, 4))[:, 0], [x for x in draws if x >= 0.3])


def test_a_bad_parameter_is_told_with_its_place():
    with front_end(simulators.bad_parameter) as served, connected(served.endpoint, MODES["sites"]) as mine:
        ask(mine, m.Run())
        answer = ask(mine, m.SampleResult((), (-1.5,)))
        assert answer.code == ErrorCode.PARAMETER
        assert "-1.5" in answer.text
        assert "simulators.py, line" in answer.text


def test_sys_exit_does_not_end_the_front_end():
    with front_end(simulators.exits) as served, connected(served.endpoint, MODES["sites"]) as mine:
        for _ in range(2):
            ask(mine, m.Run())
            answer = ask(mine, m.SampleResult((), (1.0,)))
            assert answer.code == ErrorCode.MODEL
            assert "SystemExit" in answer.text


@pytest.mark.parametrize("model", [simulators.unsendable, lambda: ppl.tag("text", name="t")], ids=["result", "tag"])
def test_what_is_no_number_cannot_be_sent(model, mode):
    with front_end(model) as served, connected(served.endpoint, MODES[mode]) as mine:
        answer = execute(mine).last
        assert is_refused(answer, mode, ErrorCode.UNSUPPORTED)
        if mode != "1.0.0":
            assert "only" in answer.text or "cannot be sent" in answer.text


def test_what_the_inference_side_lacks_is_not_sent():
    def factor():
        ppl.factor(-1.0)

    def mixture():
        ppl.sample(dist.Mixture([1.0], [dist.Normal(0.0, 1.0)]))

    def delta_within():
        ppl.sample(dist.Delta(1.0))

    for model, capabilities in ((factor, 3), (mixture, 1), (mixture, 5), (delta_within, 13)):
        with front_end(model) as served, connected(served.endpoint, ppx.Capability(capabilities)) as mine:
            answer = execute(mine).last
            if type(answer) is m.RunResult:
                answer = answer.traces.errors[0]
            assert answer.code == ErrorCode.UNSUPPORTED
            assert "inference side does not support" in answer.text
    for model in (factor, mixture):
        with front_end(model) as served, connected(served.endpoint, MODES["1.0.0"]) as mine:
            assert execute(mine).last == m.Reset()
    with front_end(mixture) as served, connected(served.endpoint, MODES["errors"]) as mine:
        assert type(execute(mine).last) is m.RunResult


def test_distributions_outside_the_protocol_cannot_be_sent(mode):
    import numpyro.distributions as npd

    with (
        front_end(lambda: ppl.sample(npd.SoftLaplace(0.0, 1.0), name="g")) as served,
        connected(served.endpoint, MODES[mode]) as mine,
    ):
        assert is_refused(execute(mine).last, mode, ErrorCode.MODEL) or is_refused(
            execute(mine).last, mode, ErrorCode.UNSUPPORTED
        )


def test_long_texts_are_cut():
    def model():
        raise RuntimeError("x" * 1_000_000)

    with front_end(model) as served, connected(served.endpoint) as mine:
        assert len(ask(mine, m.Run()).text) <= 2_000
        errors = ask(mine, m.Run(m.Draws(1, 0, 100_000))).traces.errors
        assert 100 < len(errors) < 2_000  # about a mebibyte of errors, then the message is sent


# -- abort ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", EXTENDED)
def test_an_error_as_the_answer_gives_the_execution_up(how):
    with front_end(simulators.everything) as served, connected(served.endpoint, MODES[how]) as mine:
        for asked in range(1, 4):
            answer = ask(mine, m.Run())
            for _ in range(asked - 1):
                answer = ask(mine, reply_to(mine, answer))
            answer = ask(mine, m.Error(ErrorCode.ABORTED, "enough"))
            assert answer.code == ErrorCode.ABORTED
            assert "enough" in answer.text
        assert type(ask(mine, m.Run())) is m.Sample


def test_an_aborted_run_with_draws_is_answered_by_an_error():
    with front_end(simulators.plate) as served, connected(served.endpoint) as mine:
        ask(mine, m.Run(m.Draws(1, 0, 1, 0, m.Policy(b"", True))))
        assert ask(mine, m.Error(ErrorCode.ABORTED, "enough")).code == ErrorCode.ABORTED
        found = execute(mine, m.Run(m.Draws(SEED, 0)), ppx.positions.PositionedStream(SEED, 0))
        assert found.visits == expected(prior(simulators.plate, SEED, 1)[0])


# -- limits -----------------------------------------------------------------------------------------------------------


def test_executions_that_do_not_fit_one_message_come_in_several():
    """A mailbox of 1 MiB, executions of 0.8 MB; and of 64 KiB, which hold some hundreds of small ones."""
    with front_end(simulators.large) as served, connected(served.endpoint, capacity=1 << 20) as mine:
        answer = ask(mine, m.Run(m.Draws(SEED, 0, 3, 0, m.Policy())))
        assert len(answer.traces.types) == 1
        assert len(local_prior(mine, SEED, 3)) == 3
    with front_end(simulators.gum) as served, connected(served.endpoint, capacity=65_536) as mine:
        found = local_prior(mine, SEED, 2_000)
        assert [r.visits for r in found[-3:]] == [expected(t) for t in prior(simulators.gum, SEED, 2_000)[-3:]]


def test_an_execution_that_fits_no_message_fails():
    with front_end(simulators.large) as served, connected(served.endpoint, capacity=65_536) as mine:
        for _ in range(2):
            answer = ask(mine, m.Run(m.Draws(SEED, 0, 3, 0, m.Policy())))
            assert [error.code for error in answer.traces.errors] == [ErrorCode.TOO_LARGE]
            assert len(answer.traces.types) == 0
        mine.capacity = 1 << 20
        mine.handshake(PATIENCE)
        assert len(local_prior(mine, SEED, 1)[0].visits) == 100


def test_a_message_of_an_execution_that_does_not_fit_fails_it():
    """A question, and the end: what happened before is too much for them to carry."""

    def model():
        size = ppl.sample(dist.Uniform(0.0, 10_000.0), name="size")
        ppl.tag(np.zeros(int(size)))
        if size > 9_500.0:
            ppl.sample(dist.Normal(0.0, 1.0), name="after")

    with front_end(model) as served, connected(served.endpoint, capacity=65_536) as mine:
        for size, code in ((9_000.0, 7), (100.0, None), (9_999.0, 7), (100.0, None)):
            last = execute(mine, answer=lambda site, parameters, size=size: (size,)).last
            assert getattr(last, "code", None) == code


def test_a_large_execution_among_small_ones_is_left_for_the_next_message():
    def model():
        if ppl.sample(dist.Uniform(0.0, 1.0), name="x") < 0.2:
            ppl.sample(dist.Normal(np.zeros(2_000), 1.0), name="long")

    with front_end(model) as served, connected(served.endpoint, capacity=65_536) as mine:
        found = local_prior(mine, SEED, 100)
        assert [r.visits for r in found] == [expected(trace) for trace in prior(model, SEED, 100)]


def many_addresses():
    """Sixty addresses of 2 kB, of which a mailbox of 64 KiB holds thirty."""
    for k in range(60):
        ppl.sample(dist.Normal(0.0, 1.0), address=f"{k:02}" * 1_000)


def test_definitions_that_do_not_fit_one_message_come_in_several():
    """The executions that bring too many fail; until all are told."""
    with front_end(many_addresses) as served, connected(served.endpoint, capacity=65_536) as mine:
        failures = 0
        while (answer := ask(mine, m.Run(m.Draws(SEED, 0, 1)))).traces.errors:
            assert answer.traces.errors[0].code == ErrorCode.TOO_LARGE
            failures += 1
            assert failures < 5
        assert len(mine.sites) == 61
        (found,) = local_prior(mine, SEED, 1)
        assert found.visits == expected(prior(many_addresses, SEED, 1)[0])


def test_definitions_are_told_bit_by_bit_where_every_draw_is_asked_for():
    with front_end(many_addresses) as served, connected(served.endpoint, MODES["sites"]) as mine:
        assert len(execute(mine).questions) == 60


def test_what_cannot_be_told_at_once_does_not_spoil_what_comes_after():
    """A question that would have to carry sixty new addresses fails; another execution of the same program need not."""
    calls = []

    def model():
        calls.append(None)
        if len(calls) % 2:
            for k in range(60):
                ppl.tag(1.0, address=f"{k:02}" * 1_000)
        ppl.sample(dist.Normal(0.0, 1.0), address="last")

    with front_end(model) as served, connected(served.endpoint, ppx.Capability(23), capacity=65_536) as mine:
        for _ in range(2):
            assert ask(mine, m.Run()).code == ErrorCode.TOO_LARGE
            assert type(execute(mine).last) is m.RunResult


def test_executions_that_are_done_are_sent_before_the_end():
    calls = []

    def model():
        calls.append(None)
        if len(calls) == 6:
            served.stop()
        ppl.sample(dist.Normal(0.0, 1.0))

    with front_end(model) as served, connected(served.endpoint) as mine:
        assert len(ask(mine, m.Run(m.Draws(SEED, 0, 1000))).traces.types) == 5


@pytest.mark.parametrize("how", MODES)
def test_an_address_that_is_too_long_fails_the_execution(how):
    def model():
        ppl.sample(dist.Normal(0.0, 1.0), address="a" * 70_000)

    with front_end(model) as served, connected(served.endpoint, MODES[how]) as mine:
        assert is_refused(execute(mine).last, how, ErrorCode.TOO_LARGE)
        if how in ("draws", "mailbox"):
            (error,) = ask(mine, m.Run(m.Draws(1, 0))).traces.errors
            assert error.code == ErrorCode.TOO_LARGE
        assert type(mine.handshake(PATIENCE)) is m.HandshakeResult
