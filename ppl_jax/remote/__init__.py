"""Simulators in other processes as models: connections, processes, and executions that simulators perform by themselves."""

from ppl_jax.remote.model import RemoteModel

__all__ = ["RemoteModel"]
