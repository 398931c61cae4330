"""RemoteModels of the programs of this folder and of programs.py, each in a process of its own."""

import sys
from pathlib import Path

import ppl_jax as ppl

HERE = Path(__file__).resolve().parent
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
