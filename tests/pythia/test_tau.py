"""Tau decays by Pythia: its physics, unchanged by the hook, and its draws as sites. What else the program does is the
same code as with Sherpa, and tested there."""

import json
import subprocess
import sys

import numpy as np
import pytest
from pythia_simulator import ROOT, SMALL, built, channels, prior, pythias_decays, run, simulator
from scipy import stats
from tau_decays import (
    LEAST_P_VALUE,
    check_branching_ratios,
    check_isotropy,
    check_kinematics,
    check_known_ratios,
    check_products,
    is_whole,
    particles_of,
    values_of,
)

import ppl_jax as ppl

# Where Pythia is not built yet it takes minutes to build.
pytestmark = pytest.mark.slow

FOLDER = ROOT / "examples" / "pythia_tau"
TAU_MASS = 1.77682  # GeV, Pythia's
NUMBER = 4000
CONTROLLED = ["channel", "cos theta", "phi", "psi", "px", "py", "pz"]
PION, ELECTRON, MUON, KAON, TWO_PIONS, THREE_PIONS = 0, 2, 3, 1, 4, 10  # Pythia's numbers of the channels


# -- physics -----------------------------------------------------------------------------------------------------------


def test_energy_and_momentum_of_the_products_are_those_of_the_tau():
    whole = [trace for trace in prior(NUMBER) if is_whole(trace)]
    assert len(whole) > 0.9 * NUMBER
    for trace in whole:
        momentum = np.array([trace["px"], trace["py"], trace["pz"]])
        energy = np.sqrt(TAU_MASS**2 + momentum @ momentum)
        np.testing.assert_allclose(particles_of(trace)[:, 1:].sum(axis=0), [*momentum, energy], rtol=0.0, atol=2e-4)


@pytest.mark.parametrize(
    ("channel", "products"),
    [
        (PION, [-211, 16]),
        (KAON, [-321, 16]),
        (ELECTRON, [-12, 11, 16]),
        (MUON, [-14, 13, 16]),
        (THREE_PIONS, [-211, -211, 16, 211]),
    ],
)
def test_the_channel_is_the_one_that_was_drawn(channel, products):
    check_products(prior(NUMBER), channel, products)


def test_channels_have_pythias_branching_ratios():
    check_branching_ratios(channels(), prior(NUMBER), pythias_decays(NUMBER))


def test_branching_ratios_are_those_of_nature():
    """Particle Data Group (2024), per cent; Pythia's table differs from it by less than 2 per cent of each."""
    known = {"nu_tau e- nu_ebar": 17.82, "nu_tau mu- nu_mubar": 17.39, "nu_tau pi-": 10.82, "nu_tau pi0 pi-": 25.49}
    check_known_ratios(channels(), known)


def test_decays_of_pythia_are_isotropic():
    """What the draws of the orientation rest on.

    All decays, and those to one pion alone, whose direction a polarisation would show most.
    """
    check_isotropy(pythias_decays(NUMBER))
    check_isotropy([decay for decay in pythias_decays(NUMBER) if decay["channel"] == PION])


def test_the_spectrum_of_the_electron_is_that_of_the_weak_interaction():
    """For an unpolarised tau and a light lepton, x = 2 E / m of it has the density 2 x^2 (3 - 2 x) (Michel, 1950)."""
    shares = [
        2.0 * particle[4] / TAU_MASS
        for decay in pythias_decays(NUMBER)
        for particle in decay["particles"]
        if decay["channel"] == ELECTRON and particle[0] == 11
    ]
    assert len(shares) > 500
    assert stats.kstest(shares, lambda x: 2.0 * x**3 - x**4).pvalue > LEAST_P_VALUE


def test_the_hook_leaves_pythias_kinematics_as_they_are():
    with_two_neutral_pions, four_pions = 9, 21
    some = (TWO_PIONS, with_two_neutral_pions, THREE_PIONS, four_pions)
    check_kinematics(prior(NUMBER), pythias_decays(NUMBER), some)


# -- sites -------------------------------------------------------------------------------------------------------------


def test_controlled_sites():
    for trace in prior(NUMBER)[:50]:
        latents = [site for site in trace.sites if site.is_latent]
        assert sorted(site.name for site in latents if site.control) == CONTROLLED
        assert all("Hook::flat()" in site.address for site in latents if site.name is None)


def test_addresses_are_few_and_those_of_pythia():
    addresses = {site.address for trace in prior(NUMBER) for site in trace.sites}
    assert len(addresses) < 100
    (channel,) = {site.address for trace in prior(NUMBER) for site in trace.sites if site.name == "channel"}
    assert "Pythia8::TauDecays::createChildren" in channel
    assert "Pythia8::ParticleDataEntry::pickChannel()" in channel


def draws_of(trace, part):
    return [site for site in trace.sites if part in site.address and "Hook::flat()" in site.address]


def test_of_pythias_loops_the_accepted_pass_is_in_the_trace():
    """A decay to n particles: n - 2 masses and what decides over them, two angles for each of n - 1 steps, the matrix
    element. Exactly these are there, whatever was rejected before."""
    for trace in prior(NUMBER):
        products = len(channels()[trace["channel"]]["name"].split())
        assert len(draws_of(trace, "TauDecays::isotropicDecay(")) == (products - 1) + 2 * (products - 1)
        decisions = [site for site in trace.sites if is_decision(site)]
        assert len(decisions) == 1


def is_decision(site):
    """Whether TauDecays::decay itself asked for the number."""
    frames = site.address.strip("[]").split("; ")
    asked = [number for number, frame in enumerate(frames) if frame.startswith("Pythia8::Rndm::flat()")]
    return bool(asked) and frames[asked[0] - 1].startswith("Pythia8::TauDecays::decay(")


def test_rejected_passes_can_be_kept():
    """Then there are many more draws than the nine of an accepted pass."""
    with simulator(*SMALL, "--rejected") as model:
        kept = ppl.prior(model, 100, seed=1, observations={"channel": THREE_PIONS}, progress=False)
    lengths = [len(draws_of(trace, "TauDecays::isotropicDecay(")) for trace in kept]
    assert min(lengths) >= 9
    assert np.mean(lengths) > 40


def test_a_trace_depends_neither_on_those_before_it_nor_on_the_process():
    with simulator(*SMALL, num_processes=2) as model:
        again = ppl.prior(model, 300, seed=1, progress=False)
    assert [values_of(trace) for trace in again] == [values_of(trace) for trace in prior(NUMBER)[:300]]


def test_conditioned_draws_have_their_values():
    data = {"px": 3.0, "py": -4.0, "pz": 44.0, "channel": TWO_PIONS}
    with simulator(*SMALL) as model:
        for trace in ppl.prior(model, 20, seed=5, observations=data, progress=False):
            assert {name: trace[name] for name in data} == data
            assert sorted(particles_of(trace)[:, 0])[:1] == [-211]


# -- inference ---------------------------------------------------------------------------------------------------------


def test_without_information_metropolis_hastings_gives_the_prior():
    """Noise that drowns the image: the posterior is the prior. Within 5 standard errors."""
    with simulator(*SMALL, "--noise", "1e6") as model:
        data = {"calorimeter": np.zeros((2, 3, 4))}
        posterior = ppl.metropolis_hastings(model, data, 4000, burn_in=200, seed=1, progress=False)
    for name, mean, variance in (("px", 0.0, 108.0), ("pz", 45.0, 3.0), ("cos theta", 0.0, 1.0 / 3.0)):
        marginal = posterior.map(name)
        assert abs(marginal.mean - mean) < 5.0 * marginal.standard_error, name
        squares = posterior.map(lambda trace, name=name, mean=mean: (trace[name] - mean) ** 2)
        assert abs(squares.mean - variance) < 5.0 * squares.standard_error, name
    for channel in (ELECTRON, TWO_PIONS):
        indicator = posterior.map(lambda trace, channel=channel: float(trace["channel"] == channel))
        assert abs(indicator.mean - channels()[channel]["branching_ratio"]) < 5.0 * indicator.standard_error


def test_the_demo_runs_with_pythia(tmp_path):
    ratios = np.array([channel["branching_ratio"] for channel in channels()])
    demo = [sys.executable, ROOT / "examples" / "sherpa_tau" / "demo.py", "--program", built(), "--output", tmp_path]
    scale = ["--events", "1000", "--hours", "0.005", "--tests", "3", "--grid", "4,8,8", "--noise", "1"]
    named = ["--generator", "Pythia", "--processes", "8"]
    done = subprocess.run([*demo, *scale, *named], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["events"] == 3
    assert results["prior_entropy"] == pytest.approx(-np.sum(ratios * np.log(ratios)), abs=0.01)
    assert "Pythia, inverted" in (tmp_path / "index.html").read_text(encoding="utf-8")


# -- the command line --------------------------------------------------------------------------------------------------


def test_options_name_pythia():
    done = run("--yaml", "x")
    assert done.returncode == 2
    assert "--yaml: there is no such option" in done.stderr
    assert "by Pythia" in done.stderr
    assert "--cmnd FILE" in done.stderr


def test_a_run_card_that_is_not_there():
    done = run("--cmnd", "/nowhere/Pythia.cmnd", "--channels")
    assert done.returncode == 1
    assert "there is no run card /nowhere/Pythia.cmnd" in done.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("TauDecays:colour = red", "Pythia does not understand all of"),
        ("15:onMode = off", "Pythia has no decays of the tau"),
        ("15:mayDecay = off", "Pythia has no decays of the tau"),
    ],
)
def test_run_cards_that_cannot_be_used(tmp_path, line, said):
    card = tmp_path / "Pythia.cmnd"
    card.write_text(f"{(FOLDER / 'Pythia.cmnd').read_text()}\n{line}\n")
    done = run("--cmnd", str(card), "--channels")
    assert done.returncode == 1
    assert said in done.stderr
    assert str(card) in done.stderr


def test_fetching_without_pip_says_so(tmp_path):
    done = subprocess.run(
        [FOLDER / "fetch_pythia.sh", tmp_path / "pythia", "/bin/false"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "/bin/false has no pip" in done.stderr
    assert not (tmp_path / "pythia").exists()


def test_results_stand_alone_on_standard_output():
    assert json.loads(run("--channels").stdout)[PION]["name"] == "nu_tau pi-"
    assert float(run("--bare", "20", *SMALL).stdout) > 0.0
