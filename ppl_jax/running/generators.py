"""The random generators of Python and numpy that a program can reach, and whether it drew from them.

A draw that matters in one execution of a hundred shows in no comparison of a few executions; that its generator went on
shows in every one. Looked at are the two global generators, and those that a model refers to by a global or closed-over
name, a default or an attribute, itself or through functions and objects that it refers to so.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from ppl_jax.language.addresses import is_library, is_own
from ppl_jax.language.handlers import Handler

_REACHED = 1000  # objects that are looked at
_ITEMS = 20  # of a container

States = Mapping[str, Any]


def states_of_generators(model: Any) -> States:
    """Name of a generator -> its state, a value that can be compared by ``==``."""
    states: dict[str, Any] = {
        "Python's module random": random.getstate(),
        "numpy's module random": _plain(np.random.get_state(legacy=False)),  # noqa: NPY002 (programs use it)
    }
    for name, found in _reachable(model):
        if isinstance(found, np.random.Generator):
            states[f"the generator '{name}'"] = _plain(found.bit_generator.state)
        elif isinstance(found, np.random.RandomState):
            states[f"the generator '{name}'"] = _plain(found.get_state(legacy=False))
        elif isinstance(found, random.Random) and not isinstance(found, random.SystemRandom):
            states[f"the generator '{name}'"] = found.getstate()
    return states


def went_on(before: States, after: States) -> str | None:
    """Which generator has another state afterwards; the end of a sentence, None if none has."""
    for name, state in after.items():
        if name in before and before[name] != state:
            return f"it draws from {name}"
    return None


def _plain(state: Any) -> Any:
    """A state without arrays, which have no single truth when they are compared."""
    if isinstance(state, Mapping):
        return {name: _plain(part) for name, part in state.items()}
    return state.tobytes() if isinstance(state, np.ndarray) else state


def _reachable(model: Any) -> Iterator[tuple[str, Any]]:
    """What a program refers to, with the last name on the way there; each object once."""
    pending, seen = [("model", model)], set[int]()
    while pending and len(seen) < _REACHED:
        name, current = pending.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield name, current
        pending.extend(_referred(name, current))


def _referred(name: str, current: Any) -> list[tuple[str, Any]]:
    if isinstance(current, FunctionType):
        return _of_function(current)
    if isinstance(current, MethodType):
        return [(name, current.__func__), (name, current.__self__)]
    if isinstance(current, functools.partial):
        return [(name, part) for part in (current.func, *current.args, *current.keywords.values())]
    if isinstance(current, Handler):
        return [(name, current.model)]
    if isinstance(current, dict):
        return [(str(key), item) for key, item in list(current.items())[:_ITEMS]]
    if isinstance(current, (list, tuple, set, frozenset)):
        return [(name, item) for item in list(current)[:_ITEMS]]
    if isinstance(current, (type, ModuleType)) or type(current).__module__.partition(".")[0] in _OPAQUE:
        return []
    call = type(current).__call__ if callable(current) else None
    attributes = getattr(current, "__dict__", {})
    return [*attributes.items(), *([(name, call)] if isinstance(call, FunctionType) else [])]


def _of_function(function: FunctionType) -> list[tuple[str, Any]]:
    """What a function, and those written inside it, refer to; nothing of installed libraries."""
    file = function.__code__.co_filename
    if is_own(file) or is_library(file):
        return []
    names: list[str] = []
    pending: list[CodeType] = [function.__code__]
    while pending:
        code = pending.pop()
        names.extend(code.co_names)
        pending.extend(constant for constant in code.co_consts if isinstance(constant, CodeType))
    found = [(name, function.__globals__[name]) for name in dict.fromkeys(names) if name in function.__globals__]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found.append((name, cell.cell_contents))
        except ValueError:  # not yet assigned
            continue
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    wrapped = getattr(function, "__wrapped__", None)
    return found + [("default", value) for value in defaults] + ([("wrapped", wrapped)] if wrapped else [])


_OPAQUE = ("builtins", "numpy", "jax", "jaxlib", "numpyro", "ppl_jax", "random")
