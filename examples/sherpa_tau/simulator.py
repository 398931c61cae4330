"""The simulator as a model: processes of the program ``tau``, and what they produce on their own."""

import json
import subprocess
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

import ppl_jax as ppl

# What the simulator is told. The prior is wide across the beam, which an image shows, and narrow along it. Noise,
# resolution and number of deposits are such that a shower stands out, and that the nuisances which are drawn from the
# prior, not proposed (how deposits scatter, how energy is shared among the products), do not make the weights
# degenerate.
DETECTOR = {
    "grid": ("3,12,12", "voxels of the calorimeter: depth, height, width"),
    "deposits": ("20", "deposits of a shower for each GeV"),
    "noise": (
        "1.2",
        "standard deviation of the noise in a voxel of the default grid, GeV; it goes with a volume's root",
    ),
    "resolution": (
        "0.3,0.6",
        "A,B: a voxel of E GeV is measured, beside the noise, with standard deviations of A times E's root, and B E",
    ),
    "px": ("-30,30", "range of the tau's momentum, GeV; a negative number after an equals sign, --px=-30,30"),
    "py": ("-30,30", "range of the tau's momentum, GeV"),
    "pz": ("72,78", "range of the tau's momentum, along the beam, GeV"),
}
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


def flags(given: Mapping[str, str]) -> list[str]:
    """The options of the simulator, of which ``given`` has those of DETECTOR; the noise is that of a voxel of the grid.

    Raises:
      ValueError: the grid is not three whole numbers above 0, or the noise no number.
    """
    chosen = {name: given[name] for name in DETECTOR}
    share = _voxels(DETECTOR["grid"][0]) / _voxels(chosen["grid"])
    chosen["noise"] = f"{float(chosen['noise']) * share**0.5:.6g}"
    return [part for name, value in chosen.items() for part in (f"--{name}", value)]


def _voxels(grid: str) -> int:
    sizes = [int(size) for size in grid.split(",")]
    if len(sizes) != 3 or min(sizes) < 1:
        raise ValueError(grid)
    return sizes[0] * sizes[1] * sizes[2]


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
