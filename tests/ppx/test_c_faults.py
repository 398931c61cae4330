"""The C core when something goes wrong: bad messages, models that fail, and the limits of the protocol."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq
from c_core import PATIENCE, connected, simulator
from dialogues import MODES, dialogue, executions, local_prior, request

import ppx
from ppx import messages as m
from ppx.constants import ErrorCode

GARBAGE = [b"", b"\0", b"\0" * 100, b"\xff" * 64, bytes(range(256)), ppx.encode(m.Run())[:-3]]


def say(connection: ppx.Connection, data: bytes):
    """Sends bytes as they are; the answer."""
    connection._channel.send(data)
    answer = connection.receive(PATIENCE)
    assert answer is not None
    return answer


def unknown_body() -> bytes:
    """A Run whose body is of a kind that the protocol does not have."""
    data = bytearray(ppx.encode(m.Run()))
    data[data.index(3, 16)] = 13
    with pytest.raises(ppx.UnsupportedMessage):
        ppx.decode(bytes(data))
    return bytes(data)


# -- bad messages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_bytes_that_are_no_message(mode, tmp_path):
    with connected("gum", tmp_path, capabilities=MODES[mode]) as connection:
        for state in ("idle", "running"):
            for garbage in GARBAGE:
                if state == "running":
                    assert type(request(connection, m.Run())) is m.Sample
                answer = say(connection, garbage)
                if mode == "plain":
                    assert answer == m.Reset()
                else:
                    assert type(answer) is m.Error and answer.code == ErrorCode.MALFORMED and answer.text
        assert type(dialogue(connection, m.Run())[-1]) is m.RunResult


@pytest.mark.parametrize("mode", MODES)
def test_messages_that_are_not_expected(mode, tmp_path):
    unexpected = [m.SampleResult((), (1.0,)), m.ObserveResult(), m.TagResult(), m.Reset(), m.HandshakeResult()]
    unexpected += [m.RunResult(), m.Sample("a", "b", ("Normal", (), ()), (0.0, 1.0)), m.Tag("a", "b", (), (1.0,))]
    with connected("gum", tmp_path, capabilities=MODES[mode]) as connection:
        for state in ("idle", "running"):
            for message in unexpected[state == "running" :]:
                if state == "running":
                    assert type(request(connection, m.Run())) is m.Sample
                answer = request(connection, message)
                if mode == "plain":
                    assert answer == m.Reset()
                else:
                    assert answer.code == ErrorCode.OUT_OF_STATE and type(message).__name__ in answer.text
                    assert answer.address == ("gum:1" if state == "running" else "")
        assert type(dialogue(connection, m.Run())[-1]) is m.RunResult


@pytest.mark.parametrize("mode", MODES)
def test_members_of_unions_that_are_not_known(mode, tmp_path):
    with connected("gum", tmp_path, capabilities=MODES[mode]) as connection:
        for state in ("idle", "running"):
            if state == "running":
                request(connection, m.Run())
            answer = say(connection, unknown_body())
            assert answer == m.Reset() if mode == "plain" else answer.code == ErrorCode.UNSUPPORTED


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "plain"])
def test_an_error_gives_the_execution_up(mode, tmp_path):
    with connected("gum", tmp_path, capabilities=MODES[mode]) as connection:
        idle = request(connection, m.Error(ErrorCode.ABORTED, "nothing runs"))
        assert idle.code == ErrorCode.OUT_OF_STATE
        runs = [m.Run()] if mode in ("errors", "sites") else [m.Run(), m.Run(m.Draws(1, 0, policy=m.Policy(b"", True)))]
        for run in runs:
            assert type(request(connection, run)) is m.Sample
            answer = request(connection, m.Error(ErrorCode.ABORTED, "the user said stöp"))
            assert (answer.code, answer.address) == (ErrorCode.ABORTED, "gum:1")
            assert "the user said stöp" in answer.text
        assert type(dialogue(connection, m.Run())[-1]) is m.RunResult


def test_without_errors_an_error_is_answered_by_reset(tmp_path):
    with connected("gum", tmp_path, capabilities=0) as connection:
        for first in ([], [m.Run()]):
            for message in first:
                request(connection, message)
            assert request(connection, m.Error(ErrorCode.ABORTED)) == m.Reset()


@pytest.mark.parametrize("mode", MODES)
def test_a_run_in_the_middle_of_an_execution_starts_anew(mode, tmp_path):
    with connected("gum", tmp_path, capabilities=MODES[mode]) as connection:
        request(connection, m.Run())
        for _ in range(3):
            assert type(request(connection, m.Run())) is m.Sample
        assert type(dialogue(connection, m.Run())[-1]) is m.RunResult


@pytest.mark.parametrize("mode", MODES)
def test_a_handshake_in_the_middle_of_an_execution_starts_anew(mode, tmp_path):
    """Also from a mailbox to the socket, and to another mailbox: the inference side before is forgotten."""
    with simulator("gum", tmp_path) as (endpoint, _):
        for later in (0, 15, 31):
            with ppx.Connection(endpoint, capabilities=ppx.Capability(MODES[mode])) as first:
                first.handshake(PATIENCE)
                request(first, m.Run())
                with ppx.Connection(endpoint, capabilities=ppx.Capability(later)) as second:
                    if mode != "mailbox":
                        # REQ and REP alternate: the second one's request is served when the first has answered.
                        first.send(m.Handshake("again"))
                        assert type(first.receive(PATIENCE)) is m.HandshakeResult
                    assert second.handshake(PATIENCE).model_name == "gum"
                    said = dialogue(second, m.Run())
                    assert type(said[-1]) is m.RunResult
                    assert bool(later) == any(getattr(part, "site", 0) for part in said)


def test_a_handshake_does_not_travel_through_the_mailbox(tmp_path):
    with connected("gum", tmp_path) as connection:
        answer = request(connection, m.Handshake("again", 2, 31))
        assert (answer.code, connection.active) == (ErrorCode.OUT_OF_STATE, ppx.ALL_CAPABILITIES)
        request(connection, m.Run())
        assert request(connection, m.Handshake("again", 2, 31)).code == ErrorCode.OUT_OF_STATE
        assert type(dialogue(connection, m.Run())[-1]) is m.RunResult


def test_a_message_of_several_frames_is_malformed(tmp_path):
    with simulator("gum", tmp_path) as (endpoint, _), zmq.Context() as context, context.socket(zmq.REQ) as raw:
        raw.connect(endpoint)
        raw.send(ppx.encode(m.Handshake("two frames", 2, 1)))
        assert type(ppx.decode(raw.recv())) is m.HandshakeResult
        raw.send_multipart([ppx.encode(m.Run()), b"", ppx.encode(m.Run())])
        assert ppx.decode(raw.recv()).code == ErrorCode.MALFORMED
        raw.send(ppx.encode(m.Run()))
        assert type(ppx.decode(raw.recv())) is m.Sample


def test_a_run_of_no_executions_is_malformed(tmp_path):
    with connected("gum", tmp_path, capabilities=15) as connection:
        assert request(connection, m.Run(m.Draws(1, 0, 0))).code == ErrorCode.MALFORMED


def test_a_value_of_another_shape(tmp_path):
    """Any shape of as many elements will do; another number of elements will not."""
    with connected("gum", tmp_path, capabilities=15) as connection:
        for shape in ((), (1,), (1, 1)):
            assert len(dialogue(connection, m.Run(), lambda _, s=shape: m.SampleResult(s, (2.0,)))) == 2
        for wrong in (m.SampleResult(None, ()), m.SampleResult((2,), (1.0, 2.0))):
            failed = dialogue(connection, m.Run(), lambda _, w=wrong: w)[-1]
            assert (failed.code, failed.address) == (ErrorCode.MALFORMED, "gum:1")


def test_capabilities_need_each_other_and_bits_beyond_are_unset(tmp_path):
    with connected("gum", tmp_path, capabilities=0) as connection:
        needs = ((4, 0), (8, 0), (12, 0), (9, 1), (13, 13), (5, 5), (2, 2), (32, 0), (34, 34), (2**32 - 1, 47))
        for offered, active in needs:
            answer = request(connection, m.Handshake("x", 2, offered))
            assert (answer.version, answer.capabilities, answer.build_id) == (2, active, "1")
        for version in (0, 1):
            old = request(connection, m.Handshake("x", version, 31))
            assert old == m.HandshakeResult("ppx", "gum")


@pytest.mark.parametrize(("disabled", "left"), [(63, 0), (31, 0), (16, 47), (8, 55), (2, 29)])
def test_a_front_end_may_announce_less(disabled, left, tmp_path):
    with connected("gum", tmp_path, f"disabled={disabled}") as connection:
        assert connection.active == left
        assert (connection.peer.version, connection.peer.build_id) == ((0, "") if left == 0 else (2, "1"))
        assert type(dialogue(connection, m.Run(m.Draws(1, 0)))[-1]) is m.RunResult


# -- models that fail -------------------------------------------------------------------------------------------------

# What models.c calls troubled does on its first draw -> the code of the error and its address
TROUBLES = {
    0: (ErrorCode.PARAMETER, "troubled:3"),
    1: (ErrorCode.MODEL, "troubled:2"),
    2: (ErrorCode.TOO_LARGE, "troubled:2"),
    4: (ErrorCode.MODEL, "troubled:2"),
    5: (ErrorCode.MODEL, "troubled:6"),
}


def first_draw(value: float):
    return lambda question: {
        m.Sample: m.SampleResult((), (value,)), m.Observe: m.ObserveResult(), m.Tag: m.TagResult(),
    }[type(question)]  # fmt: skip


@pytest.mark.parametrize("mode", ["plain", "errors", "sites"])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_models_that_fail_are_reported_and_the_next_execution_is_served(trouble, mode, tmp_path):
    with connected("troubled", tmp_path, capabilities=MODES[mode]) as connection:
        for _ in range(2):
            failed = dialogue(connection, m.Run(), first_draw(float(trouble)))[-1]
            if mode == "plain":
                assert failed == m.Reset()
            else:
                assert (failed.code, failed.address) == TROUBLES[trouble] and failed.text
            assert type(dialogue(connection, m.Run(), first_draw(9.0))[-1]) is m.RunResult


def test_texts_of_errors_are_utf8_whatever_the_model_says(tmp_path):
    with connected("troubled", tmp_path, capabilities=MODES["sites"]) as connection:
        assert dialogue(connection, m.Run(), first_draw(1.0))[-1].text == "no ??nergy is left ?"


@pytest.mark.parametrize("mode", ["plain", "errors", "sites", "draws"])
def test_a_model_that_goes_on_is_unwound_at_every_statement(mode, tmp_path):
    """What it returns in the end is thrown away."""
    run = m.Run(m.Draws(1, 0, policy=m.Policy(b"", True))) if mode == "draws" else m.Run()
    with connected("troubled", tmp_path, capabilities=MODES[mode]) as connection:
        question = request(connection, run)
        for _ in range(2 if mode in ("plain", "errors") else 1):  # there the tag is a question, too
            question = request(connection, first_draw(3.0)(question))
        assert type(question) is m.Sample
        answer = request(connection, m.Error(ErrorCode.ABORTED, "enough"))
        assert answer == m.Reset() if mode == "plain" else answer.code == ErrorCode.ABORTED
        assert type(request(connection, m.Run())) is m.Sample


def test_failed_executions_of_a_batch_are_entries_of_their_own(tmp_path):
    data = [m.Policy(b"", False, (m.Observation("what", (), (float(what),)),)) for what in (0, 1, 2, 4, 5)]
    with connected("troubled", tmp_path) as connection:
        for policy, (code, address) in zip(data, TROUBLES.values(), strict=True):
            (answer,) = dialogue(connection, m.Run(m.Draws(1, 0, 50, policy=policy)))
            assert [error.execution for error in answer.traces.errors] == list(range(50))
            assert {(error.code, error.address) for error in answer.traces.errors} == {(code, address)}
            assert len(answer.traces.types) == 0
        mixed = m.Policy(b"", False, (m.Observation("x", (), (0.5,)),))
        (answer,) = dialogue(connection, m.Run(m.Draws(1, 0, 1, policy=mixed)))
        assert len(answer.traces.types) + len(answer.traces.errors) == 1


def test_many_failed_executions_come_in_several_messages(tmp_path):
    with connected("troubled", tmp_path) as connection:
        policy = m.Policy(b"", False, (m.Observation("what", (), (1.0,)),))
        request(connection, m.Run(m.Draws(1, 0, 1, policy=policy)))
        said = local_prior(connection, 20_000)
        assert len(said) > 1 and sum(len(answer.traces.errors) for answer in said) == 20_000


def test_what_the_other_side_does_not_know_fails_the_execution(tmp_path):
    """Families beyond those of 1.0.0 without Families, factors without Sites; scopes are left out."""
    for capabilities in (0, 1, 13):
        with connected("families", tmp_path, capabilities=capabilities) as connection:
            failed = dialogue(connection, m.Run())[-1]
            assert failed == m.Reset() if capabilities == 0 else failed.code == ErrorCode.UNSUPPORTED
            assert capabilities == 0 or (failed.address == "families:12" and "TruncatedNormal" in failed.text)
    for capabilities in (0, 3):
        with connected("branching", tmp_path, capabilities=capabilities) as connection:
            failed = dialogue(connection, m.Run())[-1]
            assert failed == m.Reset() if capabilities == 0 else failed.code == ErrorCode.UNSUPPORTED
            assert capabilities == 0 or "factor" in failed.text
    with connected("scopes", tmp_path, capabilities=0) as connection:
        said = dialogue(connection, m.Run())
        assert type(said[-1]) is m.RunResult
        assert {part.address for part in said[:-1]} == {"scopes:3", "scopes:4", "scopes:5"}


# What the simulator called limits does on its first draw -> the code of the error and its address, or None
LIMITS = {
    0: None, 1: None, 2: None, 3: None, 21: None,
    4: (ErrorCode.TOO_LARGE, ""), 5: (ErrorCode.TOO_LARGE, "x"), 6: (ErrorCode.TOO_LARGE, "limits:2"),
    7: (ErrorCode.TOO_LARGE, "limits:2"), 8: (ErrorCode.TOO_LARGE, "limits:2"), 9: (ErrorCode.TOO_LARGE, "limits:3"),
    10: (ErrorCode.TOO_LARGE, "limits:3"), 11: (ErrorCode.TOO_LARGE, ""), 12: (ErrorCode.PARAMETER, "limits:4"),
    13: (ErrorCode.PARAMETER, "limits:4"), 14: (ErrorCode.PARAMETER, "limits:4"), 15: (ErrorCode.PARAMETER, "limits:4"),
    16: (ErrorCode.MODEL, "limits:4"), 17: (ErrorCode.MODEL, "limits:4"), 18: (ErrorCode.MODEL, "limits:1"),
    19: (ErrorCode.MODEL, "limits:1"), 20: (ErrorCode.PARAMETER, "limits:4"),
}  # fmt: skip


def test_the_limits_of_the_protocol(tmp_path):
    with connected("limits", tmp_path) as connection:
        for what, expected in LIMITS.items():
            policy = m.Policy(b"", False, (m.Observation("what", (), (float(what),)),))
            (answer,) = dialogue(connection, m.Run(m.Draws(1, 0, policy=policy)))
            errors = [(error.code, error.address) for error in answer.traces.errors]
            assert errors == ([] if expected is None else [expected]), what
        long, wide, deep = (connection.sites[number] for number in (2, 4, 5))
        assert (len(long.address), len(long.name), len(wide.shape)) == (65_535, 65_535, 16)
        for _ in range(8):
            family, _, (deep_layout, *_) = deep.layout if isinstance(deep, m.Site) else deep
            assert family == "Mixture"
            deep = deep_layout
        assert deep[0] == "Exponential"


@pytest.mark.parametrize("mode", ["plain", "errors", "sites"])
def test_the_limits_of_the_protocol_without_draws(mode, tmp_path):
    with connected("limits", tmp_path, capabilities=MODES[mode]) as connection:
        for what, expected in LIMITS.items():
            if mode != "sites" and what in (0, 1, 2, 3, 12, 13, 18, 19, 21):
                continue  # asked for, or without the capability that it needs
            said = dialogue(connection, m.Run(), first_draw(float(what)))[-1]
            if expected is None and mode == "sites":
                assert type(said) is m.RunResult
            elif mode == "plain":
                assert said == m.Reset()
            else:
                assert (said.code, said.address) == expected


# -- small mailboxes --------------------------------------------------------------------------------------------------


def test_executions_that_fit_a_small_mailbox_arrive(tmp_path):
    """Batches end before the mailbox is full."""
    with connected("gum", tmp_path, capacity=65_536) as connection:
        small = local_prior(connection, 3000)
    with connected("gum", tmp_path) as connection:
        large = local_prior(connection, 3000)
    assert len(small) > len(large) == 1
    assert executions(small) == executions(large)


def test_definitions_that_do_not_fit_one_message_come_in_several(tmp_path):
    """The execution that brought them fails as too large until they are told; the ones after it arrive."""
    with connected("long", tmp_path, capacity=65_536) as connection:
        (first,) = dialogue(connection, m.Run(m.Draws(11, 0)))
        assert first.traces.errors[0].code == ErrorCode.TOO_LARGE and 0 < len(first.traces.sites) < 1001
        said = [first]
        while len(connection.sites) < 1001:
            said += dialogue(connection, m.Run(m.Draws(11, 0)))
            assert len(said) < 20
        late = local_prior(connection, 5)
        assert all(not answer.traces.errors for answer in late)
    with connected("long", tmp_path) as connection:
        expected = executions(local_prior(connection, 5))
    assert executions([*said, *late])[-5:] == expected


@pytest.mark.parametrize("mode", ["sites", "draws", "mailbox"])
def test_a_model_without_end_fails_when_it_can_no_longer_be_sent(mode, tmp_path):
    """Its memory is bounded by the longest message."""
    run = m.Run() if mode == "sites" else m.Run(m.Draws(1, 0, policy=m.Policy()))
    with (
        simulator("endless", tmp_path) as (endpoint, process),
        ppx.Connection(endpoint, capabilities=ppx.Capability(MODES[mode]), capacity=1 << 20) as connection,
    ):
        connection.handshake(PATIENCE)
        said = dialogue(connection, run, first_draw(0.0))[-1]
        error = said if mode == "sites" else said.traces.errors[0]
        assert (error.code, error.address) == (ErrorCode.TOO_LARGE, "endless:2")
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert int(status.split("VmHWM:")[1].split()[0]) < 250_000  # kilobytes


def test_rejected_passes_take_no_room(tmp_path):
    """And a scope that is open when the model returns is accepted as it is."""
    rejecting = m.Policy(b"", False, (m.Observation("what", (), (1.0,)),))
    with connected("endless", tmp_path, capacity=65_536) as connection:
        (answer,) = dialogue(connection, m.Run(m.Draws(1, 0, policy=rejecting)))
        kinds = [connection.sites[int(number)].kind.name for number in answer.traces.type_sites[0]]
        assert kinds == ["SAMPLE", "SCOPE_BEGIN", "TAG", "RESULT"]


def test_a_question_too_large_for_the_mailbox(tmp_path):
    """A Run without draws cannot report it in its RunResult: an Error."""
    policy = m.Policy(b"", False, (m.Observation("grid", (20_000,), (1.0,) * 20_000),))
    with connected("arrays", tmp_path, capacity=65_536) as connection:
        refused = say(connection, ppx.encode(m.Run(m.Draws(1, 0)))[:0])
        assert refused.code == ErrorCode.MALFORMED
        with pytest.raises(ppx.TooLarge):
            request(connection, m.Run(m.Draws(1, 0, policy=policy)))
        assert type(dialogue(connection, m.Run())[-1]) is m.RunResult
