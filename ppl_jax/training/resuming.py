"""What a checkpoint of a training holds, and how a training goes on from one: bit for bit as if it had not stopped."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ppl_jax.encoding.tokens import CallSites, Encoder
from ppl_jax.errors import NetworkError
from ppl_jax.nn.network import packing_of
from ppl_jax.nn.optimisers import first_state
from ppl_jax.nn.ranges import unmet
from ppl_jax.training.checkpoints import Checkpoint
from ppl_jax.training.step import TrainingState, enlarged

if TYPE_CHECKING:
    from ppl_jax.training.trainer import Trainer

FORMAT = 2  # 1 had all parameters in one vector


def described(trainer: Trainer) -> dict[str, Any]:
    """All of a training's state that is no array, as JSON."""
    settings, config = trainer.settings, trainer.config
    return {
        "format": FORMAT,
        "training": {
            "num_traces": settings.num_traces,
            "batch_size": settings.batch_size,
            "seed": settings.seed,
            "optimizer": _plain(settings.optimizer),
            "learning_rate": _plain(settings.learning_rate),
            "schedule": settings.schedule,
            "clip_norm": settings.clip_norm,
            "core": repr(config.core),
            "mixture_components": config.components,
            "prior_share": config.prior_share,
            "observations": repr(config.observed),
        },
        "capacity": config.capacity,
        "categories": config.categories,
        "kinds": list(config.kinds),
        "sites": trainer.sites.known,
        "step": trainer.step,
        "num_skipped": trainer.num_skipped,
        "waited": trainer.waited,
        "best_loss": trainer.best_loss,
        "has_best": trainer.best is not None,
        "ranges": sorted(trainer.ranges),
        "bent": config.bent,
        "history": trainer.history,
        "shapes": sorted(trainer.shapes.known),
    }


def _plain(setting: Any) -> Any:
    """A name or a number; functions of the user's cannot be told apart from one run to the next."""
    return setting if isinstance(setting, (str, int, float)) else "of the user's own"


def restored(trainer: Trainer, found: Checkpoint, place: str) -> None:
    """Puts a training into the state of a checkpoint.

    Args:
      trainer: a training that has not begun.
      found: the checkpoint.
      place: where it is, for messages.

    Raises:
      NetworkError: it is of a training with other settings, or was written by another version.
    """
    data = found.description
    if data.get("format", 1) != FORMAT:
        raise NetworkError(
            f"The checkpoint at {place} has the format {data.get('format', 1)!r}, but {FORMAT} was expected. Finish "
            "this training with the version of ppl_jax that began it, or give another folder."
        )
    for name, value in described(trainer)["training"].items():
        if data["training"][name] != value:
            raise NetworkError(
                f"The checkpoint at {place} is of a training with {name} = {data['training'][name]!r}, not {value!r}. "
                "Use the same settings, or another folder."
            )
    stored = {tuple(site) for site in data["sites"]}
    if stored.isdisjoint(trainer.sites.known):
        raise NetworkError(
            f"The checkpoint at {place} is of a training on another model: they have no call site in common (for "
            f"example {min(stored)[0]!r} there). Train on the same model, or give another folder."
        )
    trainer.sites = CallSites((address, family) for address, family in data["sites"])
    old = trainer.encoder
    trainer.encoder = Encoder(old.observed, trainer.sites, old.varying, old.scaling)
    before = trainer.config
    trainer.config = config = replace(
        before,
        capacity=data["capacity"],
        categories=data["categories"],
        kinds=tuple(data["kinds"]),
        bent=data.get("bent", False),
    )
    params = enlarged(before, config, None, trainer.state.params)
    moments = first_state(trainer.settings.optimizer, packing_of(config), params)
    like = {"params": params, "optimiser": moments, "skipped": trainer.state.skipped}
    like |= {"scaling": jax.tree.map(bits, old.scaling), "visits": np.zeros(config.capacity, np.int64)}
    if data["has_best"]:
        like["best"] = params
    ranges = {name: unmet(trainer.encoder.observed[name]) for name in data.get("ranges", ())}
    if ranges:
        like["ranges"] = ranges
    tree = found.restore(like)
    trainer.state = TrainingState(tree["params"], tree["optimiser"], tree["skipped"])
    trainer.encoder.scaling = jax.tree.map(_from_bits, old.scaling, tree["scaling"])
    trainer.visits = np.array(tree["visits"])
    trainer.best = tree.get("best")
    trainer.ranges = {name: (np.array(low), np.array(high)) for name, (low, high) in tree.get("ranges", {}).items()}
    trainer.step, trainer.num_skipped, trainer.waited = data["step"], data["num_skipped"], data["waited"]
    trainer.best_loss = data["best_loss"]
    trainer.history = [tuple(row) for row in data["history"]]
    trainer.shapes.known = {tuple(shape) for shape in data["shapes"]}


def bits(numbers: np.ndarray) -> np.ndarray:
    """Doubles as pairs of 32-bit integers, which JAX keeps as they are."""
    return np.atleast_1d(np.asarray(numbers, np.float64)).ravel().view(np.uint32)


def _from_bits(like: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return np.array(pairs, np.uint32).view(np.float64).reshape(like.shape)
