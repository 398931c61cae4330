"""The log for TensorBoard: what it says is the training's history, and goes on where the training goes on."""

import math
import sys
from unittest.mock import Mock

import numpy as np
import programs
import pytest
from event_files import scalars
from nn.small_network import SMALL

import ppl_jax as ppl
from ppl_jax.training.log import TrainingLog
from ppl_jax.training.trainer import Trainer


def test_it_says_what_the_history_says(tmp_path):
    network = ppl.train(programs.gum, 1280, seed=0, log_dir=tmp_path / "log", **SMALL)
    found = scalars(tmp_path / "log")
    assert found["loss/training"] == [(k, np.float32(row[1])) for k, row in enumerate(network.history, start=1)]
    held_out = [(k, np.float32(row[2])) for k, row in enumerate(network.history, start=1) if not math.isnan(row[2])]
    assert len(held_out) == 20 and found["loss/validation"] == held_out
    rates = dict(found["learning_rate"])
    assert len(rates) == 20
    # Quadratic from 1e-2 to a thirtieth over 20 steps.
    assert rates[1] == pytest.approx(1e-2, rel=1e-6)
    norms = dict(found["gradient_norm"])
    assert len(norms) == 20 and all(0.0 < norm < 100.0 for norm in norms.values())
    assert rates[11] == pytest.approx(1e-2 * (1.0 / 30.0 + (29.0 / 30.0) * 0.25), rel=1e-6)


def test_the_speed_is_that_of_the_clock(tmp_path, monkeypatch):
    clock = iter([100.0, 100.5, 102.0, 102.9, 103.0])
    monkeypatch.setattr("ppl_jax.training.log.time.monotonic", lambda: next(clock))
    log = TrainingLog(tmp_path, 0)
    for step in range(1, 5):
        log.step(step, 64, 0.5, 1.0, 1e-3)
    log.close()
    assert scalars(tmp_path)["traces_per_second"] == [(2, 64.0), (4, 128.0)]


def test_a_training_that_is_gone_on_with_repeats_no_step(tmp_path, monkeypatch):
    advance, checkpoint = Trainer.advance, Trainer.checkpoint

    def interrupted(self, table):
        if self.step == 13:
            raise MemoryError
        return advance(self, table)

    def only_in_passing(self):  # as in a process that is killed
        if self.step % 5 == 0:
            checkpoint(self)

    given = {**SMALL, "seed": 3, "checkpoint": tmp_path / "kept", "checkpoint_every": 5, "log_dir": tmp_path / "log"}
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "advance", interrupted)
        patched.setattr(Trainer, "checkpoint", only_in_passing)
        with pytest.raises(MemoryError):
            ppl.train(programs.gum, 1280, **given)
    assert [step for step, _ in scalars(tmp_path / "log")["loss/training"]] == list(range(1, 14))
    (file,) = (tmp_path / "log").iterdir()
    with open(file, "ab") as torn:  # and one record of which only the beginning was written
        torn.write(b"\x40\0\0\0\0\0\0\0abcd half a rec")
    network = ppl.train(programs.gum, 1280, **given)
    found = scalars(tmp_path / "log")
    assert len(list((tmp_path / "log").iterdir())) == 2
    assert found["loss/training"] == [(k, np.float32(row[1])) for k, row in enumerate(network.history, start=1)]
    assert [step for step, _ in found["loss/validation"]] == list(range(1, 21))
    # A finished training that is asked for again adds nothing.
    ppl.train(programs.gum, 1280, **given)
    assert scalars(tmp_path / "log") == found


def test_another_training_in_the_same_folder_loses_nothing(tmp_path):
    for step in (1, 2):
        log = TrainingLog(tmp_path, 0)
        log.validation(step, 0.5)
        log.close()
    assert scalars(tmp_path)["loss/validation"] == [(1, 0.5), (2, 0.5)]


# -- what can go wrong -------------------------------------------------------------------------------------------------


def test_a_place_that_is_no_folder_is_told(tmp_path):
    (tmp_path / "log").write_text("mine")
    with pytest.raises(ppl.StorageError, match=r"log of the training cannot be written to .*log: .*exists"):
        ppl.train(programs.gum, 64, log_dir=tmp_path / "log", **SMALL)
    assert (tmp_path / "log").read_text() == "mine"


def test_a_full_disk_ends_the_log_and_not_the_training(tmp_path, monkeypatch):
    log = TrainingLog(tmp_path, 0)
    full = Mock(side_effect=OSError(28, "No space left on device"))
    monkeypatch.setattr(log._writer, "flush", full)
    with pytest.warns(RuntimeWarning, match="No space left on device.*goes on without it"):
        log.step(1, 64, 0.5, 1.0, 1e-3)
    log.step(2, 64, 0.5, 1.0, 1e-3)
    assert full.call_count == 1
    monkeypatch.undo()
    log.close()


def test_what_is_not_installed_is_named(tmp_path, monkeypatch):
    for module in ("tensorboardX", "tensorboardX.event_file_writer"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ppl.MissingPackageError, match=r"needs tensorboardX\. Install it with: pip install 'ppl-jax\[tensorboard\]'"
    ):
        ppl.train(programs.gum, 64, seed=0, log_dir=tmp_path / "log", **SMALL)
    assert not (tmp_path / "log").exists()
    ppl.train(programs.gum, 64, seed=0, **SMALL)  # nobody else needs it
