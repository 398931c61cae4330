"""The C core as a simulator finds it: built, installed, moved, and found by CMake from another project."""

import shutil
import subprocess
from pathlib import Path

import pytest
from c_core import ROOT

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
