"""Simulators in processes for the tests of this folder."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))  # remote_programs and remote_simulators

from remote_simulators import Simulators


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
