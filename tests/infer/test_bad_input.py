"""Every mistake of a user that an engine can meet: the error names the site, says what to do, keeps finished work."""

import math
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from programs import GUM_DATA, gum

import ppl_jax as ppl
import ppl_jax.distributions as dist

ENGINES = {
    "importance_sampling": lambda model, data: ppl.importance_sampling(
        model, data, 200, seed=1, backend="host", progress=False
    ),
    "workers": lambda model, data: ppl.importance_sampling(
        model, data, 3000, seed=1, backend="host", num_workers=2, progress=False
    ),
    "metropolis_hastings": lambda model, data: ppl.metropolis_hastings(
        model, data, 200, burn_in=0, seed=2, progress=False
    ),
    "smc": lambda model, data: ppl.smc(model, data, 100, seed=1, progress=False),
}
every_engine = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES.keys())


@every_engine
@pytest.mark.filterwarnings("ignore:No site named 'obs_0'")
def test_unknown_observation(engine):
    with pytest.raises(ppl.UnknownObservationError, match=r"'obs_0' \(did you mean 'obs0'\?\)") as caught:
        engine(gum_with_values, {"obs_0": 1.0})
    assert len(caught.value.finished) > 0
    assert caught.value.known == ["mu", "obs0"]


def gum_with_values():
    mu = ppl.sample(dist.Normal(0.0, 1.0), name="mu")
    ppl.observe(dist.Normal(mu, 1.0), 0.0, name="obs0")


def test_a_misspelled_name_is_warned_of_early():
    with (
        pytest.warns(UserWarning, match="No site named 'obs_0' was met in the first 100 traces"),
        pytest.raises(ppl.UnknownObservationError),
    ):
        ENGINES["importance_sampling"](gum_with_values, {"obs_0": 1.0})


@every_engine
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"obs0": 8.0}, r"observe site 'obs1' at programs:gum:3:4 .*no value was given.*observations=\{'obs1'"),
        ({"obs0": math.nan, "obs1": 9.0}, "'obs0'.*NaN"),
        ({"obs0": [8.0, 9.0], "obs1": 9.0}, r"'obs0'.*shape \(2,\).*shape \(\)"),
    ],
)
def test_observations_that_do_not_fit(engine, data, message):
    with pytest.raises(ppl.ObservationError, match=message):
        engine(gum, data)


@every_engine
def test_observations_that_are_not_numbers(engine):
    with pytest.raises(ValueError, match="'obs0'"):
        engine(gum, {"obs0": "eight", "obs1": 9.0})


@every_engine
def test_observations_that_are_no_mapping(engine):
    with pytest.raises(TypeError, match="map names to values"):
        engine(gum, [8.0, 9.0])


@every_engine
def test_all_weights_zero_names_the_site(engine):
    def model():
        x = ppl.sample(dist.Uniform(0.0, 1.0), name="x")
        ppl.observe(dist.Uniform(x, x + 1.0), name="y")

    with pytest.raises(ppl.DegenerateWeightsError, match=r"'y'.*5\.0"):
        engine(model, {"y": 5.0})


def test_out_of_support_observations_score_minus_infinity():
    def model():
        x = ppl.sample(dist.Uniform(0.0, 1.0), name="x")
        ppl.observe(dist.Uniform(0.0, x), 0.5)

    posterior = ppl.importance_sampling(model, num_traces=500, seed=1, backend="host", progress=False)
    x = np.asarray(posterior.map("x").values)
    assert np.array_equal(posterior.log_weights == -np.inf, x < 0.5)


@every_engine
def test_a_parameter_out_of_bounds_names_family_parameter_and_line(engine):
    def model():
        x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
        ppl.observe(dist.Normal(0.0, min(x, 0.0)), 1.0, name="y")

    with pytest.raises(ppl.ParameterError, match=r"Normal: parameter 'scale'.*test_bad_input\.py, line \d+.*'x'"):
        engine(model, {})


@every_engine
def test_a_model_that_raises_names_its_place_and_keeps_finished_traces(engine):
    def model():
        x = ppl.sample(dist.Uniform(0.0, 1.0), name="x")
        if x > 0.95:
            raise ZeroDivisionError("boom")
        ppl.observe(dist.Normal(x, 1.0), 0.0, name="y")
        return x

    with pytest.raises(ppl.ModelError, match=r"ZeroDivisionError: boom \(test_bad_input.py, line .*'x'") as caught:
        engine(model, {})
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    finished = caught.value.finished
    assert len(finished) > 0
    assert all(trace["x"] <= 0.95 for trace in finished)


def test_the_error_of_a_model_tells_how_to_reproduce_it():
    def model():
        if ppl.sample(dist.Uniform(0.0, 1.0)) > 0.95:
            raise ValueError("rare")

    with pytest.raises(ppl.ModelError, match=r"execution (\d+) of seed 5") as caught:
        ppl.prior(model, 1000, seed=5, progress=False)
    index = int(str(caught.value).split("execution ")[1].split(" ")[0])
    assert len(caught.value.finished) == index
    with pytest.raises(ValueError, match="rare"):
        ppl.handlers.seed(model, seed=5, index=index)()


def test_a_model_without_latents_under_metropolis_hastings():
    with pytest.raises(ppl.NoLatentsError, match="no controlled latent"):
        ppl.metropolis_hastings(lambda: ppl.observe(dist.Normal(0.0, 1.0), 1.0), num_traces=10, progress=False)


def test_an_infinite_density_names_the_site():
    def model():
        x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
        ppl.observe(dist.Gamma(0.5, 1.0), 0.0, name="at_zero")
        return x

    with pytest.raises(ppl.DegenerateWeightsError, match="'at_zero'"):
        ppl.importance_sampling(model, num_traces=10, seed=1, progress=False)


def test_counts_seeds_and_backends_are_checked():
    with pytest.raises(ValueError, match="num_traces"):
        ppl.prior(gum, 0)
    with pytest.raises(ValueError, match="num_workers"):
        ppl.prior(gum, 10, num_workers=0)
    with pytest.raises(ValueError, match="seed"):
        ppl.prior(gum, 10, seed=-1)
    with pytest.raises(ValueError, match="backend"):
        ppl.prior(gum, 10, backend="gpu")
    with pytest.raises(TypeError, match="callable"):
        ppl.prior(gum(), 10)
    with pytest.raises(ValueError, match="burn_in"):
        ppl.metropolis_hastings(gum, GUM_DATA, 10, burn_in=-1)
    with pytest.raises(ValueError, match="ess_threshold"):
        ppl.smc(gum, GUM_DATA, 10, ess_threshold=2.0)
    with pytest.raises(ValueError, match="likelihood_importance"):
        ppl.importance_sampling(gum, GUM_DATA, 10, likelihood_importance=math.nan)


def test_a_worker_that_is_killed():
    def model():
        x = ppl.sample(dist.Uniform(0.0, 1.0), name="x")
        if x > 0.999 and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    parent = os.getpid()
    with pytest.raises(ppl.PPLError, match="by signal 9"):
        ppl.prior(model, 20_000, num_workers=2, seed=1, backend="host", progress=False)


def test_results_that_cannot_travel_between_workers():
    with pytest.raises(ppl.StorageError, match="num_workers=1"):
        ppl.prior(lambda: object(), 3000, num_workers=2, backend="host", progress=False)


@pytest.mark.parametrize("engine", ["prior", "metropolis_hastings"])
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_returns_what_was_finished(engine, workers, tmp_path):
    """A real process, really interrupted in the middle of a run that would take many minutes."""
    arguments = {
        "prior": f"num_traces=100_000_000, backend='host', num_workers={workers}",
        "metropolis_hastings": f"num_traces=4_000_000, num_chains=1, burn_in=10, num_workers={workers}",
    }[engine]
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(f"""
        import os, signal, threading, time, warnings
        import ppl_jax as ppl, ppl_jax.distributions as dist

        def model():
            x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
            ppl.observe(dist.Normal(x, 1.0), 1.0)

        if __name__ == "__main__":
            threading.Timer(2.5, os.kill, (os.getpid(), signal.SIGINT)).start()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                posterior = ppl.{engine}(model, {arguments}, seed=1, path={str(tmp_path / "traces")!r}, progress=False)
            print(len(posterior), posterior.map("x").mean)
            print([str(w.message) for w in caught if w.category is ppl.InterruptedRunWarning])
        """)
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    count = int(done.stdout.split()[0])
    assert count > 1000
    assert f"returning the {count} traces that were finished" in done.stdout
