"""The public API: what users and other programs rely on, and what every function of it says of itself."""

import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from programs import GUM_DATA, gum

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax import handlers

LANGUAGE = {"sample", "observe", "factor", "tag", "distributions", "handlers"}
ENGINES = {"prior", "importance_sampling", "metropolis_hastings", "nuts", "smc", "Lightweight", "RandomWalk"}
RESULTS = {"Empirical", "Site", "Trace", "TraceType"}
FAMILIES = {
    "Normal", "Uniform", "Categorical", "Poisson", "Bernoulli", "Beta", "Exponential", "Gamma", "LogNormal", "Binomial",
    "Weibull", "TruncatedNormal", "VonMises", "Mixture", "MultivariateNormal", "Factor", "Delta",
}  # fmt: skip


def test_the_version_is_the_same_everywhere():
    citation = (Path(__file__).parent.parent / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {ppl.__version__}\n" in citation
    assert version("ppl-jax") == ppl.__version__


def test_names():
    assert set(ppl.__all__) >= LANGUAGE | ENGINES | RESULTS
    assert all(hasattr(ppl, name) for name in ppl.__all__)
    assert set(dist.__all__) >= FAMILIES
    assert {name for name in ppl.__all__ if name.endswith("Error")} >= {
        "ObservationError", "UnknownObservationError", "ParameterError", "SupportError", "ModelError", "NoLatentsError",
        "DegenerateWeightsError", "UntraceableModelError", "StorageError",
    }  # fmt: skip


def test_what_a_posterior_offers():
    posterior = ppl.importance_sampling(gum, GUM_DATA, num_traces=500, seed=0, progress=False)
    assert len(posterior) == 500 and isinstance(posterior[0], ppl.Trace)
    assert posterior.log_weights.shape == posterior.weights.shape == (500,)
    assert posterior.weights.sum() == pytest.approx(1.0)
    assert len(posterior.values) == 500
    assert posterior.effective_sample_size > 1 and posterior.log_evidence < 0
    mu = posterior.map(lambda trace: trace["mu"])
    assert isinstance(mu, ppl.Empirical) and np.asarray(mu.values).shape == (500,)
    assert mu.mean == pytest.approx(mu.weights @ mu.values)
    assert mu.stddev == pytest.approx(np.sqrt(mu.weights @ (mu.values - mu.mean) ** 2))
    assert (mu.effective_sample_size, mu.log_evidence) == (posterior.effective_sample_size, posterior.log_evidence)
    assert mu.resample(20, seed=1).values.tolist() == mu.resample(20, 1).values.tolist()
    assert len(posterior.resample(20, seed=1)) == 20
    assert mu.mode == mu.values[mu.weights.argmax()]
    assert mu.quantile(0.25) < mu.median < mu.quantile(0.75)
    assert mu.expectation(lambda x: x**2) == pytest.approx(mu.variance + mu.mean**2)


def test_what_a_trace_and_its_sites_offer():
    trace = ppl.importance_sampling(gum, GUM_DATA, num_traces=1, seed=0, progress=False)[0]
    assert trace["mu"] == trace.result == trace.sites[0].value
    prior = dist.Normal(1.0, 5.0**0.5).log_prob(trace["mu"])
    likelihood = sum(dist.Normal(trace["mu"], 2.0**0.5).log_prob(value) for value in GUM_DATA.values())
    assert trace.log_prob == pytest.approx(prior)
    assert trace.log_joint == pytest.approx(prior + likelihood)
    assert trace.log_importance_weight == pytest.approx(likelihood)
    latent, observed = trace.sites[:2]
    assert latent.address == "programs:gum:1:9" and latent.instance == 1 and latent.name == "mu"
    assert latent.distribution == dist.Normal(1.0, 5.0**0.5)
    assert latent.log_prob == pytest.approx(prior)
    assert (latent.control, latent.observed, observed.control, observed.observed) == (True, False, False, True)
    assert trace.type == ppl.TraceType(((latent.address, "Normal"),))


def test_arguments_of_the_engines():
    for engine in (ppl.importance_sampling, ppl.metropolis_hastings, ppl.smc, ppl.nuts):
        first = list(inspect.signature(engine).parameters.values())
        assert [p.name for p in first[:3]] == ["model", "observations", "num_traces"]
        assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in first[3:])
    assert [*inspect.signature(ppl.prior).parameters][:2] == ["model", "num_traces"]


def documented():
    """Every function, class and method that a user calls."""
    for module in (ppl, dist, handlers):
        for name in getattr(module, "__all__", [n for n in vars(module) if n[0].islower()]):
            member = getattr(module, name)
            if inspect.isclass(member) or inspect.isfunction(member):
                yield f"{module.__name__}.{name}", member
    for owner in (ppl.Empirical, ppl.Trace, ppl.Site, dist.Distribution):
        for name, member in vars(owner).items():
            if not name.startswith("_") and (
                inspect.isfunction(member) or isinstance(member, (property, staticmethod))
            ):
                yield f"{owner.__name__}.{name}", member


OBVIOUS = {
    "Trace.latents", "Trace.observed", "Trace.type", "Site.is_latent", "Trace.log_importance_weight",
    "Distribution.family", "Distribution.mean", "Distribution.variance", "Distribution.stddev",
}  # fmt: skip


def test_everything_public_is_documented():
    undocumented = [name for name, member in documented() if not inspect.getdoc(member) and name not in OBVIOUS]
    assert undocumented == []


@pytest.mark.parametrize("engine", ["prior", "importance_sampling", "metropolis_hastings", "smc", "nuts"])
def test_engines_explain_every_argument(engine):
    text = inspect.getdoc(getattr(ppl, engine))
    for name in inspect.signature(getattr(ppl, engine)).parameters:
        assert f"{name}:" in text or f"{name}," in text, name
    assert "Returns:" in text and "Raises:" in text


def test_importing_is_quick_and_leaves_jax_alone():
    """Programs that run on the host pay neither for JAX nor for numpyro, which take seconds to import."""
    program = (
        "import sys, ppl_jax as ppl, ppl_jax.distributions as dist\n"
        "model = lambda: ppl.observe(dist.Normal(ppl.sample(dist.Normal(0, 1), name='x'), 1.0), 0.5)\n"
        "for engine in (ppl.prior, ppl.importance_sampling, ppl.metropolis_hastings, ppl.smc):\n"
        "    engine(model, num_traces=20, progress=False).map('x').mean\n"
        "assert not {'jax', 'numpyro', 'arviz', 'matplotlib'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-300:]


@pytest.mark.parametrize(
    ("call", "shown"),
    [
        ("prior(gum, 3000)", ["3.00k/3.00k", "trace/s", "ESS 3000"]),
        ("importance_sampling(gum, GUM_DATA, 3000)", ["3.00k/3.00k", "trace/s", "ESS "]),
        ("metropolis_hastings(gum, GUM_DATA, 3000, burn_in=72)", ["3.07k/3.07k", "step/s", "chain 1, ", "% accepted"]),
        ("smc(gum, GUM_DATA, 300)", ["300/300", "particle/s"]),
    ],
)
def test_progress_is_shown_unless_it_is_not_wanted(call, shown, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    scope = {"gum": gum, "GUM_DATA": GUM_DATA, **{name: getattr(ppl, name) for name in ENGINES}}
    eval(call[:-1] + ", seed=1)", scope)
    bar = capsys.readouterr().err
    for text in shown:
        assert text in bar, bar
    eval(call[:-1] + ", seed=1, progress=False)", scope)
    silent = capsys.readouterr()
    assert silent.err == silent.out == ""
