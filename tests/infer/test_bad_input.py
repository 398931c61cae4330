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
        pytest.warns(UserWarning, match="No site named 'obs_0' was met in the first 100 traces") as warned,
        pytest.raises(ppl.UnknownObservationError),
    ):
        ENGINES["importance_sampling"](gum_with_values, {"obs_0": 1.0})
    assert warned[0].filename == __file__  # it points at the user's line


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


def test_errors_inside_libraries_are_placed_where_the_model_called_them():
    def model():
        x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
        return np.linalg.cholesky(np.full((2, 2), -abs(x)))

    with pytest.raises(ppl.ModelError, match=r"LinAlgError: .*\(test_bad_input.py, line \d+, in .*model, after"):
        ppl.prior(model, 1, seed=1, progress=False)


def test_an_endless_recursion_has_a_readable_error():
    def endless(depth):
        return ppl.sample(dist.Normal(0.0, 1.0)) + endless(depth + 1)

    with pytest.raises(ppl.ModelError, match=r"RecursionError.*test_bad_input.py, line .*calls more") as caught:
        ppl.prior(lambda: endless(0), 1, seed=1, progress=False)
    assert len(str(caught.value)) < 1500


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


@pytest.mark.parametrize("value", [math.inf, math.nan, [0.0, 1.0]])
def test_factors_that_are_none(value):
    with pytest.raises(ppl.ParameterError, match=r"'log_factor' must be .*factor site 'bad'.*test_bad_input.py, line"):
        ppl.importance_sampling(lambda: ppl.factor(value, name="bad"), num_traces=5, progress=False)


def test_models_that_do_nothing_when_called():
    def generator():
        yield ppl.sample(dist.Normal(0.0, 1.0))

    async def coroutine():
        return ppl.sample(dist.Normal(0.0, 1.0))

    for model in (generator, coroutine):
        with pytest.raises(TypeError, match=r"coroutine or generator function.*list\(model\(\)\)"):
            ppl.prior(model, 5, progress=False)
    assert len(ppl.prior(lambda: list(generator()), 5, progress=False)[0].latents) == 1


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
    with pytest.raises(TypeError, match=r"has \(x, scale=1\.0\) \(missing .*'x'\).*functools.partial"):
        ppl.prior(lambda x, scale=1.0: ppl.sample(dist.Normal(x, scale)), 10)
    with pytest.raises(ValueError, match="burn_in"):
        ppl.metropolis_hastings(gum, GUM_DATA, 10, burn_in=-1)
    with pytest.raises(ValueError, match="likelihood_importance"):
        ppl.metropolis_hastings(gum, GUM_DATA, 10, likelihood_importance=-1.0)
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


CTRL_C = {
    "prior": "prior(model, 100_000_000, backend='host', num_workers=1",
    "prior, two workers": "prior(model, 100_000_000, backend='host', num_workers=2",
    "prior, slow, two workers": "prior(slow, 100_000, backend='host', num_workers=2",
    "importance_sampling, jax": "importance_sampling(model, None, 10_000_000_000, backend='jax'",
    "metropolis_hastings": "metropolis_hastings(model, None, 4_000_000, burn_in=10",
    "metropolis_hastings, two workers": "metropolis_hastings(model, None, 4_000_000, num_chains=2, num_workers=2",
}  # fmt: skip


QUICK = {
    ("prior", "in memory"),
    ("prior, slow, two workers", "on disk"),
    ("metropolis_hastings, two workers", "in memory"),
}


@pytest.mark.parametrize(
    ("run", "where"),
    [
        pytest.param(run, where, id=f"{name}, {where}", marks=[] if (name, where) in QUICK else pytest.mark.slow)
        for name, run in CTRL_C.items()
        for where in ("in memory", "on disk")
    ],
)
def test_ctrl_c_returns_what_was_finished(run, where, tmp_path):
    """A real process, really interrupted in the middle of a run that would take many minutes.

    The clock starts with the run: on the device only when the first block is done, for before that it compiles.
    """
    begin = "advance_weighted" if "jax" in run else "__enter__"
    path = str(tmp_path / "traces") if where == "on disk" else None
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(f"""
        import os, signal, threading, time, warnings
        import ppl_jax as ppl, ppl_jax.distributions as dist
        from ppl_jax.running.progress import Progress

        def model():
            x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
            ppl.observe(dist.Normal(x, 1.0), 1.0)

        signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background has it ignored
        timers = [threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT))]
        begin = Progress.{begin}

        def begun(*arguments):
            while timers:
                timers.pop().start()
            return begin(*arguments)

        Progress.{begin} = begun

        def slow():  # one block of a worker would take half a minute
            time.sleep(0.03)
            model()

        if __name__ == "__main__":
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                posterior = ppl.{run}, seed=1, path={path!r}, progress=False)
            print(len(posterior), posterior.map("x").mean)
            print([str(w.message) for w in caught if w.category is ppl.InterruptedRunWarning])
        """)
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    count, mean = done.stdout.split()[:2]
    assert int(count) > (20 if "slow" in run else 1000)
    assert math.isfinite(float(mean))
    assert f"returning the {count} traces that were finished" in done.stdout


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_wait_for_workers(tmp_path):
    """Workers stuck where no signal reaches them: what they had sent before is returned all the same."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        import os, signal, sys, threading, time
        import ppl_jax as ppl, ppl_jax.distributions as dist

        calls = []

        def model():
            calls.append(ppl.sample(dist.Normal(0.0, 1.0), name="x"))
            if len(calls) > 3000:
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
                open(os.path.join(sys.argv[1], str(os.getpid())), "w").close()
                time.sleep(1000)

        def press():
            while len(os.listdir(sys.argv[1])) < 2:
                time.sleep(0.05)
            for _ in range(2):
                time.sleep(1.5)
                os.kill(os.getpid(), signal.SIGINT)

        if __name__ == "__main__":
            ppl.prior(lambda: None, 10, progress=False)
            threading.Thread(target=press, daemon=True).start()
            posterior = ppl.prior(model, 1_000_000, seed=1, backend="host", num_workers=2, progress=False)
            print(len(posterior))
        """)
    )
    stuck = tmp_path / "stuck"
    stuck.mkdir()
    done = subprocess.run([sys.executable, program, stuck], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    # The first, made before there are workers, and the whole blocks of each, which are smaller on a slow machine.
    assert 1 + 4 * 1024 <= int(done.stdout) <= 1 + 2 * 3000


def test_strings_travel_between_workers():
    def model():
        x = ppl.sample(dist.Normal(0.0, 1.0), name="x")
        return "above" if x > 0.0 else "below", 2**70

    alone, shared = (
        ppl.prior(model, 2500, num_workers=number, seed=1, backend="host", progress=False) for number in (1, 2)
    )
    assert [trace.result for trace in alone] == [trace.result for trace in shared]
