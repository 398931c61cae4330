"""Running an execution out: how a simulator of PPX 1.0.0 is made to leave one that nobody wants any more.

PPX 1.0.0 has no message to give an execution up, and its front ends end at a Handshake or a Run in the middle of one.
So their questions are answered until the model returns: draws from the prior, and nothing is weighed or kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ppl_jax.errors import ParameterError
from ppl_jax.remote.statements import Statement, Vocabulary, value_message
from ppl_jax.streams import Stream, check_seed
from ppx import messages as m
from ppx.constants import SiteKind
from ppx.sites import SiteTable


class RunningOut:
    """Answers to the questions of an execution of PPX 1.0.0."""

    def __init__(self) -> None:
        self._vocabulary = Vocabulary(SiteTable())
        self._rng = Stream(check_seed(None))

    def answer(self, asked: Any) -> m.Message | None:
        """The answer to a message; None if it ends the execution, or belongs to none."""
        if type(asked) not in (m.Sample, m.Observe, m.Tag):
            return None
        question = self._vocabulary.resolve(asked)
        assert question.asked is not None
        if question.asked.kind == SiteKind.SAMPLE:
            return value_message(self._draw(question.asked, question.parameters))
        return m.ObserveResult() if question.asked.kind == SiteKind.OBSERVE else m.TagResult()

    def _draw(self, statement: Statement, parameters: Any) -> Any:
        assert statement.site.layout is not None
        try:
            return statement.make(parameters).sample(self._rng)
        except ParameterError:  # which nobody is to hear of: any number will do
            family, *shapes = statement.site.layout
            return np.full(() if family == "Categorical" else np.broadcast_shapes(*shapes), 0.5)


def run_out(send: Callable[[m.Message], None], receive: Callable[[], Any], asked: Any) -> None:
    """Answers until the execution has ended.

    Args:
      send: sends a message.
      receive: gives the next message; raises where none comes, which ends this.
      asked: the message that waits for an answer.
    """
    answers = RunningOut()
    while (message := answers.answer(asked)) is not None:
        send(message)
        asked = receive()
