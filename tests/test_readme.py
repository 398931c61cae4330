"""The README's Python is run as it stands: what a newcomer types must work, and give what it promises."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import ppl_jax as ppl

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
DATA = np.array([7.1, 6.2, 8.0])


@pytest.fixture(scope="module")
def first_screen():
    """The names that the first block leaves behind."""
    names: dict = {}
    exec(PYTHON[0], names)
    return names


def test_the_first_block_gives_the_posterior(first_screen):
    """A normal mean with known variances: precision 1/4 + 3/2.25; four Monte Carlo standard errors."""
    precision = 1.0 / 4.0 + 3.0 / 2.25
    exact = (5.0 / 4.0 + DATA.sum() / 2.25) / precision
    energy = first_screen["posterior"].map("energy")
    assert abs(energy.mean - exact) < 4.0 * energy.standard_error
    assert 4.0 * energy.standard_error < 0.1  # the claim above is worth something


def test_the_tour_runs(first_screen, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = dict(first_screen)
    exec(PYTHON[1], names)
    assert isinstance(names["posterior"], ppl.Empirical)
    assert len(names["posterior"]) == 8000


def test_a_network_is_trained_and_proposes(first_screen, tmp_path, monkeypatch):
    """The posterior is narrower than the prior by more than half: from the prior 500 draws are worth some 200."""
    monkeypatch.chdir(tmp_path)
    names = {**first_screen, "data": {"cell0": 7.1, "cell1": 6.2, "cell2": 8.0}}
    exec(PYTHON[2], names)
    assert names["posterior"].effective_sample_size > 400


def test_the_files_that_it_names_exist():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link


def test_every_make_target_that_it_names_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", README)) <= targets
