"""Rejection scopes for Python simulators: those of the language, :func:`ppl_jax.rejection_scope`, under PPX's name.

A model is written in one way, whether it is served or run here. Where the inference side does not know scopes, every
pass belongs to the trace.
"""

from __future__ import annotations

from ppl_jax.language.scopes import RejectionScope, rejection_scope

__all__ = ["RejectionScope", "rejection_scope"]
