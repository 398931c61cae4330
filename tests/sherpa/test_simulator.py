"""The simulator of tau decays: Sherpa's physics, unchanged by the hook, and its draws as sites."""

import collections
import json
import subprocess

import numpy as np
import pytest
from scipy import stats
from sherpa_simulator import ROOT, SMALL, channels, prior, run, sherpas_decays, simulator
from tau_decays import (
    LEAST_P_VALUE,
    NEUTRINOS,
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
from ppl_jax.remote.peers import Peer
from ppx import messages as m

TAU_MASS = 1.777  # GeV, Sherpa's
NUMBER = 4000
CONTROLLED = ["channel", "psi", "pz", "cos theta", "phi", "px", "py"]


def momentum_of(trace):
    return np.array([trace["px"], trace["py"], trace["pz"]])


@pytest.fixture(scope="module")
def small():
    """The simulator with an image of no use."""
    with simulator(*SMALL) as model:
        yield model


# -- physics -----------------------------------------------------------------------------------------------------------


def test_energy_and_momentum_of_the_products_are_those_of_the_tau():
    whole = [trace for trace in prior(NUMBER) if is_whole(trace)]
    assert len(whole) > 0.9 * NUMBER
    for trace in whole:
        momentum = momentum_of(trace)
        energy = np.sqrt(TAU_MASS**2 + momentum @ momentum)
        total = particles_of(trace)[:, 1:].sum(axis=0)
        np.testing.assert_allclose(total, [*momentum, energy], rtol=0.0, atol=2e-4)


def test_missing_is_what_the_neutrinos_carry():
    for trace in filter(is_whole, prior(NUMBER)[:200]):
        particles = particles_of(trace)
        neutrinos = particles[np.isin(np.abs(particles[:, 0]), NEUTRINOS)]
        assert len(neutrinos) in (1, 2)
        np.testing.assert_allclose(neutrinos[:, 1:].sum(axis=0), trace["missing"], rtol=1e-9, atol=1e-9)


def test_particles_come_by_falling_energy():
    for trace in prior(NUMBER)[:200]:
        assert np.all(np.diff(particles_of(trace)[:, 4]) <= 0.0)


@pytest.mark.parametrize(
    ("channel", "products"),
    [(0, [-12, 11, 16]), (1, [-14, 13, 16]), (2, [-211, 16]), (3, [-321, 16]), (11, [-211, -211, 16, 211])],
)
def test_the_channel_is_the_one_that_was_drawn(channel, products):
    check_products(prior(NUMBER), channel, products)


def test_channels_have_sherpas_branching_ratios():
    check_branching_ratios(channels(), prior(NUMBER), sherpas_decays(NUMBER))


def test_branching_ratios_are_those_of_nature():
    """Particle Data Group (2024), per cent; Sherpa's table differs from it by less than 2 per cent of each."""
    known = {"nu_tau anti-nu_e e-": 17.82, "nu_tau anti-nu_mu mu-": 17.39, "pi- nu_tau": 10.82, "pi- pi0 nu_tau": 25.49}
    check_known_ratios(channels(), known)


def test_decays_of_sherpa_are_isotropic():
    """What the draws of the orientation rest on."""
    check_isotropy(sherpas_decays(NUMBER))


def test_the_hook_leaves_sherpas_kinematics_as_they_are():
    check_kinematics(prior(NUMBER), sherpas_decays(NUMBER), (4, 10, 11, 23))  # two, three of both kinds, four pions


def test_visible_energy_of_two_body_decays_is_uniform():
    """A pion from an isotropic decay at rest has a uniform energy in the laboratory between its limits."""
    shares = []
    for trace in prior(NUMBER):
        if trace["channel"] != 2:
            continue
        momentum = momentum_of(trace)
        speed = np.linalg.norm(momentum) / np.sqrt(TAU_MASS**2 + momentum @ momentum)
        energy = trace["particles"][trace["particles"][:, 0] == -211][0, 4]
        at_rest = (TAU_MASS**2 + 0.13957**2) / (2.0 * TAU_MASS)
        momentum_at_rest = (TAU_MASS**2 - 0.13957**2) / (2.0 * TAU_MASS)
        gamma = 1.0 / np.sqrt(1.0 - speed**2)
        cos_theta = (energy / gamma - at_rest) / (speed * momentum_at_rest)
        assert abs(cos_theta - trace["cos theta"]) < 1e-3  # what the draw says
        shares.append(cos_theta)
    assert stats.kstest(shares, stats.uniform(-1.0, 2.0).cdf).pvalue > LEAST_P_VALUE


# -- the detector ------------------------------------------------------------------------------------------------------


def expected_energy(trace):
    """GeV in all voxels, without noise."""
    site = next(site for site in trace.sites if site.name == "calorimeter")
    return float(np.sum(site.distribution.mean))


def test_the_grid_is_what_was_asked_for():
    with simulator("--grid", "4,5,6", "--noise", "0.25") as model:
        trace = ppl.prior(model, 1, seed=0, progress=False)[0]
    site = next(site for site in trace.sites if site.name == "calorimeter")
    assert trace["calorimeter"].shape == (4, 5, 6)
    assert np.all(np.asarray(site.distribution.stddev) == 0.25)
    residuals = (trace["calorimeter"] - site.distribution.mean) / 0.25
    assert stats.kstest(np.ravel(residuals), "norm").pvalue > LEAST_P_VALUE


def test_the_resolution_adds_to_the_noise_by_the_energy_of_a_voxel():
    with simulator(*SMALL, "--noise", "0.3", "--resolution", "0.5,0.25") as model:
        traces = ppl.prior(model, 5, seed=4, progress=False)
    residuals = []
    for trace in traces:
        site = next(site for site in trace.sites if site.name == "calorimeter")
        energy, stddev = np.asarray(site.distribution.mean), np.asarray(site.distribution.stddev)
        np.testing.assert_allclose(stddev**2, 0.3**2 + 0.5**2 * energy + (0.25 * energy) ** 2, rtol=1e-9)
        residuals.append((trace["calorimeter"] - energy) / stddev)
    assert max(np.max(site.distribution.mean) for trace in traces for site in trace.sites if site.observed) > 1.0
    assert stats.kstest(np.ravel(residuals), "norm").pvalue > LEAST_P_VALUE


@pytest.mark.slow
def test_the_default_grid_has_24500_voxels():
    with simulator() as model:
        trace = ppl.prior(model, 1, seed=0, progress=False)[0]
    assert trace["calorimeter"].shape == (20, 35, 35)


def test_electrons_leave_their_energy_and_muons_nothing():
    """With 400 deposits for each GeV the energy fluctuates by sqrt(E / 400); up to 1 % leaves the calorimeter."""
    with simulator(*SMALL, "--deposits", "400", "--px", "-1,1", "--py", "-1,1") as model:
        electrons = ppl.prior(model, 100, seed=2, observations={"channel": 0}, progress=False)
        muons = ppl.prior(model, 10, seed=3, observations={"channel": 1}, progress=False)
    for trace in electrons:
        electron = next(row for row in trace["particles"] if row[0] == 11)
        allowed = 5.0 * np.sqrt(electron[4] / 400.0)
        assert -0.01 * electron[4] - allowed < expected_energy(trace) - electron[4] < allowed
    assert all(expected_energy(trace) == 0.0 for trace in muons)


@pytest.mark.slow
@pytest.mark.parametrize("grid", ["1,1,1", "1000,1,2", "3,1,1000"])
def test_no_energy_is_lost_between_voxels(grid):
    """The same event, of which the middle of the calorimeter gets everything, on grids of any fineness."""
    data = {"px": 0.0, "py": 0.0, "channel": 0}
    totals = []
    for asked in ("2,3,4", grid):
        with simulator("--grid", asked) as model:
            event = ppl.prior(model, 5, seed=2, observations=data, progress=False)
        totals.append([expected_energy(trace) for trace in event])
    np.testing.assert_allclose(totals[0], totals[1], rtol=1e-12)


def test_showers_stand_where_the_particles_fly():
    """The centre of an electron's shower across the beam, on a grid fine enough: 1 mm for 4,000 deposits of 20 mm."""
    with simulator("--grid", "1,100,100", "--deposits", "400") as model:
        trace = ppl.prior(model, 1, seed=4, observations={"channel": 0, "px": 6.0, "py": -3.0, "cos theta": 0.9})[0]
    site = next(site for site in trace.sites if site.name == "calorimeter")
    energies = np.asarray(site.distribution.mean)[0]
    centres = (np.arange(100) + 0.5) * 17.5 - 875.0  # mm
    electron = next(row for row in trace["particles"] if row[0] == 11)
    depth = 150.0 + 25.0 * np.log(electron[4])  # of the mean deposit behind the front face, which is at 1500 mm
    total = energies.sum()
    assert abs(energies.sum(axis=0) @ centres / total - (1500.0 + depth) * electron[1] / electron[3]) < 3.0
    assert abs(energies.sum(axis=1) @ centres / total - (1500.0 + depth) * electron[2] / electron[3]) < 3.0


# -- sites -------------------------------------------------------------------------------------------------------------


def test_controlled_sites():
    for trace in prior(NUMBER)[:50]:
        latents = [site for site in trace.sites if site.is_latent]
        assert [site.name for site in latents if site.control] == CONTROLLED
        assert all("Hook::Get()" in site.address for site in latents if site.name is None)


def test_addresses_are_few_and_those_of_sherpa():
    addresses = {site.address for trace in prior(NUMBER) for site in trace.sites}
    assert len(addresses) < 100
    (channel,) = {site.address for trace in prior(NUMBER) for site in trace.sites if site.name == "channel"}
    assert "SHERPA::Event_Handler::GenerateHadronDecayEvent" in channel
    assert "PHASIC::Decay_Table::Select()" in channel


def test_loops_of_sherpa_are_rejection_scopes():
    """Of the hundreds of draws of a phase space loop only the accepted pass is in the trace.

    The masses of K_S and eta come from a loop that the stack does not delimit; it makes some per cent of traces long.
    """
    sites = [site for trace in prior(NUMBER) for site in trace.sites]
    lengths = np.array([len(trace.sites) for trace in prior(NUMBER)])
    assert np.mean(lengths > 90) < 0.03
    assert any("GenerateKinematics(" in site.address for site in sites)


def test_the_same_seed_gives_the_same_traces_in_another_process():
    with simulator(*SMALL) as model:
        again = ppl.prior(model, 300, seed=1, progress=False)
    assert [values_of(trace) for trace in again] == [values_of(trace) for trace in prior(NUMBER)[:300]]


def test_a_trace_does_not_depend_on_those_before_it():
    """Sherpa adapts the maxima of its loops while it runs; every event must begin with the same ones."""
    with simulator(*SMALL, num_processes=2) as model:
        again = ppl.prior(model, 300, seed=1, progress=False)
    assert [values_of(trace) for trace in again] == [values_of(trace) for trace in prior(NUMBER)[:300]]


def test_conditioned_draws_have_their_values(small):
    data = {"px": 3.0, "py": -4.0, "pz": 44.0, "channel": 4}
    for trace in ppl.prior(small, 20, seed=5, observations=data, progress=False):
        assert {name: trace[name] for name in data} == data
        assert sorted(particles_of(trace)[:, 0])[:1] == [-211]


# -- inference ---------------------------------------------------------------------------------------------------------


def test_nuisances_are_not_on_the_wire(small, monkeypatch):
    """Metropolis-Hastings' policy: a site without control is asked for only in the execution that meets it first."""
    asked = collections.Counter()
    receive = Peer.receive

    def counted(peer):
        message = receive(peer)
        if isinstance(message, m.Sample):
            asked[message.site] += 1
        return message

    monkeypatch.setattr(Peer, "receive", counted)
    observed = ppl.prior(small, 1, seed=6, progress=False)[0]["calorimeter"]
    ppl.metropolis_hastings(small, {"calorimeter": observed}, 100, seed=0, progress=False)
    sites = small._pool.peers[0].connection.sites
    known = len(sites)
    asked.clear()
    ppl.metropolis_hastings(small, {"calorimeter": observed}, 100, seed=1, progress=False)
    assert sum(count for number, count in asked.items() if sites[number].control) >= 50
    assert not [number for number in asked if number <= known and not sites[number].control]


def test_replay_gives_the_same_execution():
    """Steps of Metropolis-Hastings keep what they do not move, and accept according to the data."""
    with simulator("--grid", "5,9,9") as model:
        data = {"calorimeter": ppl.prior(model, 1, seed=7, progress=False)[0]["calorimeter"]}
        chain = ppl.metropolis_hastings(model, data, 300, seed=0, progress=False)
    before = None
    moves = 0
    for trace in chain:
        state = np.array([trace[name] for name in CONTROLLED], dtype=float)
        if before is not None:
            moved = int(np.sum(state != before))
            assert moved <= 1
            moves += moved
        before = state
        np.testing.assert_array_equal(trace["calorimeter"], data["calorimeter"])
    assert moves > 10


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["random_walk", "lightweight"])
def test_without_information_metropolis_hastings_gives_the_prior(kernel):
    """Noise that drowns the image: the posterior is the prior. Within 5 standard errors."""
    with simulator(*SMALL, "--noise", "1e6") as model:
        data = {"calorimeter": np.zeros((2, 3, 4))}
        posterior = ppl.metropolis_hastings(model, data, 8000, kernel=kernel, burn_in=200, seed=1, progress=False)
    for name, mean, variance in (("px", 0.0, 108.0), ("pz", 45.0, 3.0), ("cos theta", 0.0, 1.0 / 3.0)):
        marginal = posterior.map(name)
        assert abs(marginal.mean - mean) < 5.0 * marginal.standard_error, name
        squares = posterior.map(lambda trace, name=name, mean=mean: (trace[name] - mean) ** 2)
        assert abs(squares.mean - variance) < 5.0 * squares.standard_error, name
    for channel in (0, 4):
        indicator = posterior.map(lambda trace, channel=channel: float(trace["channel"] == channel))
        assert abs(indicator.mean - channels()[channel]["branching_ratio"]) < 5.0 * indicator.standard_error


@pytest.mark.slow
def test_deposits_leave_the_weights_usable():
    """Given the true values of the controlled draws, redrawn nuisances leave an effective sample of some per cent."""
    with simulator("--grid", "10,17,17") as model:
        fractions = []
        for trace in ppl.prior(model, 12, seed=8, progress=False):
            truth = {name: trace[name] for name in (*CONTROLLED, "calorimeter")}
            posterior = ppl.importance_sampling(model, truth, 200, seed=0, progress=False)
            fractions.append(posterior.effective_sample_size / 200)
    assert np.median(fractions) > 0.1


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "an endpoint is missing"),
        (("--px", "3,1", "x"), "--px 3,1: expected two numbers"),
        (("--px", "3", "x"), "--px 3: expected two numbers"),
        (("--grid", "20,35", "x"), "--grid 20,35: expected three numbers of voxels"),
        (("--grid", "0,1,1", "x"), "--grid 0,1,1: expected three numbers of voxels"),
        (("--noise", "-1", "x"), "--noise -1: expected a number above 0"),
        (("--resolution", "0.5", "x"), "--resolution 0.5: expected two numbers from 0 on"),
        (("--resolution", "0,-1", "x"), "--resolution 0,-1: expected two numbers from 0 on"),
        (("--deposits", "many", "x"), "--deposits many: expected a number above 0"),
        (("--seed", "1.5", "x"), "--seed 1.5: expected a whole number"),
        (("--grid",), "--grid: expected something to follow it"),
        (("--colour", "red", "x"), "--colour: there is no such option"),
        (("x", "y"), "there is an endpoint already, x"),
    ],
)
def test_bad_arguments_are_refused(options, said):
    done = run(*options)
    assert done.returncode == 2
    assert said in done.stderr
    assert "usage: tau" in done.stderr


def test_a_run_card_that_is_not_there():
    done = run("--yaml", "/nowhere/Sherpa.yaml", "--channels")
    assert done.returncode == 1
    assert "there is no run card /nowhere/Sherpa.yaml" in done.stderr


def test_a_run_card_without_tau_decays(tmp_path):
    card = tmp_path / "Sherpa.yaml"
    yaml = (ROOT / "examples" / "sherpa_tau" / "Sherpa.yaml").read_text()
    card.write_text(yaml + "FRAGMENTATION: None\n")
    done = run("--yaml", str(card), "--channels")
    assert done.returncode == 1
    assert "Sherpa knows no hadron decays" in done.stderr


def test_fetching_without_pip_says_so(tmp_path):
    script = ROOT / "examples" / "sherpa_tau" / "fetch_sherpa.sh"
    done = subprocess.run([script, tmp_path / "sherpa", "/bin/false"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "/bin/false has no pip" in done.stderr
    assert not (tmp_path / "sherpa").exists()


def test_results_stand_alone_on_standard_output():
    assert json.loads(run("--channels").stdout)[2]["name"] == "pi- nu_tau"
    assert float(run("--bare", "20", *SMALL).stdout) > 0.0
