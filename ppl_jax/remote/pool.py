"""The simulators of one RemoteModel, lent to executions and given back; what is left of them goes with the pool."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import zmq

from ppl_jax.errors import SimulatorError
from ppl_jax.remote.forks import Forks
from ppl_jax.remote.guard import Guard
from ppl_jax.remote.nuisances import Nuisances
from ppl_jax.remote.peers import Identity, Options, Peer
from ppl_jax.remote.processes import remove_folder

if TYPE_CHECKING:
    from ppl_jax.remote.conversations import Conversation


_SOCKETS = 4  # of one connection, at most


class Pool:
    """Simulators, one for each endpoint; nothing is started before it is needed.

    Args:
      options: how to reach them; endpoints that are "" become private ones.
    """

    def __init__(self, options: Options):
        self._owner = os.getpid()
        # What runs already needs neither a folder nor anybody who ends it.
        self._guard = None if options.command is None else Guard()
        self._changed = threading.Condition()
        self._holders: dict[Peer, tuple[int, Conversation | None]] = {}  # thread and execution, oldest first
        self._suspended: set[Conversation] = set()
        self._closed = False
        endpoints = options.endpoints
        if self._guard is not None:
            folder = self._guard.folder
            endpoints = tuple(given or f"ipc://{folder / str(number)}.ipc" for number, given in enumerate(endpoints))
        #: Whether executions that are under way together would have to share cores.
        self.is_crowded = len(endpoints) >= len(os.sched_getaffinity(0))  # this process needs one, too
        self.identity = Identity()
        self.nuisances = Nuisances()
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, max(1024, _SOCKETS * len(endpoints)))
        options = options._replace(endpoints=endpoints, context=self._context)
        self._forks: Forks | None = None
        if options.fork and options.command is not None and self._guard is not None:
            self._forks = Forks(options.command, self._guard, options.start_timeout)
        numbers = range(len(endpoints))
        self.peers = tuple(Peer(options, number, self.identity, self._guard, self._forks) for number in numbers)

    def check(self) -> None:
        """Raises SimulatorError if the pool cannot be used here."""
        if self._closed:
            raise SimulatorError("This RemoteModel is closed. Make a new one, or work inside its with statement.")
        if os.getpid() != self._owner:
            raise SimulatorError(
                "A RemoteModel cannot be used in a forked process: both would speak through one socket. Use "
                "num_processes of RemoteModel in place of num_workers."
            )

    def lend(self, conversation: Conversation | None = None) -> Peer:
        """A simulator for this thread; if all are lent, one that an execution of this thread waits with.

        Raises:
          SimulatorError: this thread holds them all and can give none up.
        """
        self.check()
        me = threading.get_ident()
        with self._changed:
            while True:
                for peer in self.peers:
                    if peer not in self._holders:
                        self._holders[peer] = (me, conversation)
                        self._suspended.discard(conversation)
                        return peer
                mine = [(peer, held) for peer, (thread, held) in self._holders.items() if thread == me]
                for peer, held in mine:
                    if held is not None and held is not conversation:
                        held.suspend()
                        self._suspended.add(held)
                        del self._holders[peer]
                        self._holders[peer] = (me, conversation)
                        self._suspended.discard(conversation)
                        return peer
                if len(mine) == len(self.peers):
                    raise SimulatorError(
                        "All simulators are busy with a run that this execution is called from. Give the inner run a "
                        "RemoteModel of its own."
                    )
                self._changed.wait()

    def has_suspended(self) -> bool:
        """Whether there are more executions under way than simulators."""
        return bool(self._suspended)

    def conclude(self, conversation: Conversation) -> None:
        """An execution is over."""
        with self._changed:
            self._suspended.discard(conversation)

    def lend_free(self) -> list[Peer]:
        """All simulators that are free now, for this thread; at least one."""
        first = self.lend()
        with self._changed:
            free = [peer for peer in self.peers if peer not in self._holders]
            for peer in free:
                self._holders[peer] = (threading.get_ident(), None)
        return sorted([first, *free], key=self.peers.index)

    def give_back(self, peer: Peer) -> None:
        """Ends a loan."""
        with self._changed:
            self._holders.pop(peer, None)
            self._changed.notify()

    def close(self) -> None:
        """Closes all connections, stops all processes, and removes the files; does nothing the second time."""
        if self._closed or os.getpid() != self._owner:
            return
        self._closed = True
        try:
            for peer in self.peers:  # all of them, before the first is waited for
                peer.ask_to_end()
            for peer in self.peers:
                peer.close()
        finally:
            if self._forks is not None:
                self._forks.close()
            self._context.destroy(linger=0)
            if self._guard is not None:
                remove_folder(self._guard.folder)
                self._guard.close()
