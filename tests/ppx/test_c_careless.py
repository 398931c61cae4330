"""The C core under models that do what is allowed but not foreseen."""

from __future__ import annotations

import pytest
from c_core import connected
from dialogues import MODES, FromPrior, dialogue, request

import ppx
from ppx import messages as m

# -- rejection scopes -------------------------------------------------------------------------------------------------


def marks(connection: ppx.Connection, said: list) -> list[tuple[str, str]]:
    """Kind and address of the marks of scopes, in the order in which they came; ends with how often was rejected."""
    found = []
    for traces in (message.traces for message in said if message.traces is not None):
        for numbers in traces.type_sites:
            type_ = ppx.sites.row_type(tuple(connection.sites[int(number)] for number in numbers))
            for site, slot in zip(type_.sites, type_.slots, strict=True):
                if site.kind.name == "SCOPE_END":
                    found.append((f"end {traces.rows[slot.value]:g}", site.address))
                elif site.kind.name.startswith("SCOPE"):
                    found.append((site.kind.name[6:].lower(), site.address))
    return found


ENDS = [("end 2", "unclosed:3"), ("end 0", "unclosed:2"), ("end 1", "unclosed:1")]


@pytest.mark.parametrize("mode", ["sites", "draws", "mailbox"])
def test_scopes_left_open_are_ended_before_the_one_around_them(mode, tmp_path):
    """A ScopeEnd closes the scope opened last: each needs its own, with its own number of rejected passes."""
    with connected("unclosed", tmp_path, capabilities=MODES[mode]) as connection:
        for run in (m.Run(m.Draws(1, 0, policy=m.Policy())), m.Run()):
            said = dialogue(connection, run, FromPrior(connection))
            assert type(said[-1]) is m.RunResult
            found = marks(connection, said)
            begins = [mark for mark in found if mark[0] == "begin"]
            assert begins == [("begin", f"unclosed:{number}") for number in (1, 2, 3)]
            assert found[-3:] == ENDS


# -- batches ----------------------------------------------------------------------------------------------------------


def test_the_sites_of_a_batch_are_told_though_a_failed_execution_is_left_out_of_it(tmp_path):
    """The room for definitions is what the batch leaves that is sent, not the one with the failure."""
    with connected("brimming", tmp_path, capacity=65_536) as connection:
        (answer,) = dialogue(connection, m.Run(m.Draws(1, 0, 2, policy=m.Policy())))
        (numbers,) = answer.traces.type_sites
        assert (len(answer.traces.types), len(answer.traces.errors), len(numbers)) == (1, 0, 61)
        assert set(map(int, numbers)) <= set(range(1, len(answer.traces.sites) + 1))
        while len(connection.sites) < 141:
            (answer,) = dialogue(connection, m.Run(m.Draws(1, 1, 1)))
            assert answer.traces.errors[0].text == "t" * 8000


# -- values -----------------------------------------------------------------------------------------------------------


def test_several_numbers_are_no_value_of_a_model_that_wants_one(tmp_path):
    """Data of a draw's name: the first of them must not be taken for the value."""
    several, one = (m.Observation("mu", (size,), (0.5, 2.0, 3.0)[:size]) for size in (3, 1))
    with connected("gum", tmp_path) as connection:
        (answer,) = dialogue(connection, m.Run(m.Draws(1, 0, policy=m.Policy(b"", False, (several,)))))
        (error,) = answer.traces.errors
        assert (error.code, error.address) == (ppx.constants.ErrorCode.MODEL, "gum:1")
        assert error.text == "the value of 'mu' is 3 numbers, and the model wants one"
        (answer,) = dialogue(connection, m.Run(m.Draws(1, 0, policy=m.Policy(b"", False, (one,)))))
        assert not answer.traces.errors and answer.traces.rows[0] == 0.5


# -- places -----------------------------------------------------------------------------------------------------------


def test_statements_without_address_and_name_are_one_site(tmp_path):
    with connected("nowhere", tmp_path) as connection:
        (answer,) = dialogue(connection, m.Run(m.Draws(1, 0, policy=m.Policy())))
        (numbers,) = answer.traces.type_sites
        assert list(numbers) == [1, 1, 1, 1, 2]
        assert (connection.sites[1].address, connection.sites[1].name) == ("", "")


# -- texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letters", [0, 1])
def test_long_texts_are_cut_between_characters(letters, tmp_path):
    data = m.Policy(b"", False, (m.Observation("letters", (), (float(letters),)),))
    with connected("wordy", tmp_path) as connection:
        (answer,) = dialogue(connection, m.Run(m.Draws(1, 0, policy=data)))
        assert answer.traces.errors[0].text == "x" * letters + "é" * (4000 - letters)


@pytest.mark.parametrize("letters", [0, 1])
def test_long_texts_of_the_inference_side_are_cut_between_characters(letters, tmp_path):
    with connected("gum", tmp_path, capabilities=MODES["sites"]) as connection:
        assert type(request(connection, m.Run())) is m.Sample
        answer = request(connection, m.Error(ppx.constants.ErrorCode.UNKNOWN, "x" * letters + "é" * 5000))
        said = answer.text.removeprefix("given up by the inference side: " + "x" * letters)
        assert said == "é" * len(said)
        assert 7998 <= len(answer.text.encode()) <= 8000
