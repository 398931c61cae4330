"""What all tests share: where caches go, how hypothesis draws, and double precision under JAX for those that ask."""

import os
from collections.abc import Iterator
from pathlib import Path

BUILD = Path(__file__).resolve().parent.parent / "build"

# Before JAX is imported. The Makefile sets the same; this is for a bare `pytest`.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(BUILD / "jax-cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import pytest  # noqa: E402
from hypothesis import configuration, settings  # noqa: E402

configuration.set_hypothesis_home_dir(BUILD / "hypothesis")
# Derandomised: a test fails in every run or in none. No deadline: machines of continuous integration stall.
settings.register_profile("house", derandomize=True, deadline=None, database=None)
settings.load_profile("house")


@pytest.fixture
def x64() -> Iterator[None]:
    """JAX computes in double precision for the length of one test."""
    import jax

    with jax.enable_x64(True):
        yield
