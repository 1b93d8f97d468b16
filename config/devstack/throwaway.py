"""`servers -- command`: the three servers for the time of one command."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from config.devstack import servers
from config.devstack.failures import StackFailed, Stopped
from config.devstack.processes import dies_with_us
from config.devstack.state import State
from config.devstack.supervisor import Supervisor

PATIENCE_SECONDS = 5.0


def run(command: Sequence[str]) -> int:
    """
    Run a command with `DATABASE_URL`, `REDIS_URL` and `CHAIN_RPC_URL` set; answer its exit status.

    The state directory is temporary unless `STATE_DIR` names one.
    """
    given = os.environ.get("STATE_DIR")
    root = given or tempfile.mkdtemp(prefix="bailee-")
    try:
        supervisor = Supervisor(State.at(root), say=print)
        with supervisor.running():
            if not given:
                supervisor.tell_guard(f"x {root}")
            up = servers.start(supervisor, throwaway=True)
            addresses = {f"{name.upper()}": value for name, value in up._asdict().items()}
            return _run(supervisor, command, env={**os.environ, **addresses, "STATE_DIR": str(supervisor.state.root)})
    except Stopped:
        return 130
    finally:
        if not given:
            shutil.rmtree(Path(root), ignore_errors=True)


def _run(supervisor: Supervisor, command: Sequence[str], *, env: dict[str, str]) -> int:
    # It stays in the terminal's process group, so that Ctrl-C reaches it and a debugger can read.
    try:
        process = subprocess.Popen(command, env=env, preexec_fn=dies_with_us(signal.SIGTERM))
    except OSError as error:
        raise StackFailed.of("servers", f"cannot run {command[0]}: {error.strerror}") from error
    while process.poll() is None:
        try:
            supervisor.pause()
        except Stopped:
            return _end(process)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _end(process: "subprocess.Popen[bytes]") -> int:
    process.terminate()
    try:
        process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return 130
