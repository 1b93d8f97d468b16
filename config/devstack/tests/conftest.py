import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config.devstack import ports
from config.devstack.state import PROJECT

START_SECONDS = 150
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


class Up:
    """A `python -m config.devstack up` of a test."""

    def __init__(self, place: Path) -> None:
        self.place = place
        inherited = {name: value for name, value in os.environ.items() if name not in SERVER_VARIABLES}
        self.output = (place.parent / "output").open("a+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "config.devstack", "up"],
            cwd=PROJECT,
            env={**inherited, "STATE_DIR": str(place), "PORT": str(ports.any_free())},
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )

    def wait(self) -> dict[str, Any]:
        stack = self.place / "stack.json"
        wait_for(lambda: stack.exists() or self.process.poll() is not None, seconds=START_SECONDS)
        self.output.seek(0)
        assert stack.exists(), self.output.read()
        return json.loads(stack.read_text())

    def stop(self) -> float:
        """Ask it to end; answer how long that took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.output.close()
        return time.monotonic() - began


@pytest.fixture(scope="session")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Up]]:
    """Whole stacks on one state, the last of them running; tests that use one are in one group, on one worker."""
    stacks: list[Up] = []
    yield stacks
    if stacks and stacks[-1].process.poll() is None:
        stacks[-1].stop()


@pytest.fixture
def up(stacks: list[Up], tmp_path_factory: pytest.TempPathFactory) -> Up:
    """A whole stack; the same for every test, until one stops it."""
    if not stacks:
        stacks.append(Up(tmp_path_factory.mktemp("stack") / "a state"))
    elif stacks[-1].process.poll() is not None:
        stacks.append(Up(stacks[-1].place))
    stacks[-1].wait()
    return stacks[-1]
