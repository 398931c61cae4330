"""Addresses: the same in every process and every Python version, and made of positions alone."""

import contextlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax import handlers
from ppl_jax.language import addresses

HERE = Path(__file__).parent
MINORS = range(11, 20)


def interpreters():
    """One interpreter for every Python version from 3.11 on that this machine has, this one among them."""
    found = {sys.version_info[:2]: sys.executable}
    pyenv = Path.home() / ".pyenv" / "versions"
    for minor in MINORS:  # pyenv's own folder first: what it puts on the PATH may refuse to run
        candidates = [*sorted(pyenv.glob(f"3.{minor}.*/bin/python")), shutil.which(f"python3.{minor}")]
        executable = next((str(path) for path in candidates if path is not None), None)
        if executable is not None:
            found.setdefault((3, minor), executable)
    return found


def addresses_of(executable, *options):
    """(label, address) of every call in ``addressed_program.py``, in a process of its own."""
    program = [executable, *options, HERE / "addressed_program.py", addresses.__file__]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [tuple(pair) for pair in json.loads(done.stdout)]


@pytest.fixture(scope="module")
def found():
    return addresses_of(sys.executable)


def test_another_process_finds_the_same(found):
    assert addresses_of(sys.executable) == found
    assert addresses_of(sys.executable, "-O") != []  # asserts are gone, and nothing else is lost


@pytest.mark.parametrize("version", [(3, minor) for minor in MINORS], ids=str)
def test_other_python_versions_find_the_same(version, found):
    executable = interpreters().get(version)
    if executable is None:
        pytest.skip(f"there is no Python {version[0]}.{version[1]} on this machine")
    assert addresses_of(executable) == found


def test_addresses_are_what_the_documentation_says(found):
    by_label = dict(reversed(found))  # the first of each
    expected = {
        "plain": "addressed_program:plain:1:11",
        "list": "addressed_program:comprehensions:1:5",
        "nested": "addressed_program:comprehensions:4:6",
        "lambda in list": "addressed_program:comprehensions:5:5; "
        "addressed_program:comprehensions.<locals>.<lambda>:0:27",
        "generator": "addressed_program:generators:1:4; addressed_program:numbers:2:14",
        "decorated": "addressed_program:decorator.<locals>.wrapper:2:15; "
        "addressed_program:decorator.<locals>.wrapper:2:15; addressed_program:decorated:3:11",
        "recursive": "addressed_program:recursive:3:11; " * 3 + "addressed_program:recursive:2:15",
        "enter": "addressed_program:statements:3:4; addressed_program:Thing.__enter__:1:8",
        "bool": "addressed_program:statements:15:4; addressed_program:Thing.__bool__:1:20",
    }
    for label, address in expected.items():
        assert by_label[label] == address, label


def test_different_statements_have_different_addresses(found):
    """Only what one statement does several times, or one function for several callers, shares an address."""
    labels = {}
    for label, address in found:
        labels.setdefault(address, set()).add(label)
    assert all(len(names) == 1 for names in labels.values()), labels


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SOURCE = """import ppl_jax as ppl, ppl_jax.distributions as dist
def model():
    return [ppl.sample(dist.Normal(0.0, 1.0)) for _ in range(2)]
"""


def sites_of(model):
    return [(site.address, site.instance) for site in handlers.trace(model).get_trace().sites]


def test_code_above_and_the_folder_do_not_matter(tmp_path):
    paths = [tmp_path / folder / "program.py" for folder in ("one", "two")]
    for path, above in zip(paths, ("", "# a comment\nimport math\n\n"), strict=True):
        path.parent.mkdir()
        path.write_text(above + SOURCE)
    first, second = (sites_of(load(path, path.parent.name).model) for path in paths)
    assert first == second == [("program:model:1:12", 1), ("program:model:1:12", 2)]


def test_code_without_source_has_addresses_too():
    scope = {"ppl": ppl, "dist": dist}
    exec(SOURCE, scope)
    assert sites_of(scope["model"]) == [("<string>:model:1:12", 1), ("<string>:model:1:12", 2)]


def test_a_notebooks_cells_have_no_number_in_their_addresses():
    found = []
    for file in ("/tmp/ipykernel_77/3405.py", "/tmp/ipykernel_78/9.py", "<ipython-input-3-1f>"):
        scope = {}
        exec(compile(SOURCE, file, "exec"), scope)
        found.append(sites_of(scope["model"])[0][0])
    assert set(found) == {"<cell>:model:1:12"}


def draw():
    return ppl.sample(dist.Normal(0.0, 1.0), name="x")


def test_a_with_statement_sees_the_addresses_that_engines_see():
    expected = [site.address for site in ppl.prior(draw, 1, progress=False)[0].sites]
    assert expected == ["test_addresses:draw:1:11"]
    with handlers.trace() as recorder:
        draw()
        ppl.sample(dist.Normal(0.0, 1.0))
    with contextlib.ExitStack() as stack:
        stack.enter_context(handlers.seed(seed=0))
        stacked = stack.enter_context(handlers.trace())
        draw()
    assert [site.address for site in recorder.trace.sites][:1] == expected
    assert recorder.trace.sites[1].address.startswith(
        "test_addresses:test_a_with_statement_sees_the_addresses_that_engines_see:"
    )
    assert [site.address for site in stacked.trace.sites] == expected
    assert sites_of(draw) == [(expected[0], 1)]
    replayed = ppl.prior(handlers.replay(draw, trace=recorder.trace), 3, progress=False)
    assert {trace["x"] for trace in replayed} == {recorder.trace["x"]}


def test_a_long_recursion_does_not_read_its_source_again_and_again():
    def deep(depth):
        return draw() if depth == 0 else deep(depth - 1)

    addresses._statements.cache_clear()
    depths = [sites_of(lambda depth=depth: deep(depth))[0][0].count("deep") for depth in range(0, 200, 10)]
    assert depths == list(range(1, 201, 10))
    assert addresses._statements.cache_info().misses <= 2


def test_chains_of_calls_are_remembered_within_bounds(monkeypatch):
    """A tree has a chain of calls for every leaf: what is forgotten is worked out again, to the same address."""

    def tree(depth):
        if depth and ppl.sample(dist.Bernoulli(1.0)):
            tree(depth - 1)
            tree(depth - 1)

    def met():
        return [site.address for site in handlers.trace(lambda: tree(6)).get_trace().sites]

    expected = met()
    monkeypatch.setattr(addresses, "_MEMO", {})
    monkeypatch.setattr(addresses, "_REMEMBERED", 10)
    assert met() == expected
    assert len(addresses._MEMO) <= 10
