"""Effect handlers around models: the public face of :mod:`ppl_jax.language.handlers`."""

from ppl_jax.language.handlers import (
    Handler,
    Messenger,
    block,
    condition,
    control,
    inflate,
    propose,
    replay,
    seed,
    substitute,
    trace,
)

__all__ = [
    "Handler",
    "Messenger",
    "block",
    "condition",
    "control",
    "inflate",
    "propose",
    "replay",
    "seed",
    "substitute",
    "trace",
]
