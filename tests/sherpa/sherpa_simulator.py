"""The simulator of tau decays with Sherpa, as the tests of it use it: see tau_programs."""

from functools import partial

import tau_programs
from tau_programs import ROOT, SMALL

__all__ = ["ROOT", "SMALL", "built", "channels", "prior", "run", "simulator", "sherpas_decays"]

built = partial(tau_programs.built, "sherpa")
simulator = partial(tau_programs.simulator, "sherpa")
run = partial(tau_programs.run, "sherpa")
channels = partial(tau_programs.channels, "sherpa")
sherpas_decays = partial(tau_programs.decays_at_rest, "sherpa")
prior = partial(tau_programs.prior, "sherpa")
