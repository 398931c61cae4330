"""Training: it learns, resumes bit for bit, survives what is not finite, and says what is wrong with its input."""

import math
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import optax
import programs
import pytest
from nn.small_network import SMALL, gum_network

import ppl_jax as ppl
import ppl_jax.distributions as dist
from ppl_jax.data import ShardWriter, frames, new_dataset
from ppl_jax.errors import NetworkError, TrainingError
from ppl_jax.nn.network import packing_of
from ppl_jax.nn.optimisers import rates
from ppl_jax.training import resuming
from ppl_jax.training.checkpoints import Checkpoints
from ppl_jax.training.sources import TableSource, source_of
from ppl_jax.training.trainer import Settings, Trainer, prepare

CORE = SMALL["core"]


def trainer_of(model, num_traces=640, network=None, **settings):
    given = Settings(num_traces, 64, 0, learning_rate=1e-2, **settings)
    return prepare(
        model, given, observe_embeddings=None, core=CORE, mixture_components=3, prior_share=0.02, validation_traces=64,
        network=network, num_workers=1, backend="host",
    )  # fmt: skip


def same(first, second):
    assert first.config == second.config
    np.testing.assert_equal(first.history, second.history)
    np.testing.assert_array_equal(first.visits, second.visits)
    np.testing.assert_equal(first.ranges, second.ranges)
    for name, table in first.params.items():
        np.testing.assert_equal(second.params[name], table)


def test_the_loss_approaches_the_information_of_the_data():
    network = gum_network()
    # Two observations of variance 2 of a mean of variance 5: half the log of 6 nats.
    information = 0.5 * math.log(6.0)
    held_out = [row[2] for row in network.history if not math.isnan(row[2])]
    # Validation on 1,000 traces; the density ratio's standard deviation is below 1.5: an error of 0.05, and some more
    # for a network this small.
    assert -information - 0.15 < held_out[-1] < -information + 0.2
    assert len(network.history) == 250
    assert network.visits[1] == 16_000


def at(offset):
    """GUM whose data stand far from zero beside their spread, as times of a clock do."""

    def model():
        mu = ppl.sample(dist.Normal(1.0, math.sqrt(5.0)), name="mu", address="mu")
        for name in ("obs0", "obs1"):
            ppl.observe(dist.Normal(offset + mu, math.sqrt(2.0)), name=name, address=name)

    return model


def test_data_far_from_zero_teach_as_much():
    near, far = (ppl.train(at(offset), 1280, seed=1, validation_traces=64, **SMALL) for offset in (0.0, 1.6e9))
    # Doubles resolve 2e-7 at the offset; single precision would resolve 128, and nothing would be learned.
    np.testing.assert_allclose([row[1] for row in far.history], [row[1] for row in near.history], atol=1e-3)
    for data in ({"obs0": 8.0, "obs1": 9.0}, {"obs0": -3.0, "obs1": 0.5}):
        shown = [{name: value + offset for name, value in data.items()} for offset in (0.0, 1.6e9)]
        standardised = [network.standardised(given)[0] for network, given in zip((near, far), shown, strict=True)]
        for name in data:
            np.testing.assert_allclose(standardised[1][name], standardised[0][name], atol=1e-5)


def test_a_training_is_reproducible_and_depends_on_its_seed():
    first, again, other = (ppl.train(programs.gum, 320, seed=seed, validation_traces=0, **SMALL) for seed in (1, 1, 2))
    same(first, again)
    assert first.history != other.history


@pytest.mark.parametrize("model", [programs.gum, pytest.param(programs.gum_marsaglia, marks=pytest.mark.slow)])
def test_a_training_resumes_bit_for_bit(tmp_path, monkeypatch, model):
    whole = ppl.train(model, 1280, seed=3, patience=50, **SMALL)
    advance, calls = Trainer.advance, []

    def interrupted(self, table):
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return advance(self, table)

    kept = {**SMALL, "seed": 3, "patience": 50, "checkpoint": tmp_path / "kept", "checkpoint_every": 5}
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "advance", interrupted)
        with pytest.warns(ppl.InterruptedRunWarning, match="trained for 11 steps"):
            ppl.train(model, 1280, **kept)
    same(whole, ppl.train(model, 1280, **kept))
    for changed, message in (
        ({"batch_size": 32}, "batch_size = 64, not 32"),
        ({"optimizer": "adam-larc"}, "optimizer = 'adam', not 'adam-larc'"),
        ({"learning_rate": 0.1}, "learning_rate = 0.01, not 0.1"),
    ):
        with pytest.raises(NetworkError, match=message):
            ppl.train(model, 1280, **{**kept, **changed})


def test_a_damaged_checkpoint_is_told(tmp_path):
    ppl.train(programs.gum, 128, seed=0, checkpoint=tmp_path / "kept", **SMALL)
    for file in (tmp_path / "kept").rglob("*"):
        if file.is_file() and "description" in str(file):
            file.write_bytes(b"{")
    with pytest.raises(ppl.StorageError, match=r"checkpoint of step 2 at .* cannot be read"):
        ppl.train(programs.gum, 128, seed=0, checkpoint=tmp_path / "kept", **SMALL)


def test_a_checkpoint_of_another_version_is_told(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(resuming, "FORMAT", 1)
        ppl.train(programs.gum, 128, seed=0, checkpoint=tmp_path / "kept", **SMALL)
    with pytest.raises(NetworkError, match="has the format 1, but 2 was expected"):
        ppl.train(programs.gum, 128, seed=0, checkpoint=tmp_path / "kept", **SMALL)


def test_a_model_that_raises_loses_no_step(tmp_path):
    def model():
        if len(calls) == 64 * 7 + 2:  # two calls are to see whether the model is the same twice
            raise KeyError("a bug of the user's")
        calls.append(1)
        return programs.gum()

    calls = []
    kept = {**SMALL, "seed": 0, "validation_traces": 0, "checkpoint": tmp_path / "kept"}
    with pytest.raises(ppl.ModelError, match="a bug of the user's"):
        ppl.train(model, 640, **kept)
    assert Checkpoints(tmp_path / "kept").last_step == 6  # one minibatch is simulated for a first look


def test_a_schedule_that_raises_loses_no_step(tmp_path):
    def schedule(step):
        if step == 4:
            raise KeyError("a bug of the user's")
        return 1e-2

    kept = {**SMALL, "seed": 0, "validation_traces": 0, "checkpoint": tmp_path / "kept", "learning_rate": schedule}
    with pytest.raises(KeyError, match="a bug of the user's"):
        ppl.train(programs.gum, 640, **kept)
    assert Checkpoints(tmp_path / "kept").last_step == 4


def test_stored_traces_train_as_well_as_fresh_ones():
    traces = ppl.prior(programs.gum, 2000, seed=4, progress=False)
    network = ppl.train(traces, 12_800, seed=0, **SMALL)
    assert np.mean([row[1] for row in network.history[-20:]]) < -0.6
    # Every trace that is not held out is met equally often, give or take one round.
    assert network.visits[1] == 12_800


def test_a_dataset_trains_as_its_traces_in_memory(tmp_path):
    dataset = ppl.save_dataset(programs.gum, tmp_path / "gum", num_traces=500, seed=4, progress=False)
    stored = ppl.train(ppl.open_dataset(tmp_path / "gum"), 640, seed=0, **SMALL)
    same(stored, ppl.train(dataset[:], 640, seed=0, **SMALL))


def test_stored_traces_are_met_once_a_round():
    table = ppl.prior(programs.gum, 100, seed=4, progress=False).values
    source = TableSource(table, seed=1)
    met = [trace["mu"] for part in source.tables(16, 0, 13, 200) for trace in part]
    assert sorted(met) == sorted(2 * [trace["mu"] for trace in table])
    assert met[:100] != met[100:]
    late = [trace["mu"] for part in source.tables(16, 9, 13, 200) for trace in part]
    assert late == met[9 * 16 :]


def test_workers_do_not_change_the_result():
    one, two = (ppl.train(programs.gum, 320, seed=1, validation_traces=0, num_workers=k, **SMALL) for k in (1, 2))
    same(one, two)


def test_jax_may_run_the_model():
    network = ppl.train(programs.gum, 640, seed=1, backend="jax", **SMALL)
    assert network.history[-1][1] < network.history[0][1]


def test_a_network_can_be_trained_further():
    first = ppl.train(programs.gum, 640, seed=1, **SMALL)
    more = ppl.train(programs.gum, 640, network=first, seed=2, **{**SMALL, "core": "lstm"})
    assert more.config == first.config
    assert more.visits[1] == 1280
    assert len(more.history) == 20


def test_a_mixed_minibatch_has_the_mean_loss_of_its_traces():
    trainer = trainer_of(programs.gum_marsaglia)
    table = ppl.prior(programs.gum_marsaglia, 64, seed=9, progress=False).values
    table = table[np.isin(table.kinds, np.unique(table.kinds)[:3])]
    _, evaluate = trainer._functions()

    def loss_of(part):
        batch = trainer._batch(*trainer.encoder.encode(part))
        return float(evaluate(trainer.state.params, batch))

    by_type = [table[table.kinds == kind] for kind in np.unique(table.kinds)]
    assert len(by_type) == 3
    apart = sum(len(part) * loss_of(part) for part in by_type) / len(table)
    # The same terms summed in another order, in single precision.
    assert loss_of(table) == pytest.approx(apart, rel=1e-4, abs=1e-5)


def coins():
    """Hundreds of trace types, of 1 to 17 draws."""
    for k in range(ppl.sample(dist.Binomial(8, 0.7), name="n")):
        if ppl.sample(dist.Bernoulli(0.5), name=f"coin{k}"):
            ppl.sample(dist.Normal(0.0, 1.0), name=f"x{k}")
    ppl.observe(dist.Normal(0.0, 1.0), name="y")


def test_shapes_do_not_grow_with_trace_types():
    trainer = trainer_of(coins, 1280)
    table = ppl.prior(coins, 1280, seed=1, progress=False).values
    for start in range(0, len(table), 64):
        trainer._batch(*trainer.encoder.encode(table[start : start + 64]))
    assert trainer.encoder.num_trace_types > 150
    assert len(trainer.shapes.known) <= 4


@pytest.mark.slow
def test_compilations_do_not_grow_with_trace_types():
    trainer = trainer_of(coins, 1280)
    trainer.validation = None
    trainer.run(progress=False)
    assert trainer.encoder.num_trace_types > 150
    assert trainer.num_compilations <= len(trainer.shapes.known) <= 4


def test_new_call_sites_take_free_rows_and_tables_double():
    def model():
        k = ppl.sample(dist.Categorical(np.ones(40)), name="which")
        ppl.sample(dist.Normal(float(k), 1.0), name="x", address=f"site {k}")
        ppl.sample(dist.Normal(float(k), 1.0), name="z", address=f"other {k % 30}")
        ppl.observe(dist.Normal(k, 1.0), name="y")

    trainer = trainer_of(model, 640)
    before = trainer.config.capacity
    network = trainer.run(progress=False)
    assert before == 64
    assert network.config.capacity == 128
    assert trainer.num_compilations == len(trainer.shapes.known) == 1
    assert network.sites.num_rows == 72  # one for what is unknown, one for "which", 40 for "x", 30 for "z"
    assert network.visits[1:72].min() >= 1
    assert np.isfinite([row[1] for row in network.history]).all()


def test_early_stopping_returns_the_best_network():
    trainer = trainer_of(programs.gum, 6400, patience=1)
    values = iter([1.0, 0.5, 0.7, 0.2])
    trainer.validate = lambda: next(values)
    network = trainer.run(progress=False)
    assert [row[2] for row in network.history if not math.isnan(row[2])] == [1.0, 0.5, 0.7]
    packed = packing_of(network.config).pack(network.params)
    np.testing.assert_array_equal(packed.small, trainer.best.small)
    assert (trainer.best.small != trainer.state.params.small).any()


def test_steps_that_are_not_finite_are_skipped_and_told():
    def model():
        mu = ppl.sample(dist.Normal(0.0, 1.0), name="mu")
        # One execution in fifty observes something beyond single precision.
        ppl.observe(dist.Normal(mu * (1e200 if mu > 2.05 else 1.0), 1.0), name="obs0")
        ppl.observe(dist.Normal(mu, 1.0), name="obs1")  # so that the step is that of GUM, which is compiled already

    trainer = trainer_of(model, 3200)
    with warnings.catch_warnings(), np.errstate(over="ignore"):
        warnings.simplefilter("ignore")
        network = trainer.run(progress=False)
    lost = sum(math.isnan(row[1]) for row in network.history)
    assert 0 < lost < 50
    assert trainer.num_skipped == lost
    assert trainer.not_finite.keys() == {"obs0"}
    assert "'obs0' in " in trainer._culprits()
    assert all(np.isfinite(leaf).all() for leaf in network.params["trunk_0"].values())


def test_rates_follow_their_schedule():
    assert rates(0.3, "polynomial", 10)(0) == pytest.approx(0.3)
    assert rates(0.3, "polynomial", 10)(5) == pytest.approx(0.01 + 0.29 * 0.25)
    assert rates(0.3, "cosine", 10)(10) == pytest.approx(0.01)
    assert rates(0.3, "constant", 10)(7) == pytest.approx(0.3)
    assert rates(lambda step: 1.0 / (1 + step), "constant", 10)(3) == 0.25


def test_endless_trouble_ends_the_training_with_what_was_learned(monkeypatch):
    trainer = trainer_of(programs.gum, 6400)
    trainer.encoder.scaling = {name: (mean * np.nan, std) for name, (mean, std) in trainer.encoder.scaling.items()}
    with pytest.raises(TrainingError, match="not finite in 50 steps in a row") as caught:
        trainer.run(progress=False)
    assert caught.value.network is not None


@pytest.mark.parametrize(
    ("optimizer", "rate", "schedule"),
    [("adam", 1e-2, "cosine"), ("adam-larc", 1.0, "constant"), (optax.sgd(0.1), 1.0, "polynomial")],
    ids=["adam", "adam-larc", "optax"],
)
def test_optimisers_learn(optimizer, rate, schedule):
    trainer = trainer_of(programs.gum, 1280)
    trainer = Trainer(
        trainer.network(), Settings(1280, 64, 0, optimizer, rate, schedule), trainer.source, None, trainer.validation
    )
    history = trainer.run(progress=False).history
    assert np.mean([row[1] for row in history[-5:]]) < history[0][1] - 0.01


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_unknown_names_of_observations_are_told():
    with pytest.raises(ppl.UnknownObservationError, match=r"'obs2' \(did you mean 'obs1'\?\)"):
        ppl.train(programs.gum, 64, observe_embeddings={"obs0": {"dim": 4}, "obs2": {"dim": 4}}, **SMALL)


def test_a_model_without_observations_is_refused():
    with pytest.raises(NetworkError, match="no named observe"):
        ppl.train(lambda: ppl.sample(dist.Normal(0.0, 1.0), name="x"), 64, **SMALL)


def test_a_model_without_latents_is_refused():
    with pytest.raises(ppl.NoLatentsError, match="no controlled latent"):
        ppl.train(lambda: ppl.observe(dist.Normal(0.0, 1.0), name="y"), 64, **SMALL)


def test_an_image_needs_the_right_embedding():
    with pytest.raises(ValueError, match=r"'cnn2d' takes observations of 2 dimensions.*'obs0' has shape \(\)"):
        ppl.train(programs.gum, 64, observe_embeddings={"obs0": {"kind": "cnn2d"}}, **SMALL)


def other_gum():
    """Another program with the observations of GUM."""
    x = ppl.sample(dist.Uniform(0.0, 1.0), name="x")
    ppl.observe(dist.Normal(x, 1.0), name="obs0")
    ppl.observe(dist.Normal(x, 1.0), name="obs1")


def with_one_observation():
    ppl.observe(dist.Normal(ppl.sample(dist.Normal(0.0, 1.0), name="mu"), 1.0), name="obs0")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (other_gum, r"of another model than the network: they have no call site in common \(for example 'programs:gum"),
        (with_one_observation, r"trained on the observations \['obs0', 'obs1'\], but none of .* has 'obs1'"),
        (lambda: ppl.sample(dist.Normal(0.0, 1.0)), r"has 'obs0', 'obs1'"),
    ],
)
@pytest.mark.parametrize("stored", [False, True])
def test_a_network_is_not_trained_further_on_another_model(other, message, stored, tmp_path):
    traces = ppl.save_dataset(other, tmp_path / "set", 100, seed=0, progress=False) if stored else other
    with pytest.raises(NetworkError, match=message):
        ppl.train(traces, 64, network=gum_network(), seed=0, **{**SMALL, "core": "lstm"})


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    ppl.train(programs.gum, 64, seed=0, checkpoint=tmp_path / "kept", **SMALL)
    with pytest.raises(NetworkError, match=r"checkpoint at .* is of a training on another model.*'programs:gum"):
        ppl.train(other_gum, 64, seed=0, checkpoint=tmp_path / "kept", **SMALL)


def test_an_empty_dataset_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Training needs traces, and there are none here"):
        ppl.train(new_dataset(tmp_path / "set"), 64, **SMALL)


def test_a_posterior_is_no_training_set():
    """Its observations are the same in all traces, and its weights would be ignored."""
    posterior = ppl.importance_sampling(programs.gum, programs.GUM_DATA, 64, seed=0, progress=False)
    with pytest.raises(TypeError, match="train needs traces, but the values of Empirical"):
        ppl.train(posterior.map("mu"), 64, **SMALL)
    with pytest.warns(UserWarning, match="These traces are weighted") as warned:
        source_of(posterior, 0, 0, 0, 1, "host")
    assert warned[0].filename == __file__


def damaged_dataset(path):
    """GUM in blocks of 50 traces, of which one number in the third was changed on disk."""
    prior = ppl.prior(programs.gum, 400, seed=0, progress=False)
    with ShardWriter(path, block_traces=50) as writer:
        writer.extend(prior.values, prior.log_weights)
    (shard,) = path.glob("*.shard")
    block = frames.scan(shard).frames[2]
    data = bytearray(shard.read_bytes())
    data[block.end - 20] ^= 4
    shard.write_bytes(data)
    return shard


def test_a_damaged_block_ends_the_training_and_is_named(tmp_path):
    shard = damaged_dataset(tmp_path / "set")
    with pytest.raises(ppl.StorageError, match=rf"{shard.name}, block 2 .*checksum"):
        ppl.train(ppl.open_dataset(tmp_path / "set"), 640, seed=0, validation_traces=0, **SMALL)


def test_a_truncated_shard_is_named(tmp_path):
    shard = damaged_dataset(tmp_path / "set")
    with open(shard, "r+b") as file:
        file.truncate(shard.stat().st_size // 2)
    with pytest.raises(ppl.StorageError, match=rf"{shard.name} is cut off at byte"):
        ppl.train(ppl.open_dataset(tmp_path / "set"), 64, **SMALL)
    # What is whole can be trained on.
    rest = ppl.open_dataset(tmp_path / "set", recover=True)
    assert 100 <= len(rest) < 400


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"num_traces": 0}, ValueError, "num_traces must be an integer of at least 1"),
        ({"batch_size": 0}, ValueError, "batch_size must be"),
        ({"prior_share": 1.0}, ValueError, r"prior_share must be in \[0, 1\)"),
        ({"core": "gru"}, ValueError, "core must be one of"),
        ({"optimizer": "sgd"}, ValueError, "optimizer must be"),
        ({"schedule": "step"}, ValueError, "schedule must be"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be positive"),
        ({"clip_norm": 0.0}, ValueError, "clip_norm must be positive"),
        ({"backend": "gpu"}, ValueError, "backend must be"),
        ({"model": 3.0}, TypeError, "train needs a callable model"),
        ({"model": []}, ValueError, "Training needs traces, and there are none here"),
    ],
)
def test_wrong_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        ppl.train(**{"model": programs.gum, "num_traces": 64, **SMALL, **settings})


# -- without the extra -------------------------------------------------------------------------------------------------


def test_what_is_not_installed_is_named():
    """In a process in which optax cannot be imported; the rest of the package works."""
    program = textwrap.dedent("""
        import sys
        sys.modules["optax"] = None
        import ppl_jax as ppl
        ppl.prior(lambda: 1.0, 3, progress=False)
        try:
            ppl.train(lambda: 1.0)
        except ppl.MissingPackageError as error:
            print(error)
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "needs optax. Install it with: pip install 'ppl-jax[train]'." in done.stdout


# -- what it says ------------------------------------------------------------------------------------------------------


def test_the_bar_says_that_it_compiles(capsys, monkeypatch):
    """And while traces are made that are held out; once compiled, a step of the same sizes is not announced again."""
    trainer = trainer_of(programs.gum, 320)
    said = []
    trainer._say = said.append
    tables = list(trainer.source.tables(64, 0, 3, 320))
    for table in tables:
        trainer.advance(table)
    assert said == ["compiling step"]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    trainer.run(progress=True)
    assert "loss" in capsys.readouterr().err


def test_too_short_a_training_is_told():
    with pytest.warns(UserWarning, match=r"too short: no call site was met in more than 64 draws.*trained on 100"):
        trainer_of(programs.gum, 64).run(progress=False)


def test_observations_that_never_vary_are_told_before_the_training():
    def model():
        mu = ppl.sample(dist.Normal(0.0, 1.0), name="mu")
        ppl.observe(dist.Normal(mu, 1.0), name="obs0")
        ppl.observe(dist.Normal(3.0, 1.0), 3.0, name="obs1")

    with pytest.warns(UserWarning, match=r"'obs1' is the same in all of 64 traces"):
        trainer_of(model, 1000)


def test_call_sites_that_are_new_to_a_network_trained_further_are_told():
    def model(more):
        mu = ppl.sample(dist.Normal(0.0, 1.0), name="mu", address="mu")
        mu = mu + ppl.sample(dist.Normal(0.0, 1.0), name="nu", address="nu") if more else mu
        ppl.observe(dist.Normal(mu, 1.0), name="obs0")
        ppl.observe(dist.Normal(mu, 1.0), name="obs1")

    network = trainer_of(lambda: model(False), 64).network()
    with pytest.warns(UserWarning, match=r"1 of 2 call sites of these traces are new to the network .*nu of Normal"):
        trainer_of(lambda: model(True), 640, network=network)


def test_a_network_is_a_few_lines_for_people():
    """The parameters of this one are 40,000 numbers."""
    network = gum_network()
    text, line = str(network), repr(network)
    assert len(text) < 1000 and len(line) < 300
    for part in (
        "FeedForward(width=16, depth=1)",
        "obs0 (a number) by mlp",
        "programs:gum:1:9 of Normal (16,000 draws)",
        f"{network.num_parameters:,} parameters",
        "trained on 16,000 traces, loss -",
        "held out -",
    ):
        assert part in text
    assert "1 call site, 2 observations, trained on 16,000 traces" in line
    assert network._repr_html_().count("<tr>") == 4
