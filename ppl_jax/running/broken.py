"""Executions that a proposed value breaks: they have weight zero, are counted, and do not end a run.

A proposal may give a value that the prior never would, and the program fails there: ``exp`` overflows, a rate becomes
infinite, an external program gives up. The posterior has no mass worth speaking of at such values, so the execution
counts with weight zero. But the same failure at values that the prior gives is a fault of the program, which must be
seen. So an execution is forgiven if it fails in its numbers, or if a value that was proposed to it is one that the
prior all but never draws; and no run ends well of which half the executions fail. A walk of single sites moves to what
the prior gives too: there only the second counts.
"""

from __future__ import annotations

import math
import warnings
from opcode import opname
from typing import Any

import numpy as np

from ppl_jax.distributions.base import Distribution
from ppl_jax.errors import DegenerateWeightsError, ModelError, ParameterError, PPLError
from ppl_jax.language.site import total_log_prob
from ppl_jax.running.checks import callers_level
from ppl_jax.running.execution import Execution, proposed_to
from ppl_jax.streams import Stream

#: Of the errors of an execution, those that may be due to a proposed value.
FORGIVABLE = (ModelError, ParameterError, DegenerateWeightsError)
#: What numbers can do to a program wherever they come from; ValueError where a function of C raises it (``math.sqrt``).
_NUMERICAL = (ArithmeticError, np.linalg.LinAlgError)
_PRIOR_DRAWS = 100  # with whose densities the density of a proposed value is compared
_MARGIN = 5.0  # nats below the least of them, from which on a value is called improbable: of a normal, beyond 4 sd
_RAREST_CHOICE = math.log(1e-4)
_LEFT_OUT = "They have weight zero: they are not among the traces, but the evidence counts them."
REFUSED = "They were rejected."  # what a chain makes of them
_TOO_MANY = 50  # broken executions, from which on a run ends early if they are more than half


class Broken:
    """Counts the executions of a run that proposed values broke.

    Args:
      outcome: what the run makes of them, a sentence.
      any_numerical: whether failures in the numbers are forgiven at values that the prior gives too.

    Attributes:
      number: how many there were.
    """

    def __init__(self, outcome: str = _LEFT_OUT, any_numerical: bool = True) -> None:
        self.number = 0
        self._any_numerical = any_numerical
        self._outcome = outcome
        self._first: PPLError | None = None

    def forgive(self, error: PPLError, execution: Execution, finished: int) -> None:
        """Takes an execution that failed for one of weight zero, or raises the error.

        Args:
          error: what it raised.
          execution: where it ended.
          finished: how many executions of the run have come to their end.
        """
        if not _is_values(error, execution, self._any_numerical):
            raise error
        self.number += 1
        self._first = self._first or error
        if self.number >= _TOO_MANY and self.number > finished:
            raise self._too_many(finished)

    def add(self, other: Broken) -> None:
        """Counts those of a part of the run too."""
        self.number += other.number
        self._first = self._first or other._first

    def conclude(self, finished: int) -> None:
        """Says how many there were, at the end of a run of which so many executions are whole.

        Raises:
          ModelError, ParameterError: the first error, if more were broken than not.
        """
        if self._first is None:
            return
        if self.number > finished:
            raise self._too_many(finished)
        warnings.warn(
            f"{self.number:,} of {self.number + finished:,} executions failed at values that were proposed to them. "
            f"{self._outcome} The first: {self._first} If the prior gives such values too, mend the program there; "
            "else proposals nearer to the prior avoid them.",
            RuntimeWarning,
            stacklevel=callers_level(),
        )

    def _too_many(self, finished: int) -> PPLError:
        assert self._first is not None
        if getattr(self._first, "__notes__", None):
            return self._first
        self._first.add_note(
            f"{self.number} of {self.number + finished} executions failed, of which this was the first: with so many "
            "it is not the proposals to which it is due."
        )
        return self._first


def check_number(log_weight: Any, execution: Execution) -> None:
    """Raises DegenerateWeightsError if the weight of an execution is NaN and proposals steered it."""
    if log_weight != log_weight and execution.steered:
        raise DegenerateWeightsError(
            f"The weight of execution {execution.rng.index} is NaN{proposed_to(execution)}. Let the model give a "
            "finite density there, or -math.inf where it is impossible."
        )


def _is_values(error: PPLError, execution: Execution, any_numerical: bool) -> bool:
    """Whether an error is due to the values that were proposed."""
    if not execution.steered or not isinstance(error, FORGIVABLE):
        return False
    if any_numerical and (not isinstance(error, ModelError) or _is_numerical(error.__cause__)):
        return True
    return any(improbable(site.distribution, site.value) for site in execution.steered if site.value is not None)


def _is_numerical(cause: BaseException | None) -> bool:
    """Whether an exception is what arithmetic does, and no statement of the program's."""
    if isinstance(cause, ValueError):
        traceback = cause.__traceback__
        while traceback is not None and traceback.tb_next is not None:
            traceback = traceback.tb_next
        if traceback is None:
            return False
        return opname[traceback.tb_frame.f_code.co_code[traceback.tb_lasti]] != "RAISE_VARARGS"
    return isinstance(cause, _NUMERICAL)


def improbable(prior: Distribution, value: Any) -> bool:
    """Whether a distribution all but never draws a value: one draw in ten thousand, roughly."""
    log_prob = total_log_prob(prior, value)
    if log_prob == -math.inf:
        return True
    if prior.discrete and prior.shape == () and log_prob > _RAREST_CHOICE:
        return False
    stream = Stream(0)
    lowest = min(float(total_log_prob(prior, prior.sample(stream))) for _ in range(_PRIOR_DRAWS))
    return bool(log_prob < lowest - _MARGIN)
