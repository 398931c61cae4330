"""The log of a training for TensorBoard: losses, learning rate, norm of the gradient, speed, step by step.

Event files are written by tensorboardX, which is small and needs no TensorFlow; its writer of records is used and not
its queue, so that a step is in the file when ``step`` returns, and no thread or process runs beside the training.
"""

from __future__ import annotations

import os
import struct
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from ppl_jax.errors import MissingPackageError, StorageError
from ppl_jax.running.checks import callers_level

_SPEED_EVERY = 1.0  # seconds over which the speed is averaged at least
_HEADER = struct.Struct("<QI")  # of a record: length of the event, checksum of the length; then event and checksum


class TrainingLog:
    """Writes the course of a training to a folder that TensorBoard reads.

    Args:
      path: the folder, one for each training; made if need be.
      step: steps that the training has behind it. What the folder says of later ones is removed: they are made again,
        bit for bit. At step 0 nothing is removed; TensorBoard then shows the new training.

    Raises:
      MissingPackageError: the extra "tensorboard" is not installed.
      StorageError: the folder cannot be written.
    """

    def __init__(self, path: str | Path, step: int):
        try:
            from google.protobuf.message import DecodeError
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event, SessionLog
            from tensorboardX.proto.summary_pb2 import Summary
        except ModuleNotFoundError as error:
            raise MissingPackageError("tensorboardX", "tensorboard") from error
        self._event, self._summary = Event, Summary
        path = Path(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            if step:
                for file in sorted(path.glob("events.out.tfevents.*")):
                    _cut(file, step, Event, DecodeError)
            # The names of files have a resolution of a second: what is added tells apart two trainings within one.
            self._writer = EventsWriter(str(path / "events"), f".{os.getpid()}.{time.time_ns()}")
        except OSError as error:
            raise StorageError(
                f"The log of the training cannot be written to {path}: {error}. Give another folder."
            ) from error
        self._path, self._full = path, False
        self._begun, self._traces = time.monotonic(), 0
        self._write(Event(wall_time=time.time(), step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def step(self, step: int, traces: int, loss: float, gradient_norm: float, learning_rate: float) -> None:
        """Step number ``step``, from 1, is done.

        Args:
          step: its number.
          traces: how many it was made of.
          loss: in nats; NaN where it was skipped.
          gradient_norm: before clipping.
          learning_rate: of the step.
        """
        values = {"loss/training": loss, "gradient_norm": gradient_norm, "learning_rate": learning_rate}
        self._traces += traces
        now = time.monotonic()
        if now - self._begun >= _SPEED_EVERY:
            values["traces_per_second"] = self._traces / (now - self._begun)
            self._begun, self._traces = now, 0
        self._scalars(step, values)

    def validation(self, step: int, loss: float) -> None:
        """The loss in nats on the traces held out, after ``step`` steps."""
        self._scalars(step, {"loss/validation": loss})

    def close(self) -> None:
        """Ends the log."""
        with suppress(OSError):  # everything that could be written is
            self._writer.close()

    def _scalars(self, step: int, values: dict[str, float]) -> None:
        value = [self._summary.Value(tag=name, simple_value=number) for name, number in values.items()]
        self._write(self._event(wall_time=time.time(), step=step, summary=self._summary(value=value)))

    def _write(self, event: Any) -> None:
        """Writes an event; a full disk ends the log, and not the training."""
        if self._full:
            return
        try:
            self._writer.write_event(event)
            self._writer.flush()
        except OSError as error:
            self._full = True
            warnings.warn(
                f"The log of the training cannot be written to {self._path}: {error}. The training goes on without it.",
                RuntimeWarning,
                stacklevel=callers_level(),
            )


def _cut(file: Path, step: int, event: Any, damaged: type[Exception]) -> None:
    """Ends a file of events before the first one of a step after ``step``, or the first one that is not whole."""
    data = file.read_bytes()
    place = 0
    while place + _HEADER.size <= len(data):
        length, _ = _HEADER.unpack_from(data, place)
        end = place + _HEADER.size + length + 4
        if end > len(data):
            break
        try:
            found = event.FromString(data[place + _HEADER.size : end - 4])
        except damaged:
            break
        if found.HasField("summary") and found.step > step:
            break
        place = end
    if place < len(data):
        os.truncate(file, place)
