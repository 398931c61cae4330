"""The loop of a training: its state between steps, the compiled step, validation and checkpoints.

Behind :func:`ppl_jax.train`. One step is one compiled function: loss, gradient, and the new parameters unless a number
is not finite.
"""

from __future__ import annotations

import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ppl_jax.encoding.batches import Batch, Shapes, make_batch, split_points
from ppl_jax.encoding.tokens import CallSites, Encoder, Tokens
from ppl_jax.errors import InterruptedRunWarning, NoLatentsError, TrainingError
from ppl_jax.nn.cores import core_config
from ppl_jax.nn.network import Network, NetworkConfig, create_network, grown, packing_of
from ppl_jax.nn.observations import check_fits, doubts, observed_in, scaling_in
from ppl_jax.nn.optimisers import check_optimiser, first_state, rates
from ppl_jax.nn.ranges import not_finite, widened
from ppl_jax.running.checks import callers_level, check_count
from ppl_jax.running.progress import Progress
from ppl_jax.storage import TraceTable
from ppl_jax.streams import check_seed, derive_seed
from ppl_jax.training.checkpoints import Checkpoints
from ppl_jax.training.log import TrainingLog
from ppl_jax.training.resuming import bits, described, restored
from ppl_jax.training.sources import Source, source_of
from ppl_jax.training.step import Outcome, TrainingState, compiled_training, enlarged, enlarged_state

_TRAINING, _VALIDATION, _PARAMETERS, _GROWTH = range(4)  # labels of derived seeds
_PATIENCE_WITH_NAN = 50  # steps in a row that may be skipped
VALIDATIONS = 20  # in a full training


class Settings(NamedTuple):
    """What a training is, its traces and its network apart; see :func:`ppl_jax.train`."""

    num_traces: int
    batch_size: int
    seed: Any
    optimizer: Any = "adam"
    learning_rate: Any = 2e-3
    schedule: str = "polynomial"
    clip_norm: float = 10.0
    patience: int | None = None
    checkpoint_every: int = 500

    @property
    def num_steps(self) -> int:
        """Steps in all."""
        return -(-self.num_traces // self.batch_size)

    def checked(self) -> Settings:
        """Itself with a seed; raises ValueError for sizes that make no sense."""
        for name in ("num_traces", "batch_size", "checkpoint_every"):
            check_count(name, getattr(self, name))
        if self.patience is not None:
            check_count("patience", self.patience)
        return self._replace(seed=check_seed(self.seed))

    def rates(self) -> Callable[[int], Any]:
        """The learning rate as a function of the number of the step."""
        return rates(self.learning_rate, self.schedule, self.num_steps)


def prepare(
    model: Any,
    settings: Settings,
    *,
    observe_embeddings: Mapping[str, Any] | None,
    core: Any,
    mixture_components: int,
    prior_share: float,
    validation_traces: int | None,
    network: Network | None,
    num_workers: int,
    backend: str,
    progress: bool = False,
) -> Trainer:
    """The training that :func:`ppl_jax.train` describes, before its first step."""
    settings = settings.checked()
    if not 0.0 <= prior_share < 1.0:
        raise ValueError(f"prior_share must be in [0, 1), got {prior_share!r}.")
    use_compilation_cache()
    seed, num_traces = settings.seed, settings.num_traces
    held_out = min(1000, num_traces // 10) if validation_traces is None else validation_traces
    seeds = derive_seed(seed, _TRAINING), derive_seed(seed, _VALIDATION)
    source, validation = source_of(model, *seeds, held_out, num_workers, backend, progress)
    look = validation if validation is not None else source.look(min(settings.batch_size, num_traces))
    if network is None:
        config = NetworkConfig(
            *observed_in(look, observe_embeddings),
            core_config(core),
            components=check_count("mixture_components", mixture_components),
            prior_share=float(prior_share),
        )
        network = create_network(config, scaling_in(look, config), CallSites(), derive_seed(seed, _PARAMETERS))
    else:
        check_fits(network, look)
    for doubt in doubts(network, look):
        warnings.warn(doubt, UserWarning, stacklevel=callers_level())
    return Trainer(network, settings, source, validation, look)


def use_compilation_cache() -> None:
    """Has JAX keep what it compiles from run to run, unless the user has said where or that it should not."""
    if jax.config.values.get("jax_compilation_cache_dir") is None and "JAX_ENABLE_COMPILATION_CACHE" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "ppl_jax" / "jax"))


class Trainer:
    """One training: its state between steps, and the compiled step.

    Args:
      network: where it begins; it is not changed.
      settings: see Settings.
      source: the traces.
      validation: traces held out, or None.
      look: traces whose call sites are taken up before the first step, so that tables seldom grow.
    """

    def __init__(
        self, network: Network, settings: Settings, source: Source, validation: TraceTable | None, look: TraceTable
    ):
        self.settings = settings
        check_optimiser(settings.optimizer, settings.clip_norm)
        self.rates = settings.rates()
        self.validation_every = max(1, settings.num_steps // VALIDATIONS)
        self.source = source
        self.validation = validation
        self.config = network.config
        self.least_visits = network.least_visits
        self.sites = CallSites(network.sites.known)
        self.visits = network.visits.copy()
        self.history = list(network.history)
        self.ranges = dict(network.ranges)
        self.encoder = Encoder(network.observed, self.sites, network.varying, network.scaling)
        self.shapes = Shapes()
        packing = packing_of(self.config)
        params = jax.tree.map(jnp.array, packing.pack(jax.tree.map(np.asarray, network.params), np))
        self.state = TrainingState(params, first_state(settings.optimizer, packing, params), jnp.zeros((), jnp.int32))
        self.best: Any = None
        self.best_loss, self.waited = math.inf, 0
        self.step, self.num_skipped = 0, 0
        self.num_compilations = 0
        self.not_finite: Counter[str] = Counter()  # traces whose observation of a name has NaN or infinity
        self._checkpoints: Checkpoints | None = None
        self._log: TrainingLog | None = None
        self._met: set[tuple[Any, ...]] = set()  # what was compiled
        self._say: Callable[[str], None] = lambda note: None
        tokens = self.encoder.encode(look)[0]
        self._make_room(tokens)
        self.shapes.reserve(tokens.lengths, settings.batch_size)
        if self.sites.num_rows == 1:
            raise NoLatentsError(
                "The traces have no controlled latent for which a network can propose. Draw some by ppl_jax.sample "
                "with control=True, of at most 256 elements and 128 categories."
            )

    # -- one step --------------------------------------------------------------------------------------------------

    def _make_room(self, tokens: Tokens) -> None:
        """Enlarges the tables for what these tokens need."""
        categories = 0 if tokens.log_probs is None else tokens.log_probs.shape[1]
        kinds = set(np.unique(tokens.frames.kind).tolist()) - {0}
        new = grown(self.config, self.sites.num_rows, categories, kinds)
        old = self.config
        if new == old:
            return
        key = jax.random.key(np.uint32(derive_seed(self.settings.seed, _GROWTH, new.capacity, new.width) & 0xFFFFFFFF))
        self.state = enlarged_state(old, new, key, self.state)
        if self.best is not None:
            self.best = enlarged(old, new, key, self.best)
        visits = np.zeros(new.capacity, np.int64)
        visits[: len(self.visits)] = self.visits
        self.config, self.visits = new, visits

    def _functions(self) -> tuple[Any, Any]:
        """The compiled step and the compiled loss for the present configuration."""
        return compiled_training(self.config, self.settings.optimizer, self.settings.clip_norm)

    def advance(self, table: TraceTable) -> Outcome:
        """One step on the traces of a table; what it found, perhaps still being computed."""
        tokens, observations, presence = self.encoder.encode(table)
        self._make_room(tokens)
        batch = self._batch(tokens, observations, presence)
        self._announce("step", batch)
        step, _ = self._functions()
        before = step._cache_size()
        self.state, outcome = step(self.state, batch, np.float32(self.rates(self.step)))
        self.num_compilations += step._cache_size() - before
        self.visits += np.bincount(tokens.site, minlength=len(self.visits))
        self.ranges = widened(self.ranges, observations, presence)
        self.not_finite.update(not_finite(observations, self.encoder.varying))
        self.step += 1
        return outcome

    def _announce(self, what: str, batch: Batch) -> None:
        """Says so where what comes next is to be compiled, which takes longer than thousands of traces."""
        key = (what, self.config, tuple(leaf.shape for leaf in jax.tree.leaves(batch)))
        if key not in self._met:
            self._met.add(key)
            self._say(f"compiling {what}")

    def _batch(self, tokens: Tokens, observations: Any, presence: np.ndarray) -> Batch:
        config = self.config
        size = self.settings.batch_size
        return make_batch(tokens, observations, presence, self.shapes, size, config.categories, config.capacity)

    def validate(self) -> float:
        """The loss on the traces held out."""
        assert self.validation is not None
        _, evaluate = self._functions()
        total = 0.0
        for start, stop in split_points(len(self.validation), self.settings.batch_size):
            tokens, observations, presence = self.encoder.encode(self.validation[start:stop])
            self._make_room(tokens)
            batch = self._batch(tokens, observations, presence)
            self._announce("validation", batch)
            total += float(evaluate(self.state.params, batch)) * (stop - start)
        return total / len(self.validation)

    # -- the whole training ----------------------------------------------------------------------------------------

    def run(self, progress: bool) -> Network:
        """All steps that are left; the network."""
        settings = self.settings
        steps = settings.num_steps
        done = min(self.step * settings.batch_size, settings.num_traces)
        pending: list[tuple[int, int, Outcome]] = []  # the last step's, which is asked for when the next one runs
        try:
            with Progress(settings.num_traces, "trace", progress, done) as bar:
                self._say = bar.say
                bar.say("waiting for traces")
                for table in self.source.tables(settings.batch_size, self.step, steps, settings.num_traces):
                    pending.append((self.step, len(table), self.advance(table)))
                    self._report(bar, pending, keep=1)
                    if self.step % self.validation_every == 0 or self.step == steps:
                        self._report(bar, pending, keep=0)
                        if self._should_stop():
                            break
                    if self.step % settings.checkpoint_every == 0:
                        self._report(bar, pending, keep=0)
                        self.checkpoint()
                self._report(bar, pending, keep=0)
        except KeyboardInterrupt:
            message = f"Interrupted: returning the network trained for {self.step} steps."
            warnings.warn(message, InterruptedRunWarning, stacklevel=3)
        except Exception as error:  # of the model, or of a module, schedule or optimiser of the user's
            self.checkpoint()
            if isinstance(error, TrainingError):
                error.network = self.network()
            raise
        finally:
            if self._log is not None:
                self._log.close()
        self.checkpoint()
        if self.num_skipped:
            warnings.warn(
                f"{self.num_skipped} of {self.step} steps were skipped, because the loss or its gradient was not "
                f"finite there. {self._culprits()}",
                RuntimeWarning,
                stacklevel=3,
            )
        self._warn_of_few_draws()
        return self.network()

    def _report(self, bar: Any, pending: list[tuple[int, int, Outcome]], keep: int) -> None:
        while len(pending) > keep:
            step, number, outcome = pending.pop(0)
            number_or_nan = float(outcome.loss)
            self.history.append(((step + 1) * self.settings.batch_size, number_or_nan, math.nan))
            bar.advance(number, f"loss {number_or_nan:.3f}")
            if self._log is not None:
                self._log.step(step + 1, number, number_or_nan, float(outcome.norm), float(self.rates(step)))
            if not math.isfinite(number_or_nan):
                self.num_skipped += 1
                if int(self.state.skipped) >= _PATIENCE_WITH_NAN:
                    raise TrainingError(
                        f"The loss was not finite in {_PATIENCE_WITH_NAN} steps in a row, the last one number {step}. "
                        f"{self._culprits()}"
                    )

    def _culprits(self) -> str:
        """What is known of why losses were not finite, and what to do."""
        if not self.not_finite:
            return "Look for infinite or huge values among the latents and observations, or lower learning_rate."
        found = ", ".join(f"'{name}' in {count:,}" for name, count in self.not_finite.most_common(3))
        return (
            f"The observations have NaN, infinite or huge numbers: {found} of the traces. Let the model observe finite "
            "numbers, also where its simulator fails."
        )

    def _warn_of_few_draws(self) -> None:
        """Warns where no call site was met often enough for the network to propose there."""
        most = int(self.visits[1:].max(initial=0))
        if most < self.least_visits:
            warnings.warn(
                f"The training was too short: no call site was met in more than {most} draws, and a network proposes "
                f"only where it was trained on {self.least_visits}. Until then it leaves all latents to the prior. "
                "Train on more traces.",
                UserWarning,
                stacklevel=callers_level(),
            )

    def _should_stop(self) -> bool:
        """Validates; whether there was no improvement for too long."""
        if self.validation is None:
            return False
        held_out = self.validate()
        traces, value, _ = self.history[-1]
        self.history[-1] = (traces, value, held_out)
        if self._log is not None:
            self._log.validation(self.step, held_out)
        patience = self.settings.patience
        if patience is None:
            return False
        if held_out < self.best_loss:
            self.best_loss, self.waited = held_out, 0
            self.best = jax.tree.map(jnp.array, self.state.params)
            return False
        self.waited += 1
        return self.waited >= patience

    def network(self) -> Network:
        """The network as it is now: the best one where training stops early, else the last."""
        params = self.state.params if self.best is None else self.best
        return Network(
            self.config,
            jax.tree.map(np.array, packing_of(self.config).unpack(jax.tree.map(np.asarray, params))),
            CallSites(self.sites.known),
            self.visits.copy(),
            dict(self.encoder.scaling),
            self.least_visits,
            list(self.history),
            dict(self.ranges),
        )

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def keep_in(self, path: str | Path) -> None:
        """Goes on from the newest checkpoint in a folder, if there is one, and writes further ones there.

        Raises:
          NetworkError: the checkpoint is of a training with other settings.
        """
        self._checkpoints = Checkpoints(path)
        found = self._checkpoints.newest()
        if found is not None:
            restored(self, found, str(self._checkpoints.path))

    def log_to(self, path: str | Path) -> None:
        """Writes a log for TensorBoard to a folder; it goes on from the present step, so ``keep_in`` comes first."""
        self._log = TrainingLog(path, self.step)

    def checkpoint(self) -> None:
        """Writes a checkpoint, where one is wanted and there is anything new."""
        if self._checkpoints is None or self._checkpoints.last_step == self.step:
            return
        tree = {**self.state._asdict(), "scaling": jax.tree.map(bits, self.encoder.scaling), "visits": self.visits}
        if self.ranges:
            tree["ranges"] = self.ranges
        if self.best is not None:
            tree["best"] = self.best
        self._checkpoints.save(self.step, tree, described(self))
