"""What notebooks and prompts show of the values that people hold."""

import html
import re

import numpy as np

import ppl_jax as ppl
import ppl_jax.distributions as dist


def model():
    mu = ppl.sample(dist.Normal(0.0, 1.0), name="mu")
    w = ppl.sample(dist.Normal(np.zeros(2), 1.0), name="w")
    ppl.sample(dist.Normal(np.zeros(50), 1.0), name="wide")
    ppl.sample(dist.Normal(0.0, 1.0))
    ppl.tag(mu + w[0], name="sum < all")
    ppl.factor(-0.5 * mu**2)
    ppl.observe(dist.Normal(mu, 1.0), name="y")


def posterior(**settings):
    return ppl.importance_sampling(model, {"y": 0.3}, 200, seed=1, progress=False, **settings)


def rows(text):
    """The cells of the rows of a table, as text."""
    found = re.findall(r"<tr>(.*?)</tr>", text)
    cells = [re.findall(r"<t[hd].*?</t[hd]>", row) for row in found]
    return [[html.unescape(re.sub("<.*?>", "", cell)) for cell in row] for row in cells]


def test_a_posterior_is_a_table_of_its_named_numbers():
    shown = posterior()
    table = rows(shown._repr_html_())
    assert table[0] == ["", "mean", "sd", "5 %", "50 %", "95 %", "effective sample size"]
    assert [row[0] for row in table[1:]] == ["mu", "w[0]", "w[1]"]
    mu = shown.map("mu")
    assert table[1][1:] == [
        *(f"{number:.4g}" for number in (mu.mean, mu.stddev, *mu.quantile([0.05, 0.5, 0.95]))),
        f"{mu.effective_sample_size:.0f}",
    ]
    assert html.escape(repr(shown)) in shown._repr_html_()


def test_chains_have_a_column_of_r_hat():
    chains = ppl.metropolis_hastings(model, {"y": 0.3}, 400, num_chains=2, burn_in=50, seed=1, progress=False)
    table = rows(chains._repr_html_())
    assert table[0][-1] == "R-hat"
    assert table[1][-1] == f"{chains.map('mu').r_hat:.3f}"


def test_posteriors_of_other_values():
    shown = posterior()
    assert [row[0] for row in rows(shown.map("mu")._repr_html_())[1:]] == ["value"]
    assert "posterior.map('name')" in html.unescape(shown.map(lambda trace: "text")._repr_html_())
    nothing = ppl.Empirical([1.0, 2.0], log_weights=[-np.inf, -np.inf])
    assert "all weights zero" in nothing._repr_html_()
    assert "0 values" in shown.map("mu")[:0]._repr_html_()


def test_a_trace_is_a_table_of_its_sites():
    trace = posterior()[0]
    text = trace._repr_html_()
    table = rows(text)
    assert len(table) == 1 + len(trace.sites)
    assert table[1][:3] == ["mu", "sample", "Normal(loc=0.0, scale=1.0)"]
    assert table[1][4] == f"{trace.sites[0].log_prob:.6g}"
    assert [row[1] for row in table[1:]] == ["sample"] * 4 + ["tag", "factor", "observed"]
    assert "sum &lt; all" in text
    assert max(len(cell) for row in table for cell in row) < 160


def test_a_long_trace_is_cut_off():
    def long():
        for _ in range(30):
            ppl.sample(dist.Normal(0.0, 1.0))

    text = ppl.prior(long, 1, seed=0, progress=False)[0]._repr_html_()
    assert len(rows(text)) == 21
    assert "and 10 more: trace.sites" in text


def test_a_dataset_shows_what_it_holds(tmp_path):
    ppl.data.save_dataset(model, tmp_path / "traces", 10, seed=0, progress=False)
    dataset = ppl.data.open_dataset(tmp_path / "traces")
    assert dataset._repr_html_() == dataset.info()._repr_html_()
    assert "traces         10" in dataset._repr_html_()


def test_a_calibration_shows_its_table():
    def simulated():
        ppl.observe(dist.Normal(ppl.sample(dist.Normal(0.0, 1.0), name="mu"), 1.0), name="y")

    found = ppl.diagnostics.calibration(
        simulated,
        lambda data, seed: ppl.importance_sampling(simulated, data, 50, seed=seed, progress=False),
        ["mu"],
        num_simulations=5,
        num_draws=5,
        seed=0,
        progress=False,
    )
    assert repr(found) == str(found)
    assert html.escape(str(found)) in found._repr_html_()
