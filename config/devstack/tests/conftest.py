import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config.devstack.state import PROJECT

SERVER_VARIABLES = ("DATABASE_URL", "REDIS_URL", "CHAIN_RPC_URL", "STATE_DIR", "PORT")

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `python -m config.devstack …` with servers of its own, whatever this test run stands on."""
    started = []

    def start(*arguments: str, **env: str) -> "subprocess.Popen[str]":
        inherited = {name: value for name, value in os.environ.items() if name not in SERVER_VARIABLES}
        process = subprocess.Popen(
            [sys.executable, "-m", "config.devstack", *arguments],
            cwd=PROJECT,
            env={**inherited, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        process.stdout.close()
        process.stderr.close()


def left_of(directory: Path) -> list[str]:
    """Name every living process that was started for a directory: by its arguments, environment, or open place."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            traces = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
            place = str((entry / "cwd").readlink())
        except OSError:
            continue
        if str(directory).encode() in traces or place.startswith(str(directory)):
            found.append(traces.partition(b"\0\0")[0].replace(b"\0", b" ").decode(errors="replace")[:160])
    return found


def wait_for(condition: Callable[[], object], *, seconds: float = 20) -> bool:
    """Wait until something is so; answer whether it came true in time."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if condition():
            return True
        time.sleep(0.05)
    return bool(condition())
