"""Simulators in processes for the tests of this folder."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import ppl_jax as ppl

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # remote_programs, which the tests also run locally

WAIT = 120.0  # seconds without an answer after which a test fails instead of waiting for ever


def command(program: str, *how: str) -> list[str]:
    """The command that serves a program of programs.py or remote_programs.py."""
    return [sys.executable, str(HERE / "remote_programs.py"), program, "{endpoint}", *how]


def simulator(program: str, *how: str, **options) -> ppl.RemoteModel:
    """A RemoteModel of such a program."""
    return ppl.RemoteModel(command=command(program, *how), **{"timeout": WAIT, "start_timeout": WAIT, **options})


MODES = {
    "shared memory": ((), {}),
    "sockets": ((), {"shared_memory": False}),
    "1.0.0 here": ((), {"extension": False}),
    "1.0.0 there": (("plain",), {}),
}


class Simulators:
    """Simulators that tests share, by program and mode: starting Python takes a second."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, str], ppl.RemoteModel] = {}

    def __call__(self, program: str, mode: str = "shared memory") -> ppl.RemoteModel:
        if (program, mode) not in self._running:
            how, options = MODES[mode]
            self._running[program, mode] = simulator(program, *how, **options)
        return self._running[program, mode]

    def close(self) -> None:
        """Stops all."""
        for model in self._running.values():
            model.close()


@pytest.fixture(scope="module")
def simulators() -> Iterator[Simulators]:
    """A function from the name of a program, and of a mode, to a RemoteModel."""
    shared = Simulators()
    yield shared
    shared.close()


@pytest.fixture
def nothing_left(tmp_path, monkeypatch) -> Iterator[None]:  # tmp_path: it must be made before its place changes
    """No child process, descriptor or temporary file outlives the test."""
    process = psutil.Process()
    with tempfile.TemporaryDirectory(prefix="rt", dir="/tmp") as folder:  # short: sockets live in it
        monkeypatch.setattr("tempfile.tempdir", folder)
        children, files, threads = set(process.children(recursive=True)), process.num_fds(), process.num_threads()
        yield
        left = set(process.children(recursive=True)) - children
        assert not left, f"processes are left: {left}"
        assert os.listdir(folder) == [], "files are left"
        assert process.num_fds() <= files, "descriptors are left"
        assert process.num_threads() <= threads, "threads are left"
