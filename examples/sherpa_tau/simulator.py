"""The simulator as a model: processes of the program ``tau``, and what they produce on their own."""

import json
import subprocess
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

import ppl_jax as ppl

STORED = {"calorimeter": "float16", "positions": "float32"}  # less exactly than they were drawn
PROGRAM = Path(__file__).resolve().parents[2] / "build" / "sherpa_tau" / "tau"

# The generators' names of particles, as they are written; which neutrino it is does not matter to a detector.
_WRITTEN = {"pi": "π", "mu": "μ", "eta": "η", "omega": "ω", "+": "⁺", "-": "⁻", "0": "⁰"}


class Channels(NamedTuple):
    """The decay channels: names, and branching ratios (channels,), of sum 1."""

    names: list[str]
    ratios: np.ndarray


def start(program: Path, flags: list[str], processes: int) -> ppl.RemoteModel:
    """The simulator in so many processes: it starts once, when it is needed, and the processes are copies of it."""
    return ppl.RemoteModel(command=[str(program), *flags, "{endpoint}"], num_processes=processes, fork=True)


def fingerprint(program: Path, flags: list[str]) -> str:
    """Eight digits that are others for another program, or other flags: its events are not those of this one."""
    return f"{zlib.crc32(' '.join(flags).encode(), zlib.crc32(program.read_bytes())):08x}"


def channels(program: Path) -> Channels:
    """The decay channels in the order of their numbers, as the generator has them."""
    if not program.exists():
        raise SystemExit(f"{program} is not there: `make sherpa` builds Sherpa's, `make pythia` Pythia's.")
    found = json.loads(subprocess.run([str(program), "--channels"], check=True, capture_output=True, text=True).stdout)
    ratios = np.array([float(channel["branching_ratio"]) for channel in found])
    return Channels([written(channel["name"]) for channel in found], ratios / ratios.sum())


def written(name: str) -> str:
    """A channel's name for people, neutrinos last: "nu_tau anti-nu_e e-" becomes "e⁻ ν ν"."""
    particles = sorted(name.split(), key=lambda particle: "nu_" in particle)
    return " ".join("ν" if "nu_" in particle else _superscript(particle) for particle in particles)


def _superscript(particle: str) -> str:
    for plain, fine in _WRITTEN.items():
        particle = particle.replace(plain, fine)
    return particle


def simulate(simulator: ppl.RemoteModel, folder: Path, events: int, seed: int) -> ppl.Dataset:
    """A dataset of simulated decays; what the folder has already is not simulated again.

    The processes draw by themselves and send whole traces. The images are kept in half precision: their noise is
    a thousand times larger than what that loses; where deposits are, in single precision: there are thousands.
    """
    return ppl.save_dataset(simulator, folder, events, seed=seed, dtypes=STORED)


def held_out(simulator: ppl.RemoteModel, events: int, seed: int) -> ppl.Empirical:
    """Decays that no network was trained on, with all that happened in them."""
    return ppl.prior(simulator, events, seed=seed, progress=False)
