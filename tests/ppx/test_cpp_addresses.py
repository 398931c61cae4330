"""Addresses from the call stack: the same in every process, whatever the options, for all kinds of functions."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cpp_front_end import PATIENCE, built, connected, local_prior, simulator, sites_of

import ppx

UNWINDING = [
    "O0", "O2", "Os", "O3_march_native_mstackrealign", "O2_fno_omit_frame_pointer", "O1_maccumulate_outgoing_args",
]  # fmt: skip
VARIANTS = ["addresses", "addresses_exported", "addresses_stripped", "addresses_unoptimised", "addresses_in_module"]


def addresses(program: str, folder, **options) -> list[tuple[str, str]]:
    """Name and address of every statement of the program, in order."""
    with connected(program, folder, **options) as connection:
        return [(site.name, site.address) for site in sites_of(connection)]


def at(found: list[tuple[str, str]], name: str) -> list[str]:
    return [address for known, address in found if known == name]


def frames(address: str) -> list[str]:
    assert (address[0], address[-1]) == ("[", "]")
    return address[1:-1].split("; ")


@pytest.mark.parametrize("program", VARIANTS)
def test_same_in_two_processes(program, tmp_path):
    """The kernel puts modules elsewhere each time, which addresses must not show."""
    first = addresses(program, tmp_path)
    # Another environment moves the stack as well.
    second = addresses(program, tmp_path, environment={**os.environ, "PADDING": "x" * 5000})
    assert first == second
    assert len(first) >= 21


def test_modules_are_loaded_elsewhere_each_time(tmp_path):
    """What the test above rests on."""
    if Path("/proc/sys/kernel/randomize_va_space").read_text().strip() == "0":
        pytest.skip("this kernel does not randomise addresses")
    seen = set()
    for _ in range(3):
        with simulator("addresses", tmp_path) as (endpoint, process), ppx.Connection(endpoint) as connection:
            connection.handshake(PATIENCE)
            with open(f"/proc/{process.pid}/maps") as maps:
                seen.add(next(line.split("-")[0] for line in maps if line.rstrip().endswith("/addresses")))
    assert len(seen) > 1


def test_every_kind_of_function_has_its_name(tmp_path):
    found = addresses("addresses_unoptimised", tmp_path)
    for name, functions in {
        "anonymous": ["places()", "(anonymous namespace)::anonymous()"],
        "template": ["places()", "double shower::templated<int>(int)"],
        "virtual": ["places()", "shower::Derived::draw()"],
        "called by qsort": ["places()", "compare(void const*, void const*)"],  # the C library's frames are left out
        "in a loop": ["places()", "called_twice(char const*)"],
        "observe": ["places()"],
        "tag": ["places()"],
        "factor": ["places()"],
        "scope": ["places()"],
    }.items():
        first, *_ = at(found, name)
        assert [frame.rpartition("+0x")[0] for frame in frames(first)] == functions
    assert at(found, "template")[1] != at(found, "template")[0]  # another instance of the template
    assert frames(at(found, "lambda")[0])[0].startswith("places()+0x")


def test_one_place_one_address(tmp_path):
    found = addresses("addresses", tmp_path)
    loop = at(found, "in a loop")
    assert loop[0] != at(found, "after the loop")[0]
    # Statements at different places have different addresses; those of `here` are one place.
    several = ("in a loop", "here", "explicit", "scope", "a place", "number of")  # a scope has two marks
    distinct = [address for name, address in found if not name.startswith(several)]
    assert len(set(distinct)) == len(distinct)


def test_a_hook_sees_where_it_is_called_from(tmp_path):
    found = addresses("addresses", tmp_path)
    by_number, by_text = at(found, "a place by number"), at(found, "a place by text")
    assert by_number == by_text
    assert by_number[0] == by_number[1] != by_number[2]  # in a loop, and after it
    for address in by_number:
        assert [frame.rpartition("+0x")[0] for frame in frames(address)] == ["places()", "hooked()"]


def test_names_need_not_be_exported(tmp_path):
    """-rdynamic changes nothing: names come from the symbol table of the file."""
    assert addresses("addresses", tmp_path) == addresses("addresses_exported", tmp_path)


def test_without_symbols_the_module_is_counted_from(tmp_path):
    for name, address in addresses("addresses_stripped", tmp_path):
        if name.startswith(("here", "explicit", "tree")):  # the last is cut in the middle
            continue
        for frame in re.findall(r"[^\s;()\[\]]+\+0x[0-9a-f]+", address):
            assert re.fullmatch(r"addresses_stripped\+0x[0-9a-f]{1,6}", frame), address
    inside = addresses("addresses_in_module", tmp_path)
    # Exported functions of a stripped library keep their names.
    pattern = r"\[places\(\)\+0x[0-9a-f]+; libaddresses_module\.so\+0x[0-9a-f]+\]"
    assert re.fullmatch(pattern, at(inside, "anonymous")[0])


def test_deep_recursion(tmp_path):
    """Ten thousand frames are not cut off; levels differ, and addresses stay short."""
    for program in VARIANTS:
        found = addresses(program, tmp_path)
        first, second, last = at(found, "recursion")
        assert len({first, second, last}) == 3
        assert len(frames(first)) == 2
        assert len(frames(second)) == 3
        assert re.search(r"\+0x[0-9a-f]+ x10000; ", last)
        (even,) = at(found, "even and odd")
        assert re.search(r"; \([^;]+\+0x[0-9a-f]+; [^;]+\+0x[0-9a-f]+\) x3000; ", even)
        assert len(last) < 300
        assert len(even) < 300


def test_deep_stacks_without_repetition_are_shortened(tmp_path):
    for program in VARIANTS:
        first, second = at(addresses(program, tmp_path), "tree")
        assert first != second
        for address in (first, second):
            assert re.search(r" \.\.\.#[0-9a-f]{32}\.\.\. ", address)
            assert 8000 < len(address) < 8100


def test_places_in_the_source_survive_other_options(tmp_path):
    optimised, unoptimised = addresses("addresses", tmp_path), addresses("addresses_unoptimised", tmp_path)
    for name in ("here", "here from elsewhere"):
        (place,) = at(optimised, name)
        assert at(unoptimised, name) == [place]
        assert re.fullmatch(r"addresses\.cpp:here:\d+", place)
    assert at(optimised, "explicit") == at(unoptimised, "explicit") == ["tau:px"]
    # Those from the call stack do not, and the build id says so.
    assert at(optimised, "anonymous") != at(unoptimised, "anonymous")


def build_id(program: str, folder) -> str:
    with connected(program, folder) as connection:
        return connection.peer.build_id


def test_build_id(tmp_path):
    """The same for every process of a build, another for another build, also if only a library is another."""
    known = {program: build_id(program, tmp_path) for program in VARIANTS}
    assert all(re.fullmatch("[0-9a-f]{32}", found) for found in known.values())
    assert len(set(known.values())) == len(VARIANTS)
    assert known == {program: build_id(program, tmp_path) for program in VARIANTS}


def test_program_replaced_while_it_runs(tmp_path):
    """Names are those of the file that was started, not of another that stands in its place now."""
    expected = addresses("addresses", tmp_path)
    program = tmp_path / "addresses"
    shutil.copy(built("addresses"), program)
    endpoint = f"ipc://{tmp_path}/replaced.ipc"
    process = subprocess.Popen([str(program), endpoint])
    try:
        with ppx.Connection(endpoint) as connection:
            connection.handshake(PATIENCE)
            other = tmp_path / "other"
            shutil.copy(built("addresses_unoptimised"), other)
            other.replace(program)
            assert [(site.name, site.address) for site in sites_of(connection)] == expected
    finally:
        process.kill()
        process.wait()


def test_libraries_that_come_and_go(tmp_path):
    """What is known of a place in memory is forgotten when another library lies there."""
    folder = built("plugins").parent
    libraries = [str(folder / f"libplugin_{name}.so") for name in ("first", "second")]
    with connected("plugins", tmp_path, *libraries) as connection:
        executions, errors = local_prior(connection, 6)
    assert not errors
    found = [execution[0].site.address for execution in executions]
    assert found == found[:2] * 3
    for name, address in zip(("first", "second"), found, strict=False):
        assert re.search(rf"; {name}::draw\(\)\+0x[0-9a-f]+\]$", address)


def test_address_of_a_model_that_is_a_lambda(tmp_path):
    """Of callables that may be inlined into the library's caller, the frame of that begins the address."""
    with connected("faults", tmp_path, "none") as connection:
        (site,) = sites_of(connection)
    assert "main::{lambda()#1}" in site.address


@pytest.mark.parametrize("options", UNWINDING)
def test_unwinding_agrees_with_libgcc(options):
    """Also from frames of variable size, aligned frames, destructors, handlers, callbacks of the C library."""
    done = subprocess.run(
        [str(built(f"unwinding_{options}"))], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 11
    for line in lines:
        numbers = re.fullmatch(r"[^:]+: (\d+) compared, (\d+) different, (\d+) by libgcc", line)
        assert numbers, line
        assert int(numbers[1]) > 0
        assert (numbers[2], numbers[3]) == ("0", "0"), line
