"""The simulator of tau decays with Pythia, as the tests of it use it: see tau_programs."""

from functools import partial

import tau_programs
from tau_programs import ROOT, SMALL

__all__ = ["ROOT", "SMALL", "built", "channels", "prior", "run", "simulator", "pythias_decays"]

built = partial(tau_programs.built, "pythia")
simulator = partial(tau_programs.simulator, "pythia")
run = partial(tau_programs.run, "pythia")
channels = partial(tau_programs.channels, "pythia")
pythias_decays = partial(tau_programs.decays_at_rest, "pythia")
prior = partial(tau_programs.prior, "pythia")
