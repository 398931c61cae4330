"""The C core under an inference side written in Python, beside the Python front end: the same model says the same."""

from __future__ import annotations

import math
import re
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_core import PATIENCE, connected, program
from c_models import MODELS
from dialogues import (
    MODES,
    FromPrior,
    asked,
    both,
    connected_to_python,
    dialogue,
    exactly,
    executions,
    local_prior,
    packed,
    request,
    without_text,
)

import ppx
from ppl_jax.distributions.layouts import rebuild
from ppl_jax.streams import Stream
from ppx import messages as m
from ppx.constants import SiteKind

KNOWN_IN = {
    "plain": ["gum", "scopes", "silent", "empty"],
    "errors": ["gum", "scopes", "silent", "families", "arrays", "empty"],
}


#: These are tested where both sides announce MoreFamilies.
MORE = ("more_families",)
ASKED = [(model, mode) for mode in MODES for model in KNOWN_IN.get(mode, [*MODELS]) if model not in ("long", *MORE)]


@pytest.mark.parametrize(
    ("model", "mode"),
    [pytest.param(*case, marks=pytest.mark.slow if case[1] in ("errors", "draws") else ()) for case in ASKED],
)
def test_every_draw_is_asked_for(model, mode, tmp_path):
    def talk(connection: ppx.Connection) -> list:
        answer = FromPrior(connection)
        return [message for _ in range(20) for message in dialogue(connection, m.Run(), answer)]

    said = both(model, tmp_path, MODES[mode], talk)
    assert sum(type(message) is m.RunResult for message in said) == 20


@pytest.mark.parametrize("model", [model for model in MODELS if model not in ("long", *MORE)])
def test_local_prior(model, tmp_path):
    said = both(model, tmp_path, MODES["mailbox"], lambda connection: local_prior(connection, 400))
    assert len(executions(said)) == 400


def test_local_prior_of_long_executions_comes_in_several_messages(tmp_path):
    with connected("long", tmp_path) as connection:
        in_c = local_prior(connection, 200)
    with connected_to_python("long", tmp_path, 31) as connection:
        in_python = local_prior(connection, 200)
    assert len(in_c) > 2
    assert [site for answer in in_c for site in answer.traces.sites] == list(in_python[0].traces.sites)
    assert executions(in_c) == executions(in_python)
    assert max(len(answer.traces.rows) for answer in in_c) * 8 < 1_100_000


def protocol_example(heading: str) -> bytes:
    """The bytes of an example in PROTOCOL.md, section 15."""
    text = (Path(ppx.__file__).parent / "PROTOCOL.md").read_text()
    lines = text[text.index(heading) :].split("\n\n")[1].splitlines()
    return b"".join(bytes.fromhex(re.match(r" +\d+  ((?:[0-9a-f]{2} )+)", line + " ")[1]) for line in lines)


def test_a_question_byte_by_byte(tmp_path):
    """The protocol's example with this model's parameters, and its SampleResult as the answer."""
    expected = bytearray(protocol_example("`Sample { site: 1, parameters: [1, 2], position: 3 }`"))
    assert ppx.decode(expected) == m.Sample(site=1, numbers=(1.0, 2.0), position=3)
    expected[80:96] = packed([1.0, math.sqrt(5.0)])
    with connected("gum", tmp_path, capabilities=15) as connection:
        local_prior(connection, 1)
        connection.send(m.Run(m.Draws(1, 0, position=3, policy=m.Policy(asked(1)))))
        assert bytes(connection._channel.receive(PATIENCE)) == expected
        answer = protocol_example("`SampleResult { result: Tensor { data: [0.7], shape: [] } }`")
        assert ppx.decode(answer) == m.SampleResult((), (0.7,))


EVERYTHING = pytest.param([*MODELS, "troubled", "limits"], MODES.values(), marks=pytest.mark.slow)


@pytest.mark.parametrize(("models", "modes"), [(["arrays", "branching", "troubled"], [0, 15]), EVERYTHING])
def test_all_that_is_sent_is_valid_for_flatc(models, modes, tmp_path):
    """The verifier that flatc makes of the schema, over dialogues of many kinds."""
    kept: list[bytes] = []
    for capabilities in modes:
        for model in models:
            with connected(model, tmp_path, capabilities=capabilities) as connection:
                keep(connection, kept)
                answer = FromPrior(connection)
                for index in range(10):
                    dialogue(connection, m.Run(m.Draws(1, index, policy=m.Policy(asked(2)))), answer)
                request(connection, m.Error(text="not expected"))
                dialogue(connection, m.Run(m.Draws(1, 20, 30, policy=m.Policy())), answer)
    assert len(kept) > 60
    file = tmp_path / "messages"
    file.write_bytes(b"".join(struct.pack("<I", len(data)) + data for data in kept))
    done = subprocess.run([str(program("verify")), str(file)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"{len(kept)}\n")


def keep(connection: ppx.Connection, kept: list[bytes]) -> None:
    """Keeps the bytes of all that the connection receives."""
    receive = connection._channel.receive

    def receive_and_keep(*arguments: Any) -> Any:
        data = receive(*arguments)
        kept.append(bytes(data))
        return data

    connection._channel.receive = receive_and_keep


# -- control policy ---------------------------------------------------------------------------------------------------


class FromTheSameStream(FromPrior):
    """Answers by draws from the execution's own stream, from where the question says that it stands."""

    def __init__(self, connection: ppx.Connection, seed: int, index: int):
        super().__init__(connection)
        self.stream = (seed, index)
        self.answers: list[m.SampleResult] = []

    def __call__(self, question: Any) -> m.Message:
        rng = Stream(*self.stream)
        for _ in range(question.position):
            rng.random()
        taken = 0

        class Counted:
            def random(self) -> float:
                nonlocal taken
                taken += 1
                return rng.random()

        made = rebuild(self.connection.sites[question.site].layout, question.numbers)
        value = np.asarray(made.sample(Counted()), dtype=float)
        self.answers.append(m.SampleResult(value.shape, tuple(value.ravel().tolist()), question.position + taken))
        return self.answers[-1]


def whole_row(said: list[Any], answers: list[m.SampleResult]) -> tuple[tuple[int, ...], bytes]:
    """Sites and row of one execution that came in parts, with the answers in their places; scopes stay as they are."""
    numbers: list[int] = []
    row: list[float] = []
    for message, answer in zip(said, [*answers, None], strict=True):
        if message.traces is not None and len(message.traces.types):
            numbers += map(int, message.traces.type_sites[0])
            row += message.traces.rows
        if answer is not None:
            numbers.append(message.site)
            row += [*answer.value, *message.numbers]
    return tuple(numbers), packed(row)


WHO_DRAWS = [(model, who) for model in MODELS if model not in MORE for who in ("nothing", "some", "others", "all")]


@pytest.mark.parametrize(
    ("model", "policy"),
    [
        pytest.param(*case, marks=() if case[0] in ("branching", "arrays", "families") else pytest.mark.slow)
        for case in WHO_DRAWS
        if case[0] not in ("scopes", "long")
    ],
)
def test_whoever_draws_the_execution_is_the_same(model, policy, tmp_path):
    ask = {
        "nothing": m.Policy(asked(), False),
        "some": m.Policy(asked(1, 3), False),
        "others": m.Policy(asked(2, size=1), True),
        "all": m.Policy(b"", True),
    }[policy]

    def talk(connection: ppx.Connection) -> list:
        said = local_prior(connection, 20)
        expected = executions(said)
        for index in range(20):
            answer = FromTheSameStream(connection, 11, index)
            parts = dialogue(connection, m.Run(m.Draws(11, index, policy=ask)), answer)
            assert whole_row(parts, answer.answers) == expected[index]
            said += parts
        return said

    said = both(model, tmp_path, MODES["mailbox"], talk)
    some_asked = any(type(message) is m.Sample for message in said)
    assert some_asked == (policy in ("some", "all") and model not in ("silent", "empty")) or policy == "others"


def test_a_policy_holds_until_the_next_one_and_new_sites_are_asked_for(tmp_path):
    def talk(connection: ppx.Connection) -> list:
        answer = FromPrior(connection)
        runs = [m.Draws(3, 0, policy=m.Policy(b"", True)), *(m.Draws(3, index) for index in range(1, 6))]
        runs += [m.Draws(3, 6, policy=m.Policy(asked(1), False)), m.Draws(3, 7)]
        return [message for draws in runs for message in dialogue(connection, m.Run(draws), answer)]

    said = both("branching", tmp_path, 15, talk)
    first = [message for message in said if type(message) is m.Sample and message.traces is not None]
    assert len({message.site for message in said if type(message) is m.Sample}) == 4  # all draws of the model
    assert len(first) > 1


def test_observations_win_over_everything(tmp_path):
    """Of two of one name the first counts; one without a value, or of a name that is not met, for nothing."""
    observations = (
        m.Observation("mu", (), (0.5,)),
        m.Observation("mu", (), (9.0,)),
        m.Observation("obs1", (1,), (2.5,)),
        m.Observation("obs0", None, ()),
        m.Observation("none of that", (2,), (1.0, 2.0)),
        m.Observation("", (), (3.0,)),
    )

    def talk(connection: ppx.Connection) -> list:
        draws = m.Draws(4, 0, 3, policy=m.Policy(b"", False, observations))
        return dialogue(connection, m.Run(draws))

    (answer,) = both("gum", tmp_path, 15, talk)
    row = np.reshape(answer.traces.rows, (3, 11))
    assert (row[:, 0] == 0.5).all() and (row[:, 6] == 2.5).all()
    assert len(set(row[:, 3])) == 3  # obs0 was drawn


def test_observations_of_other_shapes_make_other_sites(tmp_path):
    observations = (m.Observation("grid", (6,), tuple(map(float, range(6)))), m.Observation("joint", (), (1.0,)))

    def talk(connection: ppx.Connection) -> list:
        said = local_prior(connection, 2)
        # The Python twin indexes the grid, for which only the statement's own shape will do.
        return said + dialogue(connection, m.Run(m.Draws(11, 5, 2, policy=m.Policy(b"", False, observations[1:]))))

    said = both("arrays", tmp_path, 15, talk)
    assert [site.shape for site in said[-1].traces.sites] == [()]
    with connected("arrays", tmp_path) as connection:
        (answer,) = dialogue(connection, m.Run(m.Draws(11, 0, policy=m.Policy(b"", False, observations[:1]))))
        assert answer.traces.sites[0].shape == (6,)
        assert list(answer.traces.rows[:6]) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_several_executions_cannot_ask(tmp_path):
    def talk(connection: ppx.Connection) -> list:
        data = m.Policy(b"", False, (m.Observation("mu", (), (0.25,)),))
        said = dialogue(connection, m.Run(m.Draws(1, 0, policy=data)))
        for policy in (m.Policy(asked(1), False), m.Policy(b"", True)):
            said += dialogue(connection, m.Run(m.Draws(1, 0, 2, policy=policy)))
        return said + dialogue(connection, m.Run(m.Draws(1, 0, 2)))

    said = both("gum", tmp_path, 15, lambda connection: list(map(without_text, talk(connection))))
    assert [getattr(message, "code", None) for message in said] == [None, 3, 3, None]
    assert said[-1].traces.rows[0] == 0.25  # the refused policies changed nothing


@pytest.mark.parametrize("capabilities", [35, 47, 63])
def test_more_families(capabilities, tmp_path):
    """Both front ends say and draw the same, whether each draw is asked for or the front end draws."""

    def talk(connection: ppx.Connection) -> list:
        answer = FromPrior(connection)
        said = [message for _ in range(20) for message in dialogue(connection, m.Run(), answer)]
        return said + local_prior(connection, 20) if capabilities & ppx.Capability.DRAWS else said

    said = both("more_families", tmp_path, capabilities, talk)
    assert all(type(message) in (m.Sample, m.RunResult) for message in said)


@pytest.mark.parametrize("capabilities", [0, 3, 31])
def test_more_families_are_not_sent_to_those_that_do_not_know_them(capabilities, tmp_path):
    failed = both("more_families", tmp_path, capabilities, lambda connection: [
        without_text(message) for message in dialogue(connection, m.Run())
    ])[-1]  # fmt: skip
    assert failed == m.Reset() if capabilities == 0 else failed.code == ppx.ErrorCode.UNSUPPORTED


def test_an_answer_may_skip_uniforms_but_not_go_back(tmp_path):
    def talk(connection: ppx.Connection) -> list:
        said = []
        for position in (0, 7, 2**63, 2**63 + 1):
            ask = m.Draws(1, 0, policy=m.Policy(asked(3), False))
            said += dialogue(connection, m.Run(ask), lambda question, p=position: m.SampleResult((), (1.0,), p))
        return said

    said = both("families", tmp_path, 15, talk)
    ends = [message for message in said if type(message) is m.RunResult]
    assert [len(end.traces.types) for end in ends] == [0, 1, 1, 1]
    assert ends[0].traces.errors[0].code == ppx.ErrorCode.MALFORMED
    assert ends[1].position > 7 and all(2**63 < end.position < 2**63 + 100 for end in ends[2:])


@pytest.mark.parametrize("position", [1, 2, 9])
def test_executions_may_begin_further_on_in_their_streams(position, tmp_path):
    def talk(connection: ppx.Connection) -> list:
        return local_prior(connection, 3, position=position)

    (answer,) = both("gum", tmp_path, 15, talk)
    assert answer.position == position + 3


# -- replay -----------------------------------------------------------------------------------------------------------


def replay_of(sites: ppx.SiteTable, numbers: tuple[int, ...], row: bytes) -> list[tuple[int, int, list[float]]]:
    """Site, instance and value of every draw of an execution."""
    values, counts, entries, start = np.frombuffer(row), {}, [], 0
    for number in numbers:
        site = sites[number]
        slot = ppx.sites.row_type((site,)).slots[0]
        if site.kind not in (SiteKind.RESULT, SiteKind.SCOPE_BEGIN, SiteKind.SCOPE_REJECT, SiteKind.SCOPE_END):
            counts[site.address] = instance = counts.get(site.address, 0) + 1
            if site.kind == SiteKind.SAMPLE:
                entries.append((number, instance, values[start : start + slot.distribution].tolist()))
        start += slot.end
    return entries


def replay(entries: list[tuple[int, int, list[float]]]) -> m.Replay:
    return m.Replay(
        tuple(site for site, _, _ in entries),
        tuple(instance for _, instance, _ in entries),
        tuple(number for _, _, value in entries for number in value),
    )


@pytest.mark.parametrize("model", ["gum", "branching", "families", "arrays"])
def test_a_replay_gives_the_execution_again_with_one_value_changed(model, tmp_path):
    def talk(connection: ppx.Connection) -> list:
        said = local_prior(connection, 30)
        for index, (numbers, row) in enumerate(executions(said)):
            entries = replay_of(connection.sites, numbers, row)
            said += dialogue(connection, m.Run(m.Draws(12, index, replay=replay(entries))))
            site, instance, value = entries[index % len(entries)]
            entries[index % len(entries)] = (site, instance, [1.0] * len(value))
            entries.reverse()  # their order means nothing
            said += dialogue(connection, m.Run(m.Draws(12, index, policy=m.Policy(asked(1)), replay=replay(entries))))
        return said

    said = both(model, tmp_path, MODES["mailbox"], talk)
    assert all(type(message) is m.RunResult for message in said)
    draws = [replay_of(ppx_sites(said), *execution) for execution in executions(said)]
    assert draws[30::2] == draws[:30]


def ppx_sites(said: list[Any]) -> ppx.SiteTable:
    table = ppx.SiteTable()
    for message in said:
        table.receive(message.traces)
    return table


def test_what_does_not_fit_is_drawn_or_asked_for(tmp_path):
    """Another family, another shape, another instance; of two entries for one visit the last counts."""

    def talk(connection: ppx.Connection) -> list:
        said = local_prior(connection, 40)
        sites = {connection.sites[n + 1].address: n + 1 for n in range(len(connection.sites))}
        kind, count, gamma, noise = (sites[f"branching:{k}"] for k in (1, 2, 3, 4))
        for entries in (
            [(kind, 1, [1.0]), (count, 1, [2.0]), (gamma, 2, [0.125])],
            [(kind, 1, [0.0]), (kind, 1, [1.0]), (count, 2, [9.0]), (gamma, 1, [3.0]), (gamma, 1, [0.5])],
            [(kind, 1, [0.0]), (noise, 1, [-5.0])],
            [(kind, 1, [0.0]), (sites["branching:5"], 1, [77.0])],
            [],
        ):
            said += dialogue(connection, m.Run(m.Draws(13, 1, 2, replay=replay(entries))))
        said += dialogue(connection, m.Run(m.Draws(13, 1, 2)))  # the replay is forgotten
        return said

    said = both("branching", tmp_path, 15, talk)
    rows = [np.frombuffer(row) for _, row in executions(said)[40:]]
    assert all(list(row[[0, 2]]) == [1.0, 2.0] for row in rows[:2]) and all(row[7] == 0.125 for row in rows[:2])
    assert all(row[0] == 1.0 and row[2] != 9.0 for row in rows[2:4])
    assert all(list(row[[0, 2]]) == [0.0, -5.0] for row in rows[4:6])


def test_replay_inside_rejection_scopes(tmp_path):
    """Replayed values are used until the first rejection; no replay can make the loop run for ever."""

    def talk(connection: ppx.Connection) -> list:
        said = local_prior(connection, 20)
        for index, (numbers, row) in enumerate(executions(said)):
            entries = replay_of(connection.sites, numbers, row)
            said += dialogue(connection, m.Run(m.Draws(12, index, replay=replay(entries))))
            never = [(site, instance, [-value[0]]) for site, instance, value in entries]
            said += dialogue(connection, m.Run(m.Draws(12, index, replay=replay(never))))
            some = m.Policy(asked(entries[-1][0]), False)
            said += dialogue(connection, m.Run(m.Draws(12, index, policy=some, replay=replay(entries[:-1]))))
        return said

    both("scopes", tmp_path, MODES["mailbox"], talk)


@pytest.mark.parametrize(
    "wrong",
    [
        m.Replay((0,), (1,), (1.0,)),
        m.Replay((1, 99), (1, 1), (1.0, 1.0)),
        m.Replay((1,), (1,), (1.0, 2.0)),
        m.Replay((1, 1), (1, 2), (1.0,)),
        m.Replay((2**32 - 1,), (1,), ()),
        m.Replay((), (), (1.0,)),
    ],
    ids=str,
)
def test_a_replay_that_cannot_be_is_malformed_and_changes_nothing(wrong, tmp_path):
    def talk(connection: ppx.Connection) -> list:
        said = dialogue(connection, m.Run(m.Draws(1, 0)))
        policy = m.Policy(b"", False, (m.Observation("mu", (), (0.25,)),))
        said += dialogue(connection, m.Run(m.Draws(1, 0, policy=policy, replay=wrong)))
        return [without_text(message) for message in said + dialogue(connection, m.Run(m.Draws(1, 0)))]

    first, refused, last = both("gum", tmp_path, 15, talk)
    assert refused == m.Error(ppx.ErrorCode.MALFORMED)
    assert exactly(last).traces.rows == exactly(first).traces.rows


# -- rejection scopes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [m.Policy(), m.Policy(asked(2)), m.Policy(asked(4)), m.Policy(b"", True)], ids=str)
def test_rejected_passes_that_were_asked_for_are_marked(policy, tmp_path):
    def talk(connection: ppx.Connection) -> list:
        said, answer = local_prior(connection, 1), FromPrior(connection)
        return said + [
            part for k in range(40) for part in dialogue(connection, m.Run(m.Draws(2, k, policy=policy)), answer)
        ]

    said = both("scopes", tmp_path, MODES["mailbox"], talk)
    table = ppx_sites([message for message in said if message.traces is not None])
    kinds = [table[n].kind for message in said if message.traces for sites in message.traces.type_sites for n in sites]
    assert (SiteKind.SCOPE_REJECT in kinds) == (policy != m.Policy())
