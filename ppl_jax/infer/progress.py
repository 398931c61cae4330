"""The progress bar of an engine: traces per second, and what the engine thinks of its own quality."""

from __future__ import annotations

from types import TracebackType

import numpy as np
from tqdm.auto import tqdm


class Progress:
    """A tqdm bar over ``total`` executions; a context manager. ``show=False`` makes every method do nothing.

    ``done`` are those that an earlier run has behind it.
    """

    def __init__(self, total: int, unit: str, show: bool, done: int = 0):
        self._bar = tqdm(total=total, initial=done, unit=unit, unit_scale=True, dynamic_ncols=True) if show else None
        self._weights = RunningESS()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def say(self, note: str) -> None:
        """Shows at once what is being done, where nothing can be counted for a while."""
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=True)

    def advance(self, number: int, note: str = "") -> None:
        """``number`` more executions are done."""
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(number)

    def advance_weighted(self, log_weights: np.ndarray) -> None:
        """Executions with these log weights are done; shows the effective sample size so far."""
        if self._bar is not None:
            self._weights.add(log_weights)
            self.advance(len(log_weights), f"ESS {self._weights.value:.4g}")


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
