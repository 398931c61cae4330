"""Checkpoints of a training: arrays by orbax, the rest as JSON; a folder per step, of which the newest two are kept.

orbax writes into a folder of another name and renames it when all is there, so that a checkpoint that exists is whole.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ppl_jax.errors import StorageError


class Checkpoint:
    """One checkpoint: ``description``, what was given as such, and the arrays to restore."""

    def __init__(self, manager: Any, step: int, path: Path):
        import orbax.checkpoint as ocp

        self._manager, self._step, self._path = manager, step, path
        try:
            restored = manager.restore(step, args=ocp.args.Composite(description=ocp.args.JsonRestore()))
        except Exception as error:  # orbax raises whatever its storage raises
            raise self._damaged(error) from error
        self.description: dict[str, Any] = restored["description"]

    def restore(self, like: Any) -> Any:
        """The tree of arrays, with the structure, shapes and types of ``like``.

        Raises:
          StorageError: it does not have them, or is damaged.
        """
        import orbax.checkpoint as ocp

        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, jax.tree.map(_as_array, like))
        try:
            restored = self._manager.restore(
                self._step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
            )
        except Exception as error:
            raise self._damaged(error) from error
        return restored["state"]

    def _damaged(self, error: Exception) -> StorageError:
        return StorageError(
            f"The checkpoint of step {self._step} at {self._path} cannot be read ({type(error).__name__}: {error}). "
            f"Remove its folder '{self._step}' to go on from an earlier one, or give another folder."
        )


class Checkpoints:
    """The checkpoints in a folder, which is made if need be.

    Args:
      path: the folder.
    """

    def __init__(self, path: str | Path):
        import orbax.checkpoint as ocp

        logging.getLogger("absl").setLevel(logging.ERROR)
        self.path = Path(path).absolute()
        try:
            self._manager = ocp.CheckpointManager(
                self.path,
                item_names=("state", "description"),
                options=ocp.CheckpointManagerOptions(max_to_keep=2, create=True, enable_async_checkpointing=False),
            )
        except OSError as error:
            raise StorageError(
                f"No checkpoints can be kept at {self.path}: {error}. Give a folder that can be written to."
            ) from error
        self.last_step: int | None = self._manager.latest_step()

    def newest(self) -> Checkpoint | None:
        """The checkpoint of the last step, None if there is none."""
        return None if self.last_step is None else Checkpoint(self._manager, self.last_step, self.path)

    def save(self, step: int, tree: Any, description: dict[str, Any]) -> None:
        """Writes a checkpoint of ``step``; when it returns, it is on disk."""
        import orbax.checkpoint as ocp

        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(jax.tree.map(_as_array, tree)),
                description=ocp.args.JsonSave(description),
            ),
            force=True,
        )
        self._manager.wait_until_finished()
        self.last_step = step


def _as_array(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
