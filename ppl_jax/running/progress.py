"""What a person sees of a run: a bar on a terminal, a line a minute in a log, and what the engine thinks of itself."""

from __future__ import annotations

import mmap
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

import numpy as np

LINE_EVERY = 60.0  # seconds between lines of a log
REPORT_EVERY = 0.2  # seconds for which an engine may keep finished executions to itself


class Progress:
    """The progress of ``total`` executions; a context manager. ``show=False`` makes every method do nothing.

    On a terminal or in a notebook it is a tqdm bar; elsewhere (a file, a service) a line a minute on standard error,
    and nothing where there is none. Nothing that goes wrong with what it is written to stops a run.

    Args:
      total: how many executions there will be.
      unit: what one is called, in the singular.
      show: whether to show anything.
      done: how many an earlier run has behind it.
    """

    def __init__(self, total: int, unit: str, show: bool, done: int = 0):
        self._meter: _Meter | None = _meter(total, unit, done) if show and sys.stderr is not None else None
        self._weights = RunningESS()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tell(lambda meter: meter.close())
        self._meter = None

    def say(self, note: str) -> None:
        """Shows at once what is being done, where nothing can be counted for a while ("compiling")."""
        self._tell(lambda meter: meter.say(note))

    def advance(self, number: int, note: str = "") -> None:
        """``number`` more executions are done."""
        self._tell(lambda meter: meter.advance(number, note))

    def advance_weighted(self, log_weights: np.ndarray) -> None:
        """Executions with these log weights are done; shows the effective sample size so far."""
        if self._meter is not None:
            self.advance(len(log_weights), self.weighed(log_weights))

    def weighed(self, log_weights: np.ndarray) -> str:
        """A note of the effective sample size, these log weights among the others."""
        self._weights.add(log_weights)
        return f"ESS {self._weights.value:.4g}"

    def _tell(self, what: Callable[[_Meter], None]) -> None:
        if self._meter is None:
            return
        try:
            what(self._meter)
        except (OSError, ValueError, AttributeError):  # closed, full, or no stream at all: the run matters more
            self._meter = None


class Counter(Protocol):
    """What a chain tells of its steps: a Progress, or a part of a Tally."""

    def advance(self, number: int, note: str = "") -> None:
        """``number`` more are done."""


class Counted:
    """The part of a Tally of one process."""

    def __init__(self, tally: Tally, process: int):
        self._tally, self._process = tally, process

    def advance(self, number: int, note: str = "") -> None:
        """``number`` more are done."""
        self._tally.count(self._process, number)


class Tally:
    """How many executions forked processes have done, in memory that they share with this one, which shows it.

    Args:
      processes: how many will count.
      progress: where it is shown.
    """

    def __init__(self, processes: int, progress: Progress):
        self._counts = np.frombuffer(mmap.mmap(-1, 8 * processes), dtype=np.int64)
        self._progress = progress
        self._shown = 0

    def count(self, process: int, number: int) -> None:
        """Process ``process`` (from 0) has done ``number`` more."""
        self._counts[process] += number

    def show(self, note: str = "") -> None:
        """Shows what was counted since the last time; called where the traces are collected."""
        total = int(self._counts.sum())
        self._progress.advance(total - self._shown, note)
        self._shown = total


class _Meter(Protocol):
    def advance(self, number: int, note: str) -> None: ...

    def say(self, note: str) -> None: ...

    def close(self) -> None: ...


def _meter(total: int, unit: str, done: int) -> _Meter:
    """A bar where somebody may be looking, else lines."""
    try:
        watched = "ipykernel" in sys.modules or sys.stderr.isatty()
    except (AttributeError, ValueError):  # something that stands in for a stream, or a closed one
        watched = False
    return _Bar(total, unit, done) if watched else _Lines(total, unit, done)


class _Bar:
    def __init__(self, total: int, unit: str, done: int):
        from tqdm.auto import tqdm

        self._bar: Any = tqdm(total=total, initial=done, unit=unit, unit_scale=True, dynamic_ncols=True)

    def advance(self, number: int, note: str) -> None:
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(number)

    def say(self, note: str) -> None:
        self._bar.set_postfix_str(note, refresh=True)

    def close(self) -> None:
        self._bar.close()


class _Lines:
    """A line when a minute has passed since the last one; none of a run that is over by then."""

    def __init__(self, total: int, unit: str, done: int):
        self._total, self._unit, self._first, self._done = total, unit, done, done
        self._begun = self._written = time.monotonic()
        self._note = ""

    def advance(self, number: int, note: str) -> None:
        self._done += number
        self._note = note
        self._write_if_due()

    def say(self, note: str) -> None:
        self._note = note
        self._write_if_due()

    def close(self) -> None:
        if self._written > self._begun:  # who has read the first lines wants to know the last
            self._write()

    def _write_if_due(self) -> None:
        if time.monotonic() - self._written >= LINE_EVERY:
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        elapsed, made = self._written - self._begun, self._done - self._first
        parts = [f"{self._done:,} of {self._total:,} {self._unit}s ({self._done / max(1, self._total):.0%})"]
        parts.append(f"{_duration(elapsed)} elapsed")
        if made and self._done < self._total:
            parts.append(f"about {_duration(elapsed / made * (self._total - self._done))} left")
        if made:
            parts.append(f"{made / max(elapsed, 1e-9):.3g} {self._unit}s/s")
        sys.stderr.write(", ".join([*parts, *([self._note] if self._note else [])]) + "\n")
        sys.stderr.flush()


def _duration(seconds: float) -> str:
    minutes, hours = seconds / 60.0, seconds / 3600.0
    return f"{seconds:.0f} s" if minutes < 2.0 else f"{minutes:.0f} min" if hours < 2.0 else f"{hours:.1f} h"


class Due:
    """Says when executions that were finished since the last report are to be shown."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self) -> bool:
        """Whether so much time has passed; then it begins anew."""
        now = time.monotonic()
        if now - self._last < REPORT_EVERY:
            return False
        self._last = now
        return True


class RunningESS:
    """(sum w)^2 / sum w^2 of log weights that arrive in blocks."""

    def __init__(self) -> None:
        self._max, self._sum, self._sum_of_squares = -np.inf, 0.0, 0.0

    def add(self, log_weights: np.ndarray) -> None:
        finite = log_weights[np.isfinite(log_weights)]
        if finite.size == 0:
            return
        highest = max(self._max, float(finite.max()))
        rescale = float(np.exp(self._max - highest))
        weights = np.exp(finite - highest)
        self._sum = self._sum * rescale + float(weights.sum())
        self._sum_of_squares = self._sum_of_squares * rescale**2 + float(np.square(weights).sum())
        self._max = highest

    @property
    def value(self) -> float:
        return self._sum**2 / self._sum_of_squares if self._sum_of_squares else 0.0
