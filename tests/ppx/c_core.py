"""Builds the C core with the programs in tests/ppx/c, and starts those: what the tests of the C core stand on."""

from __future__ import annotations

import ctypes
import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import ppx

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "tests-ppx-c"
SANITIZE = os.environ.get("PPX_SANITIZE", "")  # "address,undefined" builds the simulators of all tests with sanitizers
PATIENCE = 30.0  # seconds after which an answer that does not come is an error; nothing here takes one


@cache
def built(*targets: str, sanitize: str = "", shared: bool = False) -> Path:
    """The build folder in which these targets were brought up to date; raises with the compiler's words."""
    folder = BUILD / ("-".join(sanitize.split(",")) or ("shared" if shared else "static"))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # sessions that run at the same time build one after the other
        kind = "ON" if shared else "OFF"
        options = [f"-DPPX_SANITIZE={sanitize}", f"-DBUILD_SHARED_LIBS={kind}", "-DPPX_BUILD_TESTS=ON"]
        _run("cmake", "-S", str(ROOT / "ppx" / "cpp"), "-B", str(folder), *options)
        _run("cmake", "--build", str(folder), "--parallel", "2", "--target", *targets)
    return folder


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")


def program(name: str, **options: Any) -> Path:
    """The path of a program of tests/ppx/c, built."""
    return built(name, **options) / "tests" / name


@contextmanager
def simulator(model: str, folder: Path, *options: str, endpoint: str = "") -> Iterator[tuple[str, subprocess.Popen]]:
    """A process that serves a model of tests/ppx/c/models.c: its endpoint and itself. It is ended afterwards."""
    endpoint = endpoint or f"ipc://{folder}/{model}.ipc"
    command = [str(program("models", sanitize=SANITIZE)), endpoint, model, "signals", "parent", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield endpoint, process
    finally:
        process.terminate() if process.poll() is None else None
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode in (0, -15), said


@contextmanager
def connected(
    model: str, folder: Path, *options: str, capabilities: int = ppx.ALL_CAPABILITIES, **more: Any
) -> Iterator[ppx.Connection]:
    """A connection to such a process, after the handshake."""
    with (
        simulator(model, folder, *options) as (endpoint, _),
        ppx.Connection(endpoint, capabilities=ppx.Capability(capabilities), **more) as connection,
    ):
        connection.handshake(PATIENCE)
        yield connection


# -- the parts without a session, called in this process --------------------------------------------------------------


class Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.POINTER(ctypes.c_double)),
        ("shape", ctypes.POINTER(ctypes.c_int32)),
        ("dimensions", ctypes.c_uint32),
    )


class Distribution(ctypes.Structure):
    pass


Distribution._fields_ = (
    ("family", ctypes.c_uint32),
    ("num_components", ctypes.c_uint32),
    ("parameters", Tensor * 4),
    ("components", ctypes.POINTER(Distribution)),
)


class Stream(ctypes.Structure):
    _fields_ = (
        ("seed", ctypes.c_uint64),
        ("index", ctypes.c_uint64),
        ("position", ctypes.c_uint64),
        ("second", ctypes.c_double),
    )


@cache
def library() -> ctypes.CDLL:
    """The C core as a shared library."""
    core = ctypes.CDLL(str(built("ppx_core", shared=True) / "libppx_core.so"))
    core.ppx_stream_start.argtypes = (ctypes.POINTER(Stream), ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64)
    core.ppx_stream_start.restype = None
    core.ppx_uniform.argtypes = (ctypes.POINTER(Stream),)
    core.ppx_uniform.restype = ctypes.c_double
    core.ppx_check.argtypes = (ctypes.POINTER(Distribution), ctypes.c_char_p, ctypes.c_size_t)
    core.ppx_value_shape.argtypes = (
        ctypes.POINTER(Distribution), ctypes.POINTER(ctypes.c_int32), ctypes.POINTER(ctypes.c_uint32),
        ctypes.POINTER(ctypes.c_size_t),
    )  # fmt: skip
    core.ppx_draw.argtypes = (ctypes.POINTER(Stream), ctypes.POINTER(Distribution), ctypes.POINTER(ctypes.c_double))
    core.ppx_draw.restype = None
    return core


def distribution(layout: tuple, numbers: list[float]) -> Distribution:
    """The C form of a distribution, given by layout and numbers as ppl_jax has them."""
    made, rest = _distribution(layout, list(numbers))
    assert not rest
    return made


def _distribution(layout: tuple, numbers: list[float]) -> tuple[Distribution, list[float]]:
    from ppx.constants import FAMILY_NUMBERS

    made = Distribution(family=FAMILY_NUMBERS[layout[0]])
    shapes = layout[1:2] if layout[0] == "Mixture" else layout[1:]
    for place, shape in enumerate(shapes):
        count = 1
        for size in shape:
            count *= size
        data = (ctypes.c_double * max(count, 1))(*numbers[:count])
        numbers = numbers[count:]
        made.parameters[place] = Tensor(data, (ctypes.c_int32 * max(len(shape), 1))(*shape), len(shape))
    if layout[0] == "Mixture":
        components = []
        for inner in layout[2]:
            component, numbers = _distribution(inner, numbers)
            components.append(component)
        made.num_components = len(components)
        made.components = (Distribution * len(components))(*components)
        made._keep = components
    return made, numbers


def check(made: Distribution) -> str:
    """What ppx_check has against it; "" if nothing."""
    error = ctypes.create_string_buffer(256)
    return error.value.decode() or "refused" if library().ppx_check(made, error, 256) else ""


def draws(made: Distribution, seed: int, index: int, count: int) -> tuple[list[list[float]], int]:
    """Draws from the stream (seed, index), and how many uniforms they took."""
    core = library()
    shape, dimensions, size = (ctypes.c_int32 * 16)(), ctypes.c_uint32(), ctypes.c_size_t()
    assert core.ppx_value_shape(made, shape, dimensions, size) == 0
    stream, value, drawn = Stream(), (ctypes.c_double * max(size.value, 1))(), []
    core.ppx_stream_start(stream, seed, index, 0)
    for _ in range(count):
        core.ppx_draw(stream, made, value)
        drawn.append(list(value)[: size.value])
    return drawn, stream.position
