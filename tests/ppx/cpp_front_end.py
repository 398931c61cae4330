"""Builds the C++ front end with its examples and the programs in tests/ppx/cpp, and starts those."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import ppx
from ppx import messages as m
from ppx.constants import SiteKind

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "tests-ppx-cpp"
SANITIZERS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g"
PATIENCE = 30.0  # seconds after which an answer that does not come is an error; nothing here takes one


@cache
def built(target: str, sanitized: bool = False) -> Path:
    """The path of a program, brought up to date; raises with the compiler's words."""
    folder = _configured(sanitized)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # sessions that run at the same time build one after the other
        _run("cmake", "--build", str(folder), "--parallel", "2", "--target", target)
    inside = folder / target
    return inside if inside.is_file() else folder / "examples" / target


@cache
def _configured(sanitized: bool = False) -> Path:
    folder = BUILD / ("sanitized" if sanitized else "release")
    folder.mkdir(parents=True, exist_ok=True)
    flags = SANITIZERS if sanitized else ""
    options = ["-DCMAKE_BUILD_TYPE=Release", f"-DCMAKE_C_FLAGS={flags}", f"-DCMAKE_CXX_FLAGS={flags}"]
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _run("cmake", "-S", str(ROOT / "tests" / "ppx" / "cpp"), "-B", str(folder), *options)
    return folder


def has_target(target: str) -> bool:
    """Whether the program can be built here."""
    listed = subprocess.run(
        ["cmake", "--build", str(_configured()), "--target", "help"], capture_output=True, text=True, timeout=60
    )
    return target in listed.stdout.split()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")


@contextmanager
def simulator(
    program: str,
    folder: Path,
    *arguments: str,
    environment: dict[str, str] | None = None,
    sanitized: bool = False,
) -> Iterator[tuple[str, subprocess.Popen]]:
    """A process that serves a program: its endpoint and itself. It is ended afterwards."""
    endpoint = f"ipc://{folder}/simulator.ipc"
    command = [str(built(program, sanitized)), endpoint, *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        yield endpoint, process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@contextmanager
def connected(
    program: str, folder: Path, *arguments: str, capabilities: int = ppx.ALL_CAPABILITIES, **options: Any
) -> Iterator[ppx.Connection]:
    """A connection to such a process, after the handshake."""
    with (
        simulator(program, folder, *arguments, **options) as (endpoint, _),
        ppx.Connection(endpoint, capabilities=ppx.Capability(capabilities)) as connection,
    ):
        connection.handshake(PATIENCE)
        yield connection


class Statement(NamedTuple):
    """A statement of an execution that the front end performed, with its numbers."""

    site: m.Site
    value: tuple[float, ...]
    parameters: tuple[float, ...]

    @property
    def name(self) -> str:
        return self.site.name


def local_prior(
    connection: ppx.Connection, count: int, seed: int = 11, **draws: Any
) -> tuple[list[list[Statement]], list[m.Error]]:
    """`count` executions that the front end draws by itself: those that did not fail, and the errors of the others."""
    executions: list[list[Statement]] = []
    errors: list[m.Error] = []
    draws.setdefault("policy", m.Policy())
    done = 0
    while done < count:
        answer = connection.request(m.Run(m.Draws(seed, done, count - done, **draws)), PATIENCE)
        assert type(answer) is m.RunResult, answer
        found = connection.sites.receive(answer.traces)
        for number, start in zip(found.types, found.starts[:-1], strict=True):
            type_ = found.row_types[number]
            row = tuple(float(number) for number in answer.traces.rows[start : start + type_.width])
            pairs = zip(type_.sites, type_.slots, strict=True)
            executions.append(
                [Statement(site, row[s.value : s.distribution], row[s.distribution : s.end]) for site, s in pairs]
            )
        errors += answer.traces.errors
        done += len(answer.traces.types) + len(answer.traces.errors)
    return executions, errors


def sites_of(connection: ppx.Connection) -> list[m.Site]:
    """The sites of one execution, in order, the result left out."""
    (execution,), errors = local_prior(connection, 1)
    assert not errors
    return [statement.site for statement in execution if statement.site.kind != SiteKind.RESULT]
