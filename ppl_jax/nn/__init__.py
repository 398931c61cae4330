"""Proposal networks: embeddings of what is known, a core that remembers the draws so far, and a head per call site.

Written in Flax's linen, not nnx: a linen module is a hashable value apart from its parameters, and the parameters are a
plain tree of arrays. Tables of call sites can then grow between two steps by padding an array, checkpoints are that
tree, and a compiled step is shared by all networks of one configuration.
"""

from ppl_jax.nn.cores import LSTM, FeedForward, Transformer
from ppl_jax.nn.embeddings import Embedding
from ppl_jax.nn.files import load_network
from ppl_jax.nn.network import Network, NetworkConfig, create_network

__all__ = [
    "Embedding", "FeedForward", "LSTM", "Network", "NetworkConfig", "Transformer", "create_network", "load_network",
]  # fmt: skip
