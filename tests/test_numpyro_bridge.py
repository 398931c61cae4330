"""numpyro both ways: its models under our engines and handlers, our models under its samplers and handlers."""

import math
import threading
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as npd
import pytest
from numpyro.infer import MCMC, NUTS, Predictive
from programs import GUM_DATA, GUM_LOG_EVIDENCE, GUM_MEAN, GUM_STDDEV, gum

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax import handlers
from ppl_jax.interop.numpyro import NumpyroModel, adapt, from_numpyro

QUIET = {"progress": False}


def numpyro_gum():
    mu = numpyro.sample("mu", npd.Normal(1.0, jnp.sqrt(5.0)))
    numpyro.sample("obs0", npd.Normal(mu, jnp.sqrt(2.0)))
    numpyro.sample("obs1", npd.Normal(mu, jnp.sqrt(2.0)))
    numpyro.deterministic("twice", 2.0 * mu)
    return mu


# -- numpyro's models under our engines --------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["host", "jax"])
def test_prior(backend):
    prior = ppl.prior(numpyro_gum, 400, seed=1, backend=backend, **QUIET)
    assert [site.name for site in prior[0].sites] == ["mu", "obs0", "obs1", "twice"]
    assert [site.address for site in prior[0].sites] == ["mu", "obs0", "obs1", "twice"]
    assert prior[0]["twice"] == pytest.approx(2.0 * prior[0]["mu"], rel=1e-6)
    assert prior.map("mu").mean == pytest.approx(1.0, abs=4 * np.sqrt(5.0 / 400))
    assert prior.map("obs0").stddev == pytest.approx(np.sqrt(7.0), abs=4 * np.sqrt(7.0 / 800))


ENGINES = {
    "importance sampling, host": lambda model, data: ppl.importance_sampling(
        model, data, 3000, proposal=near_the_posterior, seed=1, backend="host", **QUIET
    ),
    "importance sampling, jax": lambda model, data: ppl.importance_sampling(
        model, data, 40_000, seed=1, backend="jax", **QUIET
    ),
    "metropolis_hastings": lambda model, data: ppl.metropolis_hastings(model, data, 2400, burn_in=300, seed=2, **QUIET),
    "smc": lambda model, data: ppl.smc(handlers.propose(model, near_the_posterior), data, 2000, seed=1, **QUIET),
    "nuts": lambda model, data: ppl.nuts(model, data, 2500, burn_in=200, seed=1, **QUIET),
}


def near_the_posterior(site):
    return dist.Normal(7.0, 1.5) if site.name == "mu" else None


SLOW = ("importance sampling, host", "metropolis_hastings")  # numpyro's draws on the host take a millisecond each


@pytest.mark.parametrize(
    "engine",
    [pytest.param(engine, marks=[pytest.mark.slow] if name in SLOW else []) for name, engine in ENGINES.items()],
    ids=ENGINES,
)
def test_the_posterior_of_the_gaussian(engine):
    posterior = engine(numpyro_gum, GUM_DATA)
    mu = posterior.map("mu")
    # Weighted draws are worth the effective sample size; of the chains' draws at least one in ten is independent.
    worth = posterior.effective_sample_size if posterior.has_log_evidence else len(posterior) / 10
    assert worth > 150
    assert mu.mean == pytest.approx(GUM_MEAN, abs=4 * GUM_STDDEV / np.sqrt(worth))
    assert mu.stddev == pytest.approx(GUM_STDDEV, abs=4 * GUM_STDDEV / np.sqrt(2 * worth))
    if posterior.has_log_evidence:
        assert posterior.log_evidence == pytest.approx(GUM_LOG_EVIDENCE, abs=4 / np.sqrt(worth))


def regression(x, y=None):
    slope = numpyro.sample("slope", npd.Normal(0.0, 1.0))
    with numpyro.plate("rows", len(x)):
        return numpyro.sample("y", npd.Normal(slope * x, 0.5), obs=y)


X, Y = np.linspace(-1.0, 1.0, 12), np.linspace(-1.0, 1.0, 12) * 0.7 + np.resize([0.2, -0.2], 12)
PRECISION = 1.0 + (X @ X) / 0.25
SLOPE = (X @ Y) / 0.25 / PRECISION


@pytest.mark.parametrize("given", ["to the engine", "in the model"])
def test_plates_are_array_valued_sites(given):
    model, data = (partial(regression, X), {"y": Y}) if given == "to the engine" else (partial(regression, X, Y), {})
    posterior = ppl.importance_sampling(model, data, 2000, seed=3, backend="host", **QUIET)
    assert posterior[0]["y"].shape == (12,)
    expected = np.asarray(dist.Normal(posterior[0]["slope"] * X, 0.5).log_prob(Y)).sum()
    assert posterior.log_weights[0] == pytest.approx(expected, rel=1e-5)
    error = PRECISION**-0.5 / np.sqrt(posterior.effective_sample_size)
    assert posterior.map("slope").mean == pytest.approx(SLOPE, abs=4 * error)


def test_numpyros_handlers_around_its_model():
    conditioned = numpyro.handlers.condition(numpyro_gum, data=GUM_DATA)
    posterior = ppl.importance_sampling(conditioned, num_traces=50, seed=1, backend="host", **QUIET)
    plain = ppl.importance_sampling(numpyro_gum, GUM_DATA, 50, seed=1, backend="host", **QUIET)
    assert np.array_equal(posterior.log_weights, plain.log_weights)
    fixed = ppl.prior(numpyro.handlers.substitute(numpyro_gum, data={"mu": 3.0}), 5, seed=1, backend="host", **QUIET)
    assert {trace["mu"] for trace in fixed} == {3.0}
    scoped = ppl.prior(numpyro.handlers.scope(numpyro_gum, prefix="a"), 1, seed=1, backend="host", **QUIET)
    assert scoped[0].names == ["a/mu", "a/obs0", "a/obs1", "a/twice"]


def test_our_handlers_around_numpyros_model():
    trace = handlers.trace(handlers.seed(handlers.condition(numpyro_gum, data={"mu": 2.0}), seed=1)).get_trace()
    assert trace["mu"] == 2.0 and trace.sites[0].observed and trace["twice"] == 4.0
    assert handlers.seed(numpyro_gum, seed=1)() == handlers.seed(numpyro_gum, seed=1)()
    prior = ppl.prior(numpyro_gum, 1, seed=1, backend="host", **QUIET)
    assert handlers.seed(numpyro_gum, seed=1)() == prior[0].result


def test_both_languages_in_one_model():
    def model():
        a = numpyro.sample("a", npd.Normal(0.0, 1.0))
        numpyro.factor("penalty", -0.5 * a)
        return ppl.sample(dist.Normal(float(a), 1.0), name="b")

    trace = ppl.prior(model, 1, seed=1, **QUIET)[0]
    assert [(site.kind, site.name) for site in trace.sites] == [("sample", "a"), ("factor", "penalty"), ("sample", "b")]
    assert trace.log_joint == pytest.approx(trace.log_prob - 0.5 * trace["a"], rel=1e-6)


def test_families_that_we_do_not_have():
    def model():
        x = numpyro.sample("x", npd.SoftLaplace(0.0, 1.0))
        w = numpyro.sample("w", npd.DirichletMultinomial(jnp.ones(3), 5))
        numpyro.sample("y", npd.AsymmetricLaplace(x, 1.0, 1.0), obs=0.5)
        return w

    posterior = ppl.importance_sampling(model, num_traces=20, seed=1, backend="host", **QUIET)
    trace = posterior[3]
    assert trace["w"].shape == (3,) and trace["w"].sum() == 5
    assert trace.log_importance_weight == pytest.approx(-abs(0.5 - trace["x"]) - np.log(2.0), rel=1e-5)
    assert trace.sites[0].distribution.family.startswith("numpyro.SoftLaplace")


def test_conversion_of_distributions():
    def model():
        for name, twin in TWINS.items():
            numpyro.sample(name, twin)

    trace = ppl.prior(model, 1, seed=1, backend="host", **QUIET)[0]
    found = {site.name: site.distribution for site in trace.sites}
    assert found == {
        "n": dist.Normal(np.zeros(4), 1.0),
        "t": dist.TruncatedNormal(0.0, 1.0, -1.0, 2.0),
        "k": dist.Categorical(np.full(2, 0.5)),
        "m": dist.MultivariateNormal(np.zeros(2), np.eye(2)),
        "d": dist.Delta(3.0),
    }


TWINS = {
    "n": npd.Normal(0.0, 1.0).expand([4]).to_event(1),
    "t": npd.TruncatedNormal(0.0, 1.0, low=-1.0, high=2.0),
    "k": npd.CategoricalLogits(jnp.zeros(2)),
    "m": npd.MultivariateNormal(jnp.zeros(2), jnp.eye(2)),
    "d": npd.Delta(3.0),
}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: numpyro.param("p", 1.0), "'p'.*'param'"),
        (lambda: _subsampled(), "'plate'.*subsamples"),
        (lambda: _scaled(), "'x'.*scale"),
        (lambda: _masked(), "'x'.*mask"),
        (lambda: numpyro.sample("x", npd.TransformedDistribution(npd.Normal(0, 1), npd.transforms.ExpTransform())),
         "TransformedDistribution"),
    ],
    ids=["param", "subsample", "scale", "mask", "transform"],
)  # fmt: skip
def test_what_a_trace_cannot_express(model, message):
    with pytest.raises(ppl.PPLError, match=message):
        ppl.prior(from_numpyro(model), 1, backend="host", **QUIET)


def _subsampled():
    with numpyro.plate("plate", 10, subsample_size=2):
        numpyro.sample("x", npd.Normal(0.0, 1.0))


def _scaled():
    with numpyro.handlers.scale(scale=2.0):
        numpyro.sample("x", npd.Normal(0.0, 1.0))


def _masked():
    with numpyro.handlers.mask(mask=False):
        numpyro.sample("x", npd.Normal(0.0, 1.0))


def test_what_is_recognised():
    class Callable:
        def __call__(self):
            return numpyro_gum()

        def method(self):
            return numpyro.sample("x", npd.Normal(0.0, 1.0))

    def around():
        return numpyro_gum()

    for model in (numpyro_gum, around, Callable(), Callable().method, partial(regression, X),
                  numpyro.handlers.seed(numpyro_gum, 0), lambda: numpyro_gum()):  # fmt: skip
        assert isinstance(adapt(model), NumpyroModel)
    assert adapt(gum) is gum and adapt(adapt(numpyro_gum)) is not None
    assert isinstance(handlers.condition(numpyro_gum, data={}).model, NumpyroModel)
    assert repr(from_numpyro(gum)).startswith("from_numpyro(<function gum")


def test_threads_take_turns_with_numpyros_models():
    alone = [ppl.prior(numpyro_gum, 60, seed=seed, backend="host", **QUIET).map("mu").values for seed in (1, 2)]
    together: dict[int, np.ndarray] = {}

    def work(seed):
        together[seed] = ppl.prior(numpyro_gum, 60, seed=seed, backend="host", **QUIET).map("mu").values

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(together[1], alone[0]) and np.array_equal(together[2], alone[1])


# -- our models under numpyro ------------------------------------------------------------------------------------------


def nuts_samples(model):
    sampler = MCMC(NUTS(model), num_warmup=300, num_samples=3000, progress_bar=False)
    sampler.run(jax.random.key(0))
    return sampler.get_samples()


CONDITIONED = {
    "numpyro's condition": numpyro.handlers.condition(gum, data=GUM_DATA),
    "our condition": handlers.condition(gum, data=GUM_DATA),
}


@pytest.mark.parametrize("model", CONDITIONED.values(), ids=CONDITIONED.keys())
def test_numpyros_nuts(model):
    mu = np.asarray(nuts_samples(model)["mu"])
    assert mu.mean() == pytest.approx(GUM_MEAN, abs=4 * GUM_STDDEV / np.sqrt(300))  # one in ten is independent
    assert mu.std() == pytest.approx(GUM_STDDEV, abs=4 * GUM_STDDEV / np.sqrt(600))


def test_bounded_likelihoods_under_numpyros_nuts():
    """x uniform on (0, 10), four data uniform on (0, x), the largest 3: density x^-4 above 3, with mean 4.41."""

    def model():
        x = ppl.sample(dist.Uniform(0.0, 10.0), name="x")
        for value in (0.5, 3.0, 1.0, 2.0):
            ppl.observe(dist.Uniform(0.0, x), value)

    x = np.asarray(nuts_samples(model)["x"])
    mass = (3.0**-3 - 10.0**-3) / 3.0
    mean, second = (3.0**-2 - 10.0**-2) / 2.0 / mass, (3.0**-1 - 10.0**-1) / mass
    assert x.min() >= 3.0
    assert x.mean() == pytest.approx(mean, abs=4 * np.sqrt((second - mean**2) / 300))


def test_numpyros_predictive():
    prior = Predictive(gum, num_samples=2000)(jax.random.key(1))
    assert set(prior) == {"mu", "obs0", "obs1"}
    assert prior["obs0"].std() == pytest.approx(np.sqrt(7.0), abs=4 * np.sqrt(7.0 / 4000))
    given = Predictive(gum, posterior_samples={"mu": jnp.full(500, 7.0)})(jax.random.key(1))
    assert given["obs1"].mean() == pytest.approx(7.0, abs=4 * np.sqrt(2.0 / 500))


def test_every_kind_of_site_under_numpyros_trace():
    def model():
        x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
        for _ in range(2):
            ppl.sample(dist.Normal(x, 1.0))
        ppl.observe(dist.Poisson(jnp.exp(x)), 3, name="y")
        ppl.factor(-0.5, name="f")
        ppl.tag(2.0 * x, name="t")
        ppl.tag("a string", name="text")
        return x

    trace = numpyro.handlers.trace(numpyro.handlers.seed(model, 0)).get_trace()
    names = list(trace)
    assert names[0] == "x" and names[3:] == ["y", "f", "t"]
    assert names[1].startswith("test_numpyro_bridge:") and names[2] == names[1] + "_2"
    assert trace["y"]["is_observed"] and trace["y"]["value"] == 3
    assert trace["t"]["value"] == 2.0 * trace["x"]["value"]
    log_density, _ = numpyro.infer.util.log_density(model, (), {}, {"x": 0.3, names[1]: 0.1, names[2]: 0.2})
    expected = sum([
        dist.Normal(0.0, 1.0).log_prob(0.3), dist.Normal(0.3, 1.0).log_prob(0.1), dist.Normal(0.3, 1.0).log_prob(0.2),
        dist.Poisson(np.exp(0.3)).log_prob(3), -0.5,
    ])  # fmt: skip
    assert log_density == pytest.approx(expected, rel=1e-5)


def test_numpyros_handlers_around_ours():
    seeded = numpyro.handlers.seed(gum, 0)
    assert seeded() == numpyro.handlers.seed(gum, 0)()
    assert numpyro.handlers.seed(numpyro.handlers.substitute(gum, data={"mu": 3.0}), 0)() == 3.0
    blocked = numpyro.handlers.block(seeded, hide=["mu"])
    assert list(numpyro.handlers.trace(blocked).get_trace()) == ["obs0", "obs1"]


def numpyro_trace(model):
    return numpyro.handlers.trace(numpyro.handlers.seed(model, 0)).get_trace()


def test_numpyros_replay_knows_our_names():
    """Variational inference: the model is replayed against the guide's trace, name by name."""

    def guide():
        loc, scale = numpyro.param("loc", 7.0), numpyro.param("scale", 1.0, constraint=npd.constraints.positive)
        numpyro.sample("mu", npd.Normal(loc, scale))

    model = handlers.condition(gum, data=GUM_DATA)
    inference = numpyro.infer.SVI(model, guide, numpyro.optim.Adam(0.02), numpyro.infer.Trace_ELBO(num_particles=10))
    found = inference.run(jax.random.key(0), 1500, progress_bar=False).params
    # The optimum is the exact posterior; the last steps wander by a few step lengths of 0.02.
    assert found["loc"] == pytest.approx(GUM_MEAN, abs=0.15)
    assert found["scale"] == pytest.approx(GUM_STDDEV, abs=0.15)


def test_our_handlers_inside_numpyros():
    conditioned = numpyro_trace(handlers.condition(gum, data={"mu": 2.0, "obs0": 8.0}))
    assert conditioned["mu"]["is_observed"] and conditioned["mu"]["value"] == 2.0
    assert conditioned["obs0"]["is_observed"] and not conditioned["obs1"]["is_observed"]
    substituted = numpyro_trace(handlers.substitute(gum, data={"mu": 2.0}))
    assert substituted["mu"]["value"] == 2.0 and not substituted["mu"]["is_observed"]
    blocked = numpyro_trace(handlers.block(gum, hide=["mu"]))
    assert list(blocked) == ["obs0", "obs1"]
    again = numpyro_trace(handlers.block(gum, hide=["mu"]))
    assert again["obs0"]["value"] == blocked["obs0"]["value"]  # hidden draws come from numpyro's key
    seeded = numpyro_trace(handlers.seed(gum, seed=5))
    assert float(seeded["mu"]["value"]) == pytest.approx(handlers.seed(gum, seed=5)(), rel=1e-6)
    with numpyro.handlers.seed(rng_seed=0), handlers.trace() as recorder:
        mu = gum()
    assert recorder.trace["mu"] == mu


def test_our_engine_inside_a_numpyro_model_is_its_own():
    def model():
        inner = ppl.importance_sampling(gum, GUM_DATA, 100, seed=1, backend="host", **QUIET)
        return numpyro.sample("x", npd.Normal(inner.map("mu").mean, 1.0))

    assert list(numpyro_trace(model)) == ["x"]


# -- masks -------------------------------------------------------------------------------------------------------------

MASK = np.array([True, False, True, False])


def masked_betas():
    """Padded by what no beta gives, NaN among it."""
    a, b = numpyro.sample("a", npd.HalfNormal(1.0)), numpyro.sample("b", npd.HalfNormal(1.0))
    with numpyro.plate("n", 4), numpyro.handlers.mask(mask=MASK):
        numpyro.sample("y", npd.Beta(a, b), obs=jnp.array([0.3, -1.0, 0.8, jnp.nan]))


def betas():
    a, b = ppl.sample(dist.HalfNormal(1.0), name="a"), ppl.sample(dist.HalfNormal(1.0), name="b")
    ppl.observe(dist.Beta(a, b), 0.3)
    ppl.observe(dist.Beta(a, b), 0.8)


def test_what_is_masked_is_neither_weighed_nor_looked_at():
    """Sources of NaN in gradients where a mask only multiplies by zero."""
    exact = ppl.importance_sampling(betas, {}, 20_000, seed=1, progress=False)
    masked = ppl.importance_sampling(masked_betas, {}, 400, seed=2, progress=False)
    error = math.hypot(exact.log_evidence_error, masked.log_evidence_error)
    assert abs(masked.log_evidence - exact.log_evidence) < 4 * error
    chain = ppl.nuts(masked_betas, {}, 600, num_chains=2, burn_in=200, seed=3, progress=False)
    for name in "ab":
        one, other = chain.map(name), exact.map(name)
        assert abs(one.mean - other.mean) < 4 * math.hypot(one.standard_error, other.standard_error)
    assert chain[0]["y"].tolist() == pytest.approx([0.3, 0.8])


def test_a_mask_of_everything_leaves_the_prior():
    def model():
        x = numpyro.sample("x", npd.Normal(0.0, 1.0))
        with numpyro.handlers.mask(mask=jnp.zeros(3, bool)):
            numpyro.sample("y", npd.Bernoulli(logits=1e3 * x), obs=jnp.array([1.0, 0.0, 1.0]))

    assert ppl.importance_sampling(model, {}, 50, seed=1, progress=False).effective_sample_size == pytest.approx(50)


def test_masks_that_cannot_be_expressed():
    def random_mask():
        x = numpyro.sample("x", npd.Normal(0.0, 1.0))
        with numpyro.handlers.mask(mask=x > 0):
            numpyro.sample("y", npd.Normal(x, 1.0), obs=1.0)

    def latent():
        with numpyro.handlers.mask(mask=False):
            numpyro.sample("x", npd.Normal(0.0, 1.0))

    with pytest.raises(ppl.UntraceableModelError, match="'y': a mask that depends on random values"):
        ppl.nuts(random_mask, {}, 10, seed=0, progress=False)
    with pytest.raises(ppl.PPLError, match="'x': a masked draw"):
        ppl.prior(latent, 10, seed=0, progress=False)
