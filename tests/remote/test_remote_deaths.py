"""Whatever ends the inference side, what it started ends and its files go; what others started lives on."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest
from remote_simulators import HERE

# {how}: arguments of the simulators; {wrapped}: whether there is a shell between us and them; {end}: what comes last.
SCRIPT = """
import os, signal, sys
sys.path[:0] = [{here!r}, {tests!r}]
import ppl_jax as ppl
from remote_simulators import command
served = command("gum", *{how!r})
if {wrapped!r}:
    served = ["/bin/sh", "-c", '"$@" & wait', "sh", *served]
model = ppl.RemoteModel(command=served, num_processes=2, **{options!r})
ppl.prior(model, 1, seed=1, progress=False)
first = model._pool.lend_free()
for peer in first:
    peer.connect()
print("ready", flush=True)
{end}
"""
WAIT = "signal.pause()"
ENDS = {
    "SIGTERM": WAIT,
    "SIGKILL": WAIT,
    "SIGHUP": WAIT,
    "os._exit": "os._exit(3)",
    "at exit": "import atexit; atexit.register(lambda: 1 / 0); 1 / 0",
    "forked": "import time\nif os.fork() == 0: time.sleep(90)\nos._exit(3)",  # a copy of us: no reason to live on
}


def started_by(script, tmp_path):
    """Runs a script until it is ready; its process and the processes of its own."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    ours = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    assert ours.stdout is not None
    assert ours.stdout.readline() == "ready\n"
    return ours


def belong_to(folder):
    """Processes that have a path in this folder among their arguments or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if f"{folder}/ppx-" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            pass
    return found


def awaited(condition, seconds=60.0):
    """Whether a condition comes true within a while."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize(
    ("end", "how", "wrapped", "options"),
    [
        ("SIGKILL", ("plain",), True, {"extension": False}),
        ("SIGTERM", ("plain",), False, {}),
        pytest.param("SIGKILL", ("plain",), False, {}, marks=pytest.mark.slow),
        pytest.param("SIGHUP", ("plain",), False, {}, marks=pytest.mark.slow),
        pytest.param("os._exit", ("plain",), True, {}, marks=pytest.mark.slow),
        pytest.param("at exit", ("plain",), False, {}, marks=pytest.mark.slow),
        pytest.param("forked", ("plain",), False, {}, marks=pytest.mark.slow),
        pytest.param("SIGKILL", (), True, {}, marks=pytest.mark.slow),
        pytest.param("SIGKILL", (), False, {"fork": True}, marks=pytest.mark.slow),
        pytest.param("SIGTERM", (), False, {"fork": True}, marks=pytest.mark.slow),
    ],
)
def test_what_we_started_ends_with_us_however_we_die(end, how, wrapped, options, tmp_path):
    tests = str(HERE.parent)
    script = SCRIPT.format(here=str(HERE), tests=tests, how=how, wrapped=wrapped, options=options, end=ENDS[end])
    ours = started_by(script, tmp_path)
    try:
        if ENDS[end] == WAIT:
            # The wrapper, the simulators and the guard; a fork=True original does not have its endpoint as an argument.
            assert len(belong_to(tmp_path)) >= 2
            assert any(name.startswith("ppx-") for name in os.listdir(tmp_path))
            ours.send_signal(getattr(signal, end))
        ours.wait(60)
        assert awaited(lambda: not belong_to(tmp_path)), belong_to(tmp_path)
        assert awaited(lambda: not [name for name in os.listdir(tmp_path) if name.startswith("ppx-")])
    finally:
        ours.kill()
        ours.communicate()
        for process in belong_to(tmp_path):
            process.kill()


def test_simulators_that_we_did_not_start_live_on(tmp_path):
    endpoint = f"ipc://{tmp_path}/theirs.ipc"
    theirs = subprocess.Popen([sys.executable, str(HERE / "remote_programs.py"), "gum", endpoint])
    try:
        script = f"""
            import signal
            import ppl_jax as ppl
            model = ppl.RemoteModel({endpoint!r}, start_timeout=60.0)
            ppl.prior(model, 1, seed=1, progress=False)
            print("ready", flush=True)
            signal.pause()
        """
        for _ in range(2):
            ours = started_by(script, tmp_path)
            ours.kill()
            ours.communicate(timeout=60)
            assert not [name for name in os.listdir(tmp_path) if name.startswith("ppx-")]
        assert theirs.poll() is None
    finally:
        theirs.kill()
        theirs.wait()
