"""Installs the peer, pyprob, from its own PyPI release into an environment of its own, to be timed beside us.

    python benchmarks/peer/install.py            prints the path of the peer's Python; exit status 0
                                                 or says why it cannot be installed; exit status 3

The peer's code is not touched. Three things about its surroundings are settled here. Its flatbuffers pin
imports a module that Python 3.12 removed, so an older Python is looked for. PyTorch is installed first and in
its CPU build, because the peer's open range would otherwise fetch a CUDA build of several GB. setuptools comes
before the old source distributions that the peer depends on. Where it cannot be installed, comparisons fall back
on the figures in ``recorded.json``.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

PEER = "pyprob==1.5.0"
TORCH = "torch==2.13.0"
ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / "build" / "peer-venv"
RECORDED = Path(__file__).with_name("recorded.json")
SUPPORTED = ((3, 11), (3, 10))  # newest first: torch 2.13 needs 3.10, the peer's flatbuffers runs up to 3.11
IMPORT_CHECK = "import pyprob, torch; print(f'pyprob {pyprob.__version__}, torch {torch.__version__}')"


class CannotInstall(Exception):
    """The peer cannot be installed here; the message says why."""


def say(text: str) -> None:
    """One line of progress, on standard error: standard output holds only the answer."""
    print(f"peer: {text}", file=sys.stderr, flush=True)


def run(command: list[str], doing: str) -> str:
    """Standard output of a command; raises CannotInstall with the end of its complaint where it fails."""
    finished = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if finished.returncode:
        complaint = (finished.stderr or finished.stdout).strip().splitlines()[-5:]
        raise CannotInstall(f"{doing} failed:\n    " + "\n    ".join(complaint))
    return finished.stdout


def version_of(python: str) -> tuple[int, int] | None:
    """(major, minor) of an interpreter, None if it does not start."""
    try:
        command = [python, "-c", "import sys; print(*sys.version_info[:2])"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (int(answer[0]), int(answer[1])) if len(answer) == 2 else None


def suitable_python() -> str:
    """The newest interpreter of this machine that the peer runs on; raises CannotInstall if there is none."""
    named = [f"python{major}.{minor}" for major, minor in SUPPORTED]
    candidates = [sys.executable, *named, "/usr/bin/python3"]
    found = {version_of(path): path for name in reversed(candidates) if (path := shutil.which(name))}
    for version in SUPPORTED:
        if version in found:
            return found[version]
    wanted = " or ".join(f"{major}.{minor}" for major, minor in SUPPORTED)
    raise CannotInstall(f"it needs Python {wanted}, and this machine has only {sys.version.split()[0]}.")


def installed(python: Path) -> str | None:
    """What the environment holds ("pyprob 1.5.0, torch ..."), None if the peer does not import there."""
    if not python.exists():
        return None
    check = subprocess.run([python, "-W", "ignore", "-c", IMPORT_CHECK], capture_output=True, text=True)
    return check.stdout.strip().splitlines()[-1] if check.returncode == 0 and check.stdout.strip() else None


def refuse_cuda(pip: list[str]) -> None:
    """Raises CannotInstall if pip would fetch a CUDA build of PyTorch; installs nothing."""
    query = ["install", "--dry-run", "--no-deps", "--ignore-installed", "--quiet", "--report", "-", TORCH]
    plan = run([*pip, *query], f"asking pip for {TORCH}")
    metadata = json.loads(plan)["install"][0]["metadata"]
    wants_cuda = any(need.startswith(("nvidia-", "cuda-")) for need in metadata.get("requires_dist", []))
    if wants_cuda and not metadata["version"].endswith("+cpu"):
        raise CannotInstall(
            f"pip offers only a CUDA build of {TORCH} (several GB). Point pip to an index or a folder that holds "
            "the CPU build (PIP_INDEX_URL or PIP_FIND_LINKS), or allow the large download with --allow-cuda."
        )


def install(environment: Path = ENVIRONMENT, *, allow_cuda: bool = False) -> Path:
    """Makes sure that the peer imports in ``environment`` and returns the path of that environment's Python.

    Does nothing when it imports already. Raises CannotInstall with the reason where it cannot be installed.
    """
    python = environment / "bin" / "python"
    if found := installed(python):
        say(f"{found} in {environment}")
        return python
    if not python.exists():
        base = suitable_python()
        say(f"making the environment {environment} with {base}")
        run([base, "-m", "venv", str(environment)], "making a virtual environment")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    if not allow_cuda:
        refuse_cuda(pip)
    say(f"installing {TORCH}")
    run([*pip, "install", "setuptools", "wheel", TORCH], f"installing {TORCH}")
    say(f"installing {PEER} and what it depends on")
    run([*pip, "install", TORCH, PEER], f"installing {PEER}")
    found = installed(python)
    if found is None:
        raise CannotInstall(f"{PEER} was installed into {environment}, but does not import there.")
    say(f"installed {found}")
    return python


def recorded() -> dict[str, Any]:
    """The recorded figures, laid out as ``models.py`` prints them: figures[model][work]."""
    return json.loads(RECORDED.read_text())


def main() -> int:
    """Command line: see ``--help``."""
    parser = argparse.ArgumentParser(description=f"Installs {PEER} into an environment of its own.")
    parser.add_argument("--environment", type=Path, default=ENVIRONMENT, help="default: build/peer-venv")
    parser.add_argument("--allow-cuda", action="store_true", help="accept a CUDA build of PyTorch")
    arguments = parser.parse_args()
    try:
        print(install(arguments.environment, allow_cuda=arguments.allow_cuda))
    except CannotInstall as reason:
        figures = recorded()
        say(f"{PEER} cannot be installed here: {reason}")
        origin = ", ".join(figures[key] for key in ("peer", "date", "machine"))
        say(f"comparisons fall back on the figures recorded in {RECORDED.name}: {origin}.")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
