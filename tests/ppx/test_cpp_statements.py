"""Every kind of statement of the C++ front end, under an inference side that asks and under one that lets it draw."""

from __future__ import annotations

import math
import re
import subprocess

import numpy as np
import pytest
from cpp_front_end import PATIENCE, ROOT, Statement, built, connected, has_target, local_prior
from dialogues import dialogue

import ppl_jax.distributions as dist
from ppl_jax.streams import Stream
from ppx import messages as m
from ppx.constants import SiteKind

SAMPLE, OBSERVE, TAG, FACTOR = SiteKind.SAMPLE, SiteKind.OBSERVE, SiteKind.TAG, SiteKind.FACTOR

NORMAL, UNIFORM, POISSON = ("Normal", (), ()), ("Uniform", (), ()), ("Poisson", ())
NORMALS = ("Normal", (2,), ())
# kind, name, layout, shape of the value, control
STATEMENTS = [
    (SAMPLE, "mu", NORMAL, (), True),
    (SAMPLE, "nuisance", UNIFORM, (), False),
    (SAMPLE, "by default uncontrolled", UNIFORM, (), False),
    (SAMPLE, "controlled", UNIFORM, (), True),
    (SAMPLE, "", POISSON, (), False),
    (SAMPLE, "array", NORMALS, (2,), False),
    (OBSERVE, "asked", NORMAL, (), True),
    (OBSERVE, "given", NORMAL, (), True),
    (OBSERVE, "counted", POISSON, (), True),
    (OBSERVE, "arrays", NORMALS, (2,), True),
    (OBSERVE, "output", None, (3,), True),
    (TAG, "square", None, (), True),
    (TAG, "numbers", None, (3,), True),
    (TAG, "empty", None, (0,), True),
    (TAG, "", None, (), True),
    (FACTOR, "penalty", None, (), True),
]


def described(sites: list[m.Site]) -> list[tuple]:
    return [(site.kind, site.name, site.layout, site.shape, site.control) for site in sites]


def values(execution: list[Statement]) -> dict[str, tuple[float, ...]]:
    return {statement.name: statement.value for statement in execution if statement.site.kind != SiteKind.RESULT}


def test_local_prior(tmp_path):
    with connected("statements", tmp_path) as connection:
        executions, errors = local_prior(connection, 3)
    assert not errors
    for execution in executions:
        # The default of control is the model's again in each execution.
        assert described([statement.site for statement in execution[:-1]]) == STATEMENTS
        found = values(execution)
        assert (found["given"], found["counted"], found["arrays"]) == ((0.25,), (5.0,), (0.5, 0.75))
        assert (found["output"], found["numbers"], found["empty"]) == ((1.0, 2.0, 3.0), (1.0, 2.0, 3.0), ())
        assert found["penalty"] == (-0.5,)
        assert found["square"] == (found["mu"][0] ** 2,)
        result = execution[-1].value
        count = execution[4].value[0]
        # What the model was told: its draws, every observed value, and that it is connected.
        assert result == (found["mu"][0], found["nuisance"][0], count, found["asked"][0], 0.25, 5.0, 0.75, 1.0)


def test_data_take_precedence_and_are_returned_to_the_model(tmp_path):
    data = {"mu": 1.5, "asked": 2.5, "given": 3.5, "counted": 4.0}
    observations = tuple(m.Observation(name, (), (value,)) for name, value in data.items())
    with connected("statements", tmp_path) as connection:
        (execution,), _ = local_prior(connection, 1, policy=m.Policy(observations=observations))
    found = values(execution)
    assert {name: found[name] for name in data} == {name: (value,) for name, value in data.items()}
    assert execution[-1].value[3:6] == (2.5, 3.5, 4.0)
    assert execution[-1].value[0] == 1.5


def test_every_draw_is_asked_for(tmp_path):
    """With sites but without draws: only Samples are questions; the model gets what is answered."""
    answers = {"Normal": 0.5, "Uniform": 0.25, "Poisson": 7.0}

    def answer(question: m.Sample) -> m.SampleResult:
        site = connection.sites[question.site]
        size = math.prod(site.shape)
        return m.SampleResult(site.shape, (answers[site.layout[0]],) * size, question.position)

    with connected("statements", tmp_path, capabilities=15) as connection:
        for _ in range(3):
            *questions, last = dialogue(connection, m.Run(), answer)
            assert type(last) is m.RunResult
            assert [connection.sites[question.site].name for question in questions] == [
                name for kind, name, *_ in STATEMENTS if kind == SAMPLE
            ]
            result = last.traces.rows[-8:]
            # The inference side alone knows what was observed where the program gave no value.
            np.testing.assert_array_equal(result, [0.5, 0.25, 7.0, math.nan, 0.25, 5.0, 0.75, 1.0])


def test_inference_side_of_1_0_0_drives_it(tmp_path):
    """One message for each statement; what 1.0.0 cannot say fails with a Reset, and the next execution is served."""
    with connected("gum_marsaglia", tmp_path, capabilities=0) as connection:
        assert (connection.peer.version, connection.peer.capabilities) == (0, 0)
        for _ in range(5):
            said = dialogue(connection, m.Run())
            kinds = [type(message) for message in said]
            assert kinds[-4:] == [m.Observe, m.Observe, m.Tag, m.RunResult]
            assert set(kinds[:-4]) == {m.Sample}
            assert said[0].layout == UNIFORM
            assert said[0].address.startswith("[gum_marsaglia()+0x")
            assert said[-2].value == said[-1].value
    with connected("statements", tmp_path, capabilities=0) as connection:
        for _ in range(2):  # a factor
            said = dialogue(connection, m.Run())
            assert type(said[-1]) is m.Reset
            assert [type(message) for message in said].count(m.Sample) == 6


# -- outside a served model -------------------------------------------------------------------------------------------


def run_alone(*arguments: str) -> list[str]:
    command = [str(built("local")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert not done.stderr
    return done.stdout.splitlines()


def test_draws_outside_a_served_model_are_the_streams_own():
    rng = Stream(42, 7)
    mu = dist.Normal(1.0, 2.0).sample(rng)
    count = dist.Poisson(30.0).sample(rng)
    vector = dist.MultivariateNormal([0.0, 1.0], [[1.0, 0.0], [0.5, 2.0]]).sample(rng)
    mixed = dist.Mixture([0.3, 0.7], [dist.Normal(0.0, 1.0), dist.Normal(5.0, 1.0)]).sample(rng)
    *drawn, known, dimensions, error = run_alone("42", "7")
    assert drawn[1] == str(count)
    assert [float.fromhex(text) for text in (drawn[0], *drawn[2:])] == [mu, *vector, mixed]
    assert known == "1 0"  # the given value is known, the asked one is not; nobody is connected
    assert dimensions == "no no no 2 0 dimensions"  # of arrays with as many numbers as the shape says, and others
    assert error == "Uniform: low must be below high, found 1"


def test_without_a_seed_the_stream_is_the_first():
    assert run_alone()[:4] == run_alone("0", "0")[:4]
    assert run_alone()[:4] != run_alone("1", "0")[:4]


def test_first_program_of_the_guide_compiles(tmp_path):
    guide = (ROOT / "ppx" / "cpp" / "README.md").read_text()
    program = tmp_path / "guide.cpp"
    program.write_text(re.search("```cpp\n(.*?)```", guide, re.DOTALL)[1])
    include = ROOT / "ppx" / "cpp" / "include"
    command = ["c++", "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-I", str(include), str(program)]
    subprocess.run(command, timeout=120, check=True)


# -- rejection scopes -------------------------------------------------------------------------------------------------


def test_scopes_that_are_left_from_within_inner_ones(tmp_path):
    """The inner ones go with the rejected pass, or end with the scope; their objects, which end later, do no harm."""
    with connected("scopes", tmp_path) as connection:
        executions, errors = local_prior(connection, 3)
    assert not errors
    for execution in executions:
        found = [(statement.site.kind.name, statement.name) for statement in execution]
        assert found == [
            ("SCOPE_BEGIN", "outer"),
            ("SCOPE_BEGIN", "middle"),
            ("SAMPLE", "x"),
            ("SCOPE_BEGIN", "inner"),
            ("SAMPLE", "y"),
            ("SCOPE_END", "inner"),
            ("SCOPE_END", "middle"),
            ("SCOPE_END", "outer"),
            ("SAMPLE", "after"),
            ("RESULT", ""),
        ]
        assert [statement.value for statement in execution[5:8]] == [(0.0,), (1.0,), (2.0,)]


# -- the original front end's names -----------------------------------------------------------------------------------


def test_simulator_written_for_pyprob_cpp(tmp_path):
    if not has_target("pyprob_cpp_program"):
        pytest.skip("pyprob_cpp.h needs xtensor (Debian: libxtensor-dev)")
    with connected("pyprob_cpp_program", tmp_path) as connection:
        assert connection.peer.model_name == "pyprob_cpp program C++"
        executions, errors = local_prior(connection, 100)
    assert not errors
    loops = set()
    for execution in executions:
        loop = [statement.site for statement in execution if statement.site.layout == UNIFORM]
        rest = [statement.site for statement in execution[len(loop) : -1]]
        loops.add(len(loop))
        assert {(site.name, site.control, site.shape) for site in loop} == {("", True, ())}
        assert described(rest) == [
            (SAMPLE, "nuisance", ("Normal", (2,), (2,)), (2,), False),
            (SAMPLE, "kind", ("Categorical", (3,)), (), True),
            (SAMPLE, "scale", ("Gamma", (), ()), (), True),
            (SAMPLE, "", NORMAL, (), True),
            (OBSERVE, "obs0", NORMAL, (), True),
            (OBSERVE, "obs1", NORMAL, (), True),
            (OBSERVE, "", NORMAL, (), True),
            (TAG, "nuisance_tag", None, (2,), True),
            (TAG, "", None, (), True),
        ]
        found = values(execution)
        assert (found["obs1"], execution[-4].value) == ((9.0,), (7.5,))
        x, y = execution[len(loop) - 2].value[0], execution[len(loop) - 1].value[0]
        s = x * x + y * y
        mu = 1.0 + math.sqrt(5.0) * (x * math.sqrt(-2.0 * math.log(s) / s))
        assert execution[-1].value == (mu, found["scale"][0])
    assert len(loops) > 2


def test_pyprob_cpp_program_speaks_1_0_0(tmp_path):
    if not has_target("pyprob_cpp_program"):
        pytest.skip("pyprob_cpp.h needs xtensor (Debian: libxtensor-dev)")
    with connected("pyprob_cpp_program", tmp_path, capabilities=0) as connection:
        said = dialogue(connection, m.Run())
        assert type(said[-1]) is m.RunResult
        assert not said[-1].traces
        assert [message.control for message in said if getattr(message, "name", "") == "nuisance"] == [False]


def test_pyprob_cpp_generator_stays_within_32_bits(tmp_path):
    """Whatever the inference side sends: the upper end of the interval belongs to the support."""
    if not has_target("generator"):
        pytest.skip("pyprob_cpp.h needs xtensor (Debian: libxtensor-dev)")
    with connected("generator", tmp_path, capabilities=0) as connection:
        for sent, expected in ((0.0, 0), (5.75, 5), (2.0**32, 2**32 - 1), (-1.0, 0), (math.nan, 0)):
            said = dialogue(connection, m.Run(), lambda _, sent=sent: m.SampleResult((), (sent,), 0))
            assert said[-1].value == (expected,)
