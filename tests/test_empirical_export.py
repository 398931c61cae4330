"""Posteriors as xarray and ArviZ objects."""

import sys

import numpy as np
import pytest
from programs import GUM_DATA, gum

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.empirical import Empirical
from ppl_jax.errors import PPLError

arviz = pytest.importorskip("arviz")


def loop():
    n = ppl.sample(dist.Poisson(1.0), name="n")
    for _ in range(2 + n):
        ppl.sample(dist.Normal(np.zeros(3), 1.0), name="x")
    ppl.sample(dist.Normal(np.zeros(1 + n), 1.0), name="ragged")
    if n:
        ppl.sample(dist.Normal(0.0, 1.0), name="sometimes")
    ppl.sample(dist.Normal(0.0, 1.0))
    ppl.factor(-1.0, name="penalty")
    for _ in range(2):
        ppl.observe(dist.Normal(np.zeros(2), 1.0), name="y")


@pytest.fixture(scope="module")
def posterior():
    return ppl.importance_sampling(gum, GUM_DATA, num_traces=300, seed=1, progress=False)


def test_groups(posterior):
    data = posterior.to_arviz(seed=0)
    if int(arviz.__version__.split(".")[0]) < 1:
        assert isinstance(data, arviz.InferenceData)
    assert data.posterior["mu"].dims == ("chain", "draw") and data.posterior["mu"].shape == (1, 300)
    assert set(data.posterior["mu"].values.ravel()) <= set(posterior.map("mu").values)
    assert list(data.posterior.data_vars) == ["mu"]
    assert {name: float(value) for name, value in data.observed_data.items()} == GUM_DATA
    by_value = {trace["mu"]: (trace.log_joint, w) for trace, w in zip(posterior, posterior.log_weights, strict=True)}
    expected = np.array([by_value[mu] for mu in data.posterior["mu"].values.ravel()])
    np.testing.assert_allclose(data.sample_stats["lp"].values.ravel(), expected[:, 0])
    np.testing.assert_allclose(data.sample_stats["log_weight"].values.ravel(), expected[:, 1])
    assert float(arviz.summary(data)["mean"]["mu"]) == pytest.approx(posterior.map("mu").mean, abs=0.1)


def test_resampling_for_export_is_by_seed(posterior):
    first, second, third = (posterior.to_xarray(seed=seed)["mu"].values for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, third)


def test_chains_are_not_resampled(posterior):
    data = Empirical(posterior.values[:11], num_chains=3).to_arviz()
    mu = posterior.map("mu").values
    np.testing.assert_array_equal(data.posterior["mu"].values, [mu[0:3], mu[4:7], mu[8:11]])
    assert data.sample_stats["lp"].shape == (3, 3)


@pytest.mark.parametrize("as_list", [False, True])
def test_names_met_several_times_or_not_always(as_list):
    posterior = ppl.importance_sampling(loop, {"y": [0.5, 1.0]}, num_traces=50, seed=0, progress=False)
    if as_list:
        posterior = Empirical(list(posterior), posterior.log_weights)
    equal = Empirical(posterior.values)
    data = equal.to_arviz()
    assert list(data.posterior.data_vars) == ["n", "x[1]", "x[2]"]
    assert data.posterior["x[2]"].shape == (1, 50, 3) and data.posterior["n"].dtype.kind == "i"
    np.testing.assert_array_equal(data.posterior["x[2]"].values[0], [trace["x", 2] for trace in posterior])
    assert {"x[3]", "ragged", "sometimes"} <= set(data.posterior.attrs["left_out"])
    assert list(data.observed_data.data_vars) == ["y[1]", "y[2]"]
    assert data.observed_data["y[1]"].values.tolist() == [0.5, 1.0]
    np.testing.assert_allclose(data.sample_stats["lp"].values[0], [trace.log_joint for trace in posterior])


def test_observations_that_differ_between_traces_are_no_data():
    prior = ppl.prior(gum, num_traces=5, seed=0, progress=False)
    assert not hasattr(prior.to_arviz(), "observed_data")


def test_numbers():
    values = np.arange(12.0).reshape(6, 2)
    data = Empirical(values, num_chains=2).to_arviz()
    np.testing.assert_array_equal(data.posterior["value"].values, values.reshape(2, 3, 2))
    with pytest.raises(PPLError, match="Only traces and numbers can be exported"):
        Empirical(["a", "b"]).to_xarray()


def test_newer_arviz_gets_a_data_tree(posterior, monkeypatch):
    import xarray

    monkeypatch.setattr(arviz, "__version__", "1.0.0")
    data = posterior.to_arviz(seed=0)
    assert isinstance(data, xarray.DataTree)
    assert set(data.children) == {"posterior", "observed_data", "sample_stats"}
    assert data["posterior"]["mu"].shape == (1, 300)


@pytest.mark.parametrize("package", ["arviz", "xarray"])
def test_packages_that_are_missing(posterior, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(PPLError, match=rf"needs {package}. Install it with: pip install 'ppl-jax\[arviz\]'"):
        posterior.to_arviz()
