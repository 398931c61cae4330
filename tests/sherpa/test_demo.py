"""The demo: its figures on samples of known answers, and the whole of it at a small scale, page included."""

import base64
import json
import subprocess
import sys
import textwrap
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy import stats
from sherpa_simulator import ROOT, built

FOLDER = ROOT / "examples" / "sherpa_tau"
PICTURES = 7
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module", autouse=True)
def _the_demos_modules():
    """The demo's files import each other by name, as programs of one folder do."""
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


# -- figures -----------------------------------------------------------------------------------------------------------


def test_intervals_of_weighted_samples():
    from comparison import covers, weighted_quantiles

    # Uniform samples weighted by their value have the density 2 x on (0, 1), of which the quantile at p is sqrt(p). Its
    # standard error with n = 40,000 samples is at most sqrt(p (1 - p) / ess) / density; ess = 3/4 n.
    values = np.random.default_rng(1).random(40_000)
    weights = values / values.sum()
    found = weighted_quantiles(values, weights, np.array([0.05, 0.5, 0.95]))
    np.testing.assert_allclose(found, np.sqrt([0.05, 0.5, 0.95]), atol=5 * 0.5 / np.sqrt(30_000) / (2 * 0.22))
    assert covers(values, weights, 0.25)
    assert not covers(values, weights, 0.15)
    assert not covers(values, weights, 0.99)


def test_log_loss_and_entropy_of_choices():
    from comparison import entropy, log_loss, shares

    prior = np.array([0.5, 0.25, 0.25])
    posterior = shares(np.array([0, 1, 1, 1]), np.full(4, 0.25), 3)
    np.testing.assert_allclose(posterior, [0.25, 0.75, 0.0])
    # The prior is one sample more: (4 * 0.75 + 0.25) / 5, and for what no sample has 0.25 / 5.
    assert log_loss(posterior, prior, 4.0, 1) == pytest.approx(-np.log(3.25 / 5.0))
    assert log_loss(posterior, prior, 4.0, 2) == pytest.approx(-np.log(0.25 / 5.0))
    assert entropy(prior) == pytest.approx(1.5 * np.log(2.0))


def test_the_distance_of_samples_that_overlap_in_part():
    from comparison import distance

    rng = np.random.default_rng(2)
    first, second = rng.random(50_000), 0.5 + rng.random(50_000)
    equal = np.full(50_000, 2e-5)
    # U(0, 1) and U(1/2, 3/2): half of each lies where the other is not, so that the divergence is 1/2 bit. The bins
    # that 1/2 and 1 fall into blur it: two of twelve, by less than a half each.
    assert distance(first, equal, second, equal) == pytest.approx(np.sqrt(0.5), abs=0.03)
    assert distance(first, equal, first, equal) == 0.0
    assert distance(first, equal, 2.0 + second, equal) == pytest.approx(1.0, abs=1e-6)


def test_the_distance_to_expect_of_equal_distributions():
    from comparison import distance, expected_distance

    rng = np.random.default_rng(3)
    n, m = 400, 900
    # Uniform, so that all bins are full, as the formula assumes; a mean of squares over 200 repetitions, which has a
    # relative standard error of sqrt(2 / 11 / 200) = 3 %.
    found = [distance(rng.random(n), np.full(n, 1 / n), rng.random(m), np.full(m, 1 / m)) ** 2 for _ in range(200)]
    assert np.mean(found) == pytest.approx(expected_distance(n, m) ** 2, rel=0.15)


def test_chains_that_agree_and_chains_that_do_not():
    from comparison import gelman_rubin

    chains = np.random.default_rng(4).normal(size=(4, 1000))
    # Of independent draws the statistic exceeds 1 by the order of 1 / length.
    assert gelman_rubin(chains) == pytest.approx(1.0, abs=0.005)
    # Means of -1, -1, 1, 1 have a variance of 8/7 among eight halves, beside 1 within: sqrt(1 + 8/7).
    apart = chains + np.array([-1.0, -1.0, 1.0, 1.0])[:, None]
    assert gelman_rubin(apart) == pytest.approx(np.sqrt(15.0 / 7.0), rel=0.05)
    assert np.isnan(gelman_rubin(np.zeros((2, 10))))


def test_neighbourhoods_are_those_of_a_convolution():
    import jax
    from network import neighbourhoods

    x = np.random.default_rng(5).normal(size=(2, 5, 6, 7, 3)).astype(np.float32)
    kernel = np.random.default_rng(6).normal(size=(3, 3, 3, 3, 4)).astype(np.float32)
    expected = jax.lax.conv_general_dilated(
        x, kernel, (2, 2, 2), [(1, 1)] * 3, dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    found = neighbourhoods(x) @ kernel.reshape(-1, 4)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_each_head_says_where_its_votes_fall_and_what_is_there():
    from network import attend

    features = np.random.default_rng(9).normal(size=(2, 3, 5, 5, 4)).astype(np.float32)
    votes = np.zeros((2, 3, 5, 5, 2), np.float32)
    votes[:, 2, 1, 4, 0] = 50.0  # the first head's all fall on one voxel, the second's on all alike
    found = np.asarray(attend(features, votes))
    where, what = found[:, :6].reshape(2, 2, 3), found[:, 6:].reshape(2, 2, 4)
    np.testing.assert_allclose(where[:, 0], [[1.0, -0.5, 1.0]] * 2, atol=1e-6)
    np.testing.assert_allclose(where[:, 1], 0.0, atol=1e-6)
    np.testing.assert_allclose(what[:, 0], features[:, 2, 1, 4], atol=1e-5)
    np.testing.assert_allclose(what[:, 1], features.mean(axis=(1, 2, 3)), atol=1e-5)


def test_filtered_images_keep_the_unit_of_noise():
    from network import filtered

    noise = np.random.default_rng(7).normal(size=(400, 3, 8, 9)).astype(np.float32)
    inside = np.asarray(filtered(noise))[:, :, 2:-2, 2:-2]
    # Neighbours share their noise, so that at least one in nine numbers of 400 images is independent.
    error = 1.0 / np.sqrt(2.0 * 400 * 20 / 9)
    np.testing.assert_allclose(inside.std(axis=(0, 1, 2, 3)), 1.0, atol=5.0 * error)
    point = np.zeros((1, 3, 8, 9), np.float32)
    point[0, 0, 4, 5] = 6.0  # a point stands out most in itself, and in the filters less the wider they are
    assert np.all(np.diff(np.asarray(filtered(point))[0, 0, 4, 5]) < 0.0)


@pytest.mark.parametrize("place", [(3, 4), (0, 0), (7, 8)])
def test_the_brightest_place_is_found_to_a_fraction_of_a_voxel(place):
    from network import brightest, filtered

    row, column = place
    image = np.zeros((1, 2, 8, 9), np.float32)
    image[0, 1, row, column] = 300.0
    right = min(column + 1, 8)
    image[0, 1, row, right] += 100.0
    where, what = brightest(image, filtered(image).max(axis=(1, 4)))
    coarse, fine = (column - 4.0) / 4.5, (column + 0.25 * (right - column) - 4.0) / 4.5
    vertical = (row - 3.5) / 4.0
    # The sum is one unit larger than it is, so that an image without light has a centre: 1 / 401 of a voxel here.
    np.testing.assert_allclose(where[0], [coarse, vertical, fine, vertical], atol=1e-3)
    assert np.isfinite(what).all()


def test_the_noise_goes_with_the_root_of_a_voxels_volume():
    from simulator import DETECTOR, flags

    given = {name: default for name, (default, _) in DETECTOR.items()}
    usual, fine = flags(given), flags(given | {"grid": "6,24,24"})  # an eighth of the volume each
    place = usual.index("--noise") + 1
    assert float(fine[place]) == pytest.approx(float(usual[place]) / np.sqrt(8.0), rel=1e-5)


def test_another_simulator_has_another_fingerprint(tmp_path):
    from simulator import fingerprint

    program, rebuilt = tmp_path / "tau", tmp_path / "tau2"
    program.write_bytes(b"one")
    rebuilt.write_bytes(b"two")
    flags = ["--noise", "1"]
    assert fingerprint(program, flags) == fingerprint(program, list(flags))
    others = [fingerprint(rebuilt, flags), fingerprint(program, ["--noise", "2"])]
    assert fingerprint(program, flags) not in others


def test_names_of_channels():
    from simulator import written

    assert written("nu_tau anti-nu_e e-") == "e⁻ ν ν"
    assert written("pi+ pi- pi- pi0 nu_tau") == "π⁺ π⁻ π⁻ π⁰ ν"
    assert written("nu_tau mu- nu_mubar") == "μ⁻ ν ν"  # Pythia's names
    assert written("nu_tau pi- Kbar0") == "π⁻ Kbar⁰ ν"


# -- the page ----------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page shows, and what it would have to fetch."""

    def __init__(self, text):
        super().__init__()
        self.images, self.elsewhere, self.open, self.text = [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        for name, value in attrs:
            if tag == "img" and name == "src" and value.startswith("data:image/png;base64,"):
                self.images.append(base64.b64decode(value.split(",", 1)[1], validate=True))
            elif name in ("src", "href", "srcset", "data", "action") or "url(" in (value or ""):
                self.elsewhere.append((tag, name, value))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_a_page_escapes_texts_and_holds_its_pictures(tmp_path):
    from page import Picture, Section, Table, write_page

    (tmp_path / "one.png").write_bytes(PNG + b"pixels")
    shown = [Picture(tmp_path / "one.png", 'a "picture"'), Table("a table", ["<head>"], [["1 < 2"]])]
    write_page(tmp_path / "page.html", "a & b", ["<script>"], [Section("section", ["paragraph"], shown)])
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert page.images == [PNG + b"pixels"]
    assert not page.elsewhere
    assert not page.open
    for text in ("a & b", "<script>", "<head>", "1 < 2", 'a "picture"'):
        assert text in page.text


# -- the whole chain ---------------------------------------------------------------------------------------------------


def demo(*options):
    command = [sys.executable, str(FOLDER / "demo.py"), *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)


def test_the_whole_demo_at_a_small_scale(tmp_path):
    built()
    scale = ["--events", "1000", "--hours", "0.005", "--tests", "3", "--grid", "4,8,8", "--noise", "1"]
    run = demo(*scale, "--processes", "8", "--output", str(tmp_path))
    assert run.returncode == 0, run.stderr[-4000:]
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert len(page.images) == PICTURES
    assert all(image.startswith(PNG) for image in page.images)
    assert page.images[0] == (tmp_path / "calorimeter.png").read_bytes()
    assert not page.elsewhere
    assert not page.open

    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["events"] == 3
    assert set(results["coverage"]) == {"px", "py", "pz"}
    assert all(0.0 <= share <= 1.0 for share in results["coverage"].values())
    # The entropy of Sherpa's branching ratios, whatever was inferred: 2.10 nats.
    assert results["prior_entropy"] == pytest.approx(2.10, abs=0.05)
    for row in results["marginals"].values():
        assert 0.0 <= row["distance"] <= 1.0
    # Muons are neither visible nor missing here, so that the energies add up to the tau's at most; momenta keep to the
    # demo's prior, -30 to 30 GeV across and 72 to 78 GeV along the beam.
    found = results["marginals"]
    for engine in ("inference compilation", "Metropolis-Hastings"):
        seen, missing = found["visible"][f"{engine} mean"], found["missing"][f"{engine} mean"]
        assert 0.0 <= seen + missing <= np.sqrt(2 * 30.0**2 + 78.0**2 + 1.78**2)
        assert abs(found["px"][f"{engine} mean"]) <= 30.0
        assert 72.0 <= found["pz"][f"{engine} mean"] <= 78.0
    assert results["speed"] > 0.0
    assert "Gelman-Rubin" in run.stdout
    for claim in ("cover the truth", "log loss", "Jensen-Shannon", "effective sample"):
        assert claim in page.text


WRONG = [
    (["--events", "10"], "at least 1,000 events"),
    (["--grid", "3,12"], "--grid must be three numbers of voxels"),
    (["--grid", "3,12,0"], "--grid must be three numbers of voxels"),
    (["--noise", "low"], "--noise a number of GeV"),
    (["--event", "7", "--tests", "5"], "0 to 4"),
    (["--program", "/no/such/tau"], "/no/such/tau is not there: `make sherpa` builds Sherpa's"),
]


def test_what_cannot_be_is_said(tmp_path):
    """In one process for all: it takes seconds to start."""
    script = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(FOLDER)!r})
        from demo import main

        for options in {[options for options, _ in WRONG]!r}:
            sys.argv = ["demo.py", *options, "--output", {str(tmp_path)!r}]
            try:
                main()
            except SystemExit as ended:
                assert ended.code, options
                print(ended.code, file=sys.stderr)
            print("---", file=sys.stderr)
    """)
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    for said, (_, message) in zip(run.stderr.split("---")[:-1], WRONG, strict=True):
        assert message in said


def test_truths_of_simulated_events_are_those_of_the_samples():
    from posterior import MOMENTUM, truth_of
    from sherpa_simulator import prior

    for trace in prior(50):
        truth = truth_of(trace)
        assert [truth.values[name][0] for name in MOMENTUM] == [trace[name] for name in MOMENTUM]
        energy = np.sqrt(1.777**2 + sum(trace[name] ** 2 for name in MOMENTUM))
        # Everything but muons is either seen or missing; four products more than the table's eight do not occur here.
        total = truth.values["visible"][0] + truth.values["missing"][0] + truth.values["muon"][0]
        assert total == pytest.approx(energy, rel=1e-3)
        assert truth.image.shape == (2, 3, 4)


def test_the_worth_of_samples_is_that_of_independent_ones():
    from posterior import worth

    import ppl_jax as ppl

    draws = np.random.default_rng(7).normal(size=4000)
    assert worth(ppl.Empirical(draws, log_evidence=0.0)) == pytest.approx(4000, rel=0.01)
    # An autoregressive chain of correlation r is worth (1 - r) / (1 + r) of its length: a third at 1/2. The estimate of
    # its standard error is uncertain by about 5 %.
    chain = np.empty(40_000)
    chain[0] = 0.0
    steps = stats.norm.rvs(size=40_000, random_state=8)
    for k in range(1, len(chain)):
        chain[k] = 0.5 * chain[k - 1] + steps[k]
    assert worth(ppl.Empirical(chain)) == pytest.approx(40_000 / 3, rel=0.2)
