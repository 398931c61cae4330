"""Talks with front ends: an inference side of a few lines, and the same talk with the C and the Python front end."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from c_core import PATIENCE, connected
from c_models import MODELS

import ppx
from ppl_jax.distributions.layouts import rebuild
from ppl_jax.streams import Stream
from ppx import messages as m

MODES = {"plain": 0, "errors": 3, "sites": 7, "draws": 15, "mailbox": 31}


@contextmanager
def connected_to_python(model: str, folder: Path, capabilities: int, **more: Any) -> Iterator[ppx.Connection]:
    """A connection to the Python front end with the same model, in a thread."""
    with ppx.FrontEnd(MODELS[model], f"ipc://{folder}/{model}-python.ipc") as front_end:
        thread = threading.Thread(target=front_end.serve)
        thread.start()
        try:
            with ppx.Connection(front_end.endpoint, capabilities=ppx.Capability(capabilities), **more) as connection:
                connection.handshake(PATIENCE)
                yield connection
        finally:
            front_end.stop()
            thread.join()


# -- dialogues --------------------------------------------------------------------------------------------------------


class FromPrior:
    """Answers questions by draws from the prior, of a stream of its own or, under draws, of the front end's."""

    def __init__(self, connection: ppx.Connection, seed: int = 5):
        self.connection = connection
        self.rng = Stream(seed, 0)

    def __call__(self, question: Any) -> m.Message:
        if type(question) is m.Observe:
            return m.ObserveResult()
        if type(question) is m.Tag:
            return m.TagResult()
        layout = self.connection.sites[question.site].layout if question.site else question.layout
        made = rebuild(layout, question.numbers)
        value = np.asarray(made.sample(self.rng), dtype=float)
        return m.SampleResult(value.shape, tuple(value.ravel().tolist()), question.position)


def request(connection: ppx.Connection, message: m.Message) -> Any:
    """The answer to a message; the sites that it defines are taken in."""
    answer = connection.request(message, PATIENCE)
    assert answer is not None, f"no answer in {PATIENCE} s"
    if getattr(answer, "traces", None) is not None:
        connection.sites.receive(answer.traces)
    return answer


def dialogue(connection: ppx.Connection, run: m.Run, answer: Callable[[Any], m.Message] | None = None) -> list[Any]:
    """What the front end says from a Run to its end."""
    answer = answer or FromPrior(connection)
    said = [request(connection, run)]
    while type(said[-1]) in (m.Sample, m.Observe, m.Tag):
        said.append(request(connection, answer(said[-1])))
    return said


def exactly(message: Any) -> Any:
    """A message with its numbers as bytes, so that equal means equal in every bit."""
    if isinstance(message, m.Traces):
        types = tuple(tuple(map(int, sites)) for sites in message.type_sites), tuple(map(int, message.types))
        errors = tuple(error._replace(text="") for error in message.errors)
        return m.Traces(message.sites, *types, packed(message.rows), errors)
    changes = {name: packed(getattr(message, name)) for name in ("numbers", "value") if hasattr(message, name)}
    if getattr(message, "traces", None) is not None:
        changes["traces"] = exactly(message.traces)
    return message._replace(**changes)


def packed(numbers: Any) -> bytes:
    return struct.pack(f"{len(numbers)}d", *numbers)


def both(model: str, folder: Path, capabilities: int, talk: Callable[[ppx.Connection], list], **more: Any) -> list:
    """What both front ends say in the same talk, after holding it together."""
    with connected(model, folder, capabilities=capabilities, **more) as connection:
        in_c = talk(connection)
    with connected_to_python(model, folder, capabilities, **more) as connection:
        in_python = talk(connection)
    assert [exactly(message) for message in in_c] == [exactly(message) for message in in_python]
    return in_c


def local_prior(connection: ppx.Connection, count: int, first: int = 0, **draws: Any) -> list[m.RunResult]:
    """The answers to as many Runs as it takes to have `count` executions."""
    said, end = [], first + count
    while first < end:
        (answer,) = dialogue(connection, m.Run(m.Draws(11, first, end - first, **draws)))
        first += len(answer.traces.types) + len(answer.traces.errors)
        said.append(answer)
    return said


def executions(said: list[Any]) -> list[tuple[tuple[int, ...], bytes]]:
    """Sites and row of each execution, from messages that hold whole ones and define all their sites."""
    sites = [site for message in said for site in message.traces.sites]
    found = []
    for traces in (message.traces for message in said):
        start = 0
        for type_ in traces.types:
            numbers = tuple(map(int, traces.type_sites[type_]))
            end = start + ppx.sites.row_type(tuple([sites[number - 1] for number in numbers])).width
            found.append((numbers, packed(traces.rows[start:end])))
            start = end
    return found


def asked(*sites: int, size: int = 2) -> bytes:
    """The bits of a policy that asks for these sites."""
    bits = bytearray(size)
    for site in sites:
        bits[site >> 3] |= 1 << (site & 7)
    return bytes(bits)


def without_text(message: Any) -> Any:
    return message._replace(text="") if type(message) is m.Error else message
