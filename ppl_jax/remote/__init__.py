"""Simulators in other processes as models: processes, connections, and executions done by the simulators themselves."""

from ppl_jax.remote.model import RemoteModel

__all__ = ["RemoteModel"]
