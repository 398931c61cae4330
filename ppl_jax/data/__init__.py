"""Datasets: many traces on disk, written by many processes, read by trace type. No pickle.

folder      which files make a dataset           frames      how a file is cut into blocks with checksums
blocks      what a block says of itself          encoding    how numbers become columns of bytes
writer      writing                              contents    the catalogue of what was written
minibatches reading, in the order of ``order``   saving      running a model into a dataset
combining   merging, and the search for damage   online      traces made while they are consumed
"""

from ppl_jax.data.combining import merge_datasets, verify_dataset
from ppl_jax.data.dataset import Dataset, DatasetInfo, new_dataset, open_dataset
from ppl_jax.data.minibatches import Minibatch, minibatches_of
from ppl_jax.data.saving import save_dataset
from ppl_jax.data.types import TypeLayout, TypeTable
from ppl_jax.data.writer import ShardWriter
from ppl_jax.running.background import OnlineTraces

__all__ = [
    "Dataset", "DatasetInfo", "open_dataset", "new_dataset", "save_dataset", "merge_datasets", "verify_dataset",
    "ShardWriter", "OnlineTraces", "Minibatch", "minibatches_of", "TypeLayout", "TypeTable",
]  # fmt: skip
