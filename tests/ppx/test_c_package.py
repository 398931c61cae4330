"""The C core as a simulator finds it: built, installed, moved, and found by CMake from another project."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from c_core import ROOT

import ppl_jax as ppl

CONSUMER = ROOT / "tests" / "ppx" / "c" / "consumer"


def run(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("shared", ["OFF", "ON"])
def test_an_installed_core_is_found_wherever_it_was_moved(shared, tmp_path):
    build, prefix, moved, consumer = (tmp_path / name for name in ("build", "prefix", "moved", "consumer"))
    options = (f"-DBUILD_SHARED_LIBS={shared}", f"-DCMAKE_INSTALL_PREFIX={prefix}")
    run("cmake", "-S", ROOT / "ppx" / "cpp", "-B", build, *options)
    run("cmake", "--build", build, "--parallel", 2)
    run("cmake", "--install", build)
    shutil.rmtree(build)
    prefix.rename(moved)
    run("cmake", "-S", CONSUMER, "-B", consumer, f"-DCMAKE_PREFIX_PATH={moved}")
    run("cmake", "--build", consumer)
    for program in ("consumer", "consumer_cpp"):
        assert run(consumer / program, f"ipc://{tmp_path}/x.ipc") == "0x1.c20fdd4ad2613p+1\n"
    assert not (tmp_path / "x.ipc").exists()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pkg-config") is None, reason="pkg-config is not installed (Debian: pkgconf)")
def test_plain_c_is_built_with_pkg_config_and_inverted(tmp_path):
    """Exact: mu ~ N(1, 5) and two data of variance 2 make a normal posterior of precision 1/5 + 2/2."""
    build, prefix = tmp_path / "build", tmp_path / "prefix"
    run("cmake", "-S", ROOT / "ppx" / "cpp", "-B", build, f"-DCMAKE_INSTALL_PREFIX={tmp_path / 'first'}")
    run("cmake", "--build", build, "--parallel", 2)
    run("cmake", "--install", build)
    (tmp_path / "first").rename(prefix)
    (where,) = {str(path.parent) for path in prefix.rglob("ppx.pc")}
    found = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "ppx"],
        env={**os.environ, "PKG_CONFIG_PATH": where}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    program = tmp_path / "gum_c"
    warnings = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
    run("cc", *warnings, ROOT / "examples" / "c" / "gum.c", "-o", program, *found.stdout.split())
    with ppl.RemoteModel(command=[str(program), "{endpoint}"]) as model:
        data = {"obs0": 3.0, "obs1": 2.0}
        posterior = ppl.importance_sampling(model, data, 20_000, seed=1, progress=False)
        addresses = [site.address for site in posterior[0].sites]
    assert len(set(addresses)) == 4
    assert all(address.rpartition("/")[2].startswith("gum.c:") for address in addresses)
    mean = (1.0 / 5.0 + 3.0 / 2.0 + 2.0 / 2.0) / (1.0 / 5.0 + 2.0 / 2.0)  # 2.25
    weights = np.exp(posterior.log_weights - posterior.log_weights.max())
    weights /= weights.sum()
    results = np.array([trace.result for trace in posterior])
    # Four standard errors of a self-normalized importance estimate.
    error = np.sqrt((weights**2 * (results - mean) ** 2).sum())
    assert error < 0.02
    assert abs(weights @ results - mean) < 4.0 * error


def test_the_header_is_c_and_cpp(tmp_path: Path):
    (tmp_path / "header.c").write_text("#include <ppx.h>\nint main(void) { return 0; }\n")
    warnings = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", ROOT / "ppx" / "cpp" / "include", "-fsyntax-only")
    for language in (("-x", "c", "-std=c99"), ("-x", "c", "-std=c11"), ("-x", "c++", "-std=c++17")):
        run("cc", *language, *warnings, tmp_path / "header.c")


@pytest.mark.parametrize("header", ["ppx.hpp", "pyprob_cpp.h"])
def test_an_older_standard_is_named_as_what_is_wrong(header, tmp_path: Path):
    (tmp_path / "old.cpp").write_text(f"#include <{header}>\nint main() {{}}\n")
    include = ROOT / "ppx" / "cpp" / "include"
    done = subprocess.run(
        ["c++", "-std=c++14", "-I", include, "-fsyntax-only", tmp_path / "old.cpp"], capture_output=True, text=True
    )
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert f"{header} needs C++17: compile with -std=c++17" in errors[0]
