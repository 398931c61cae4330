"""Training: traces in, a proposal network out.

A network learns from traces of the joint distribution of latents and data to propose latents given data: it maximises
the log proposal density of each trace's own latents, which minimises the average Kullback-Leibler divergence from the
posteriors to the proposals (Le, Baydin & Wood, "Inference compilation and universal probabilistic programming", AISTATS
2017, equation 4). The traces come from running the model, never the same one twice, or from stored ones.

One step is one compiled function: loss, gradient, and the new parameters unless a number is not finite.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ppl_jax.errors import MissingPackageError

if TYPE_CHECKING:
    import optax

    from ppl_jax.nn import Network


def train(
    model: Any,
    num_traces: int = 100_000,
    *,
    observe_embeddings: Mapping[str, Any] | None = None,
    core: Any = "lstm",
    mixture_components: int = 10,
    prior_share: float = 0.02,
    batch_size: int = 256,
    optimizer: str | optax.GradientTransformation = "adam",
    learning_rate: float | optax.Schedule = 2e-3,
    schedule: str = "polynomial",
    clip_norm: float = 10.0,
    validation_traces: int | None = None,
    patience: int | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 500,
    log_dir: str | Path | None = None,
    network: Network | None = None,
    num_workers: int = 1,
    backend: str = "host",
    seed: int | None = None,
    progress: bool = True,
) -> Network:
    """Trains a network that proposes a model's latents from its observations.

    Args:
      model: a callable without arguments, run afresh for every trace; or traces: a dataset, an Empirical or a
        TraceTable, gone through in random order as often as needed.
      num_traces: how many traces to train on.
      observe_embeddings: name -> how the observation is embedded: ``{"dim": 64}``, with "kind" one of "mlp", "cnn2d",
        "cnn3d", "set", "sequence" (see :class:`ppl_jax.nn.Embedding`); or a Flax linen module. None embeds all named
        observes with the default. A name may also be a sample that will be conditioned on.
      core: "lstm", "feedforward", "transformer", or one of ``ppl_jax.nn.LSTM(width=512)`` and the like.
      mixture_components: of the proposals of draws that are not choices.
      prior_share: probability of proposing from the prior, in [0, 1); bounds the weight of a draw by its inverse.
      batch_size: traces in a step.
      optimizer: "adam", "adam-larc", or an optax transformation (which then has its own learning rate).
      learning_rate: of the first step, or an optax schedule.
      schedule: "polynomial" (quadratic decay to 1/30 over the training), "cosine" or "constant".
      clip_norm: largest norm of a gradient.
      validation_traces: traces held out; default a tenth of ``num_traces``, at most 1,000; 0 for none.
      patience: stops when so many validations in a row (there are twenty in a full training) brought no improvement,
        and returns the best network; None goes on to the end.
      checkpoint: a folder in which the training is kept; if it holds one, that training goes on, bit for bit as if it
        had never stopped.
      checkpoint_every: steps between checkpoints.
      log_dir: a folder for TensorBoard, of this training alone: losses, the gradient's norm, learning rate and traces a
        second, by step. A training that goes on from a checkpoint goes on there too.
      network: a network to train further; ``observe_embeddings`` and ``core`` are then its own.
      num_workers: processes that run the model; does not change the result.
      backend: "host", or "jax" for models that JAX can trace.
      seed: integer in [0, 2**64); None for a fresh one.
      progress: whether to show a progress bar.

    Returns:
      The network. Ctrl-C returns what was learned so far.

    Raises:
      UnknownObservationError: no trace has an observation of a name in ``observe_embeddings``.
      NetworkError: the checkpoint, or ``network``, is of another training.
      NoLatentsError: no latent for which a network can propose.
      TrainingError: the loss is not finite in many steps in a row.
      ModelError: the model raised.
      StorageError: a checkpoint or log cannot be read or written.
      MissingPackageError: the extra "train" is not installed, or with ``log_dir`` "tensorboard".
    """
    try:
        from ppl_jax.training.trainer import Settings, prepare  # only who trains needs Flax, optax and orbax
    except ModuleNotFoundError as error:
        raise MissingPackageError(error.name, "train") from error

    settings = Settings(
        num_traces, batch_size, seed, optimizer, learning_rate, schedule, clip_norm, patience, checkpoint_every
    )
    trainer = prepare(
        model,
        settings,
        observe_embeddings=observe_embeddings,
        core=core,
        mixture_components=mixture_components,
        prior_share=prior_share,
        validation_traces=validation_traces,
        network=network,
        num_workers=num_workers,
        backend=backend,
        progress=progress,
    )
    if checkpoint is not None:
        trainer.keep_in(checkpoint)
    if log_dir is not None:
        trainer.log_to(log_dir)
    return trainer.run(progress)
