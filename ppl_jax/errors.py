"""Every error a user of ppl_jax can cause: what happened, where, what was expected, and what to do.

The messages are complete sentences, so that a traceback's last line is enough to act on.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches
from typing import Any


class PPLError(Exception):
    """Base class. ``finished``, where an engine sets it, is the Empirical of the traces finished before the error."""

    finished: Any = None


class ParameterError(PPLError, ValueError):
    """A distribution was given a parameter outside its domain."""

    def __init__(self, family: str, parameter: str, value: Any, expected: str):
        self.family, self.parameter, self.value, self.expected = family, parameter, value, expected
        super().__init__(
            f"{family}: parameter '{parameter}' must be {expected}, got {value!r}. "
            f"Check the expression that computes '{parameter}'.{_of_nan(value)}"
        )

    def locate(self, place: str) -> None:
        """Adds to the message where in the user's program the distribution was made."""
        self.args = (f"{self.args[0]} ({place})",)


def _of_nan(value: Any) -> str:
    """What to do about a simulator that fails for a part of its prior."""
    if "nan" not in repr(value).lower():
        return ""
    return (
        " If the simulator fails for some of the values that it draws, rule them out where it does: "
        "ppl_jax.factor(-math.inf), and return."
    )


class ParameterTypeError(ParameterError, TypeError):
    """A distribution was given a parameter that is not made of numbers."""

    def __init__(self, family: str, parameter: str, value: Any, problem: str):
        self.family, self.parameter, self.value = family, parameter, value
        self.expected = "a number or an array of numbers"
        which = f"{family}: parameter '{parameter}'" if parameter else f"A parameter of {family or 'a distribution'}"
        ValueError.__init__(self, f"{which} must be {self.expected}: {reprlib.repr(value)} {problem}.")


class RemoteParameterError(ParameterError):
    """A simulator found a parameter outside its domain; the text is the simulator's."""

    def __init__(self, text: str):
        self.family, self.parameter, self.value, self.expected = "", "", None, ""
        ValueError.__init__(self, text)

    def locate(self, place: str) -> None:
        """Nothing is added: the text says where."""


class SiteError(PPLError):
    """Something is wrong at one site; the message names it."""

    def __init__(self, site: Any, problem: str, remedy: str):
        self.address, self.instance, self.name = site.address, site.instance, site.name
        super().__init__(f"{describe_site(site)}: {problem} {remedy}")


class ObservationError(SiteError, ValueError):
    """An observed value is missing, NaN, of the wrong shape or type, or stands in a rejection scope."""


def missing_value(site: Any, observations: Iterable[str], sites: Iterable[Any]) -> ObservationError:
    """The error of an observe without a value; names the data that no site has asked for so far, one perhaps meant."""
    unmet = set(observations) - {met.name for met in sites}
    remedy = f"Give one: observations={{{site.name or 'a name'!r}: ...}}"
    remedy += "." if site.name else ", after naming the observe."
    if unmet:
        likely = sorted(unmet, key=lambda name: -SequenceMatcher(None, name, site.name or "").ratio())
        remedy += f" Of the data, {', '.join(map(repr, likely))} were not asked for so far: is one of them meant?"
    return ObservationError(site, "no value was given, neither in the model nor in `observations`.", remedy)


class UnknownObservationError(PPLError, KeyError):
    """Observations were given under names at which the model never observed or sampled."""

    def __init__(self, unknown: Iterable[str], known: Iterable[str], num_traces: int):
        unknown, known = sorted(unknown), sorted(known)
        hints = []
        for name in unknown:
            close = get_close_matches(name, known, 1)
            hints.append(f"'{name}' (did you mean '{close[0]}'?)" if close else f"'{name}'")
        self.unknown, self.known = unknown, known
        self.message = (
            f"No site of the model is named {', '.join(hints)} in any of {num_traces} traces. The named sites are: "
            f"{', '.join(repr(k) for k in known) or 'none'}. Correct the names in `observations`, or name the observe."
        )
        super().__init__(self.message)

    def __str__(self) -> str:  # KeyError would show the repr
        return self.message


class DegenerateWeightsError(PPLError, ValueError):
    """All importance weights are zero (or one is NaN or +inf), so no expectation exists."""


class NoLatentsError(PPLError, ValueError):
    """The model has no controlled latent variable for the engine to move."""


class ScopeError(PPLError, RuntimeError):
    """A rejection scope was used outside its with statement, or its loop is not one that can be run again."""


class ModelError(PPLError, RuntimeError):
    """The model raised; the original exception is the cause, ``finished`` the traces before it."""


class SimulatorError(PPLError, RuntimeError):
    """A simulator in another process cannot be started or reached, or fails again and again."""


class UntraceableModelError(PPLError, TypeError):
    """``backend="jax"`` was asked for a model that JAX cannot trace."""


class SupportError(SiteError, ValueError):
    """A value that was to be fixed at a site lies outside the distribution's support."""


class StorageError(PPLError, ValueError):
    """A file is missing, truncated or of another format, or a value cannot be stored without pickle."""


class NetworkError(PPLError, ValueError):
    """A network does not fit what it is to be used for; the message says where and what to do."""


class TrainingError(PPLError, RuntimeError):
    """Training cannot go on; ``network`` is what was learned before."""

    network: Any = None


class WorkerDied(PPLError, RuntimeError):
    """A worker process ended before it had answered or finished."""


class MissingPackageError(PPLError, ImportError):
    """Something needs a package that only an extra of this library installs."""

    def __init__(self, package: str | None, extra: str):
        super().__init__(f"This needs {package}. Install it with: pip install 'ppl-jax[{extra}]'.")


class UnreliablePosteriorWarning(UserWarning):
    """The samples cannot carry an estimate: weights too uneven, chains that disagree, or too few independent ones."""


class InterruptedRunWarning(UserWarning):
    """A run was interrupted; what it returned holds the traces finished before."""


def describe_site(site: Any) -> str:
    """One phrase that identifies a site to a person: its kind, name, address and instance."""
    name = f" '{site.name}'" if site.name else ""
    calls = (site.address or "?").split("; ")
    if len(calls) > 2 * _CALLS_SHOWN:  # deep in a recursion
        left_out = f"... {len(calls) - 2 * _CALLS_SHOWN} calls more ..."
        calls = [*calls[:_CALLS_SHOWN], left_out, *calls[-_CALLS_SHOWN:]]
    return f"{site.kind} site{name} at {'; '.join(calls)} (instance {site.instance})"


def describe_scope(key: tuple[str, str]) -> str:
    """One phrase that identifies a rejection scope, of an address and a name or "", to a person."""
    name = f" '{key[1]}'" if key[1] else ""
    return f"the rejection scope{name} at {key[0]}"


def observed_in_scope(site: Any, key: tuple[str, str]) -> ObservationError:
    """The error of a site that weighs the execution within a rejection scope."""
    what = "it weighs the execution" if site.kind == "factor" else "it is observed"
    return ObservationError(
        site,
        f"{what} within {describe_scope(key)}, and the passes of a loop must not depend on data.",
        "Move it behind the scope; or leave the scope out, so that every pass belongs to the trace.",
    )


_CALLS_SHOWN = 3  # of a long address, at its beginning and at its end
