"""A guard: a process that ends what we started, and removes what we made, if we die without doing so.

Python's own ways (``atexit``, finalizers) do nothing at SIGKILL, SIGTERM or ``os._exit``, and a simulator of PPX 1.0.0
waits for ever for an inference side that is gone. The guard reads from a pipe whose other end only this process holds;
the system closes it however we die. Then it sends SIGTERM to the simulators, SIGKILL to those that remain, and removes
the private folder. It is a shell, because forking a process with many threads is unsafe, and not
``prctl(PR_SET_PDEATHSIG)``, which ends simulators with the *thread* that started them and spares what they started.

A simulator is known to it by its process group, and on Linux by a variable in the environment too: it is found there
also where we die between its start and telling of it, or where it made a session of its own.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

VARIABLE = "PPX_STARTED_BY"  # in the environment of what we start

# Lines: "group PID FILE" when a simulator was started, "ended PID" when it was stopped, "bye" when all is put in order.
_SCRIPT = r"""
trap '' HUP INT TERM QUIT
folder=$1 mark=$2
shift 2
while read -r what rest; do
    case $what in
    group) set -- "$@" "$rest" ;;
    ended)
        count=$#
        while [ "$count" -gt 0 ]; do
            [ "${1%% *}" = "$rest" ] || set -- "$@" "$1"
            shift
            count=$((count - 1))
        done ;;
    bye) exit 0 ;;
    esac
done
each() {
    alive=1
    number=$1
    shift
    for entry do kill "$number" -- "-${entry%% *}" && alive=0; done
    for file in $(grep -ls "$mark" /proc/[0-9]*/environ); do
        pid=${file#/proc/}
        kill "$number" "${pid%/environ}" && alive=0
    done
    return $alive
}
tries=0
each -TERM "$@"
while [ $tries -lt 20 ] && each -0 "$@"; do
    sleep 0.1
    tries=$((tries + 1))
done
each -KILL "$@"
for entry do
    path=${entry#* }
    [ -z "$path" ] || rm -f -- "$path"
done
rm -rf -- "$folder"
"""
_LONGEST_FOLDER = 76  # bytes: the path of a socket may have 107 bytes only, so a long TMPDIR will not do


class Guard:
    """Guards a new private folder, and what is started.

    Attributes:
      folder: the folder, which only this user can enter, for sockets and output.
      environment: variables for all that is started.
    """

    def __init__(self) -> None:
        where = tempfile.gettempdir() if len(tempfile.gettempdir().encode()) < _LONGEST_FOLDER else "/tmp"
        self.folder = Path(where, f"ppx-{secrets.token_hex(6)}")
        mark = secrets.token_hex(16)
        self.environment = {VARIABLE: mark}
        # It learns of the folder before that is made, so that there is no time at which nobody would remove it.
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT, "ppx-guard", str(self.folder), f"{VARIABLE}={mark}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            start_new_session=True,  # no Ctrl-C, no end of the terminal reaches it
        )
        _all.add(self)
        try:
            self.folder.mkdir(mode=0o700)
        except BaseException:
            self.close()
            raise

    def started(self, pid: int, path: str | None) -> None:
        """A process leads the group ``pid``; ``path`` is the file of a socket that it makes elsewhere, or None."""
        self._say(f"group {pid} {'' if path is None or chr(10) in path else path}\n")

    def stopped(self, pid: int) -> None:
        """The process and its group are no more; another may have the number soon."""
        self._say(f"ended {pid}\n")

    def _say(self, line: str) -> None:
        pipe = self._process.stdin
        if pipe is not None and not pipe.closed:
            with suppress(OSError):  # somebody killed it: then there is no guard
                pipe.write(line.encode("utf-8", "surrogateescape"))

    def close(self) -> None:
        """Ends the guard; everything else must have ended."""
        self._say("bye\n")
        self.let_go()
        self._process.wait()

    def let_go(self) -> None:
        """Closes this process's end of the pipe."""
        if self._process.stdin is not None:
            self._process.stdin.close()


# A forked process would hold the pipe open when we are gone.
_all: weakref.WeakSet[Guard] = weakref.WeakSet()


def _after_fork() -> None:
    for guard in list(_all):
        guard.let_go()


os.register_at_fork(after_in_child=_after_fork)
