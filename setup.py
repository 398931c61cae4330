"""The one part of the package that is compiled: loops over the samplers of the C core, for arrays of draws.

Everything else is in pyproject.toml. Where there is no compiler the package installs without it, and draws the same
numbers in Python.
"""

from pathlib import Path

from setuptools import Extension, setup

CORE = "ppx/cpp/core"

setup(
    ext_modules=[
        Extension(
            "ppl_jax.distributions._draws",
            sources=["ppl_jax/distributions/_draws.c", f"{CORE}/samplers.c", f"{CORE}/random.c"],
            include_dirs=[CORE, "ppx/cpp/include"],
            depends=[*map(str, sorted(Path(CORE).glob("*.h"))), "ppx/cpp/include/ppx.h"],
            # Fused multiply-adds would round differently, and the bits of a draw are part of the protocol.
            extra_compile_args=["-O2", "-std=c11", "-ffp-contract=off", "-fvisibility=hidden"],
            py_limited_api=True,
            optional=True,
        )
    ]
)
