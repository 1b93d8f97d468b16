"""
Children of the supervisor: each in a process group of its own, none outliving it.

Three nets, so that nothing is left behind whatever dies: the supervisor stops its children in order; if it is killed,
the guard does (guard.py); and the kernel sends every child its stop signal when the supervisor is gone (PDEATHSIG).
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from config.devstack.state import PROJECT

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


class Child:
    """A running process and its group; `stop_signal` is what asks it to end in good order."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        cwd: Path = PROJECT,
        **popen: Any,
    ) -> None:
        self.name = name
        self.log = log
        self.stop_signal = stop_signal
        with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env) if env is not None else None,
                cwd=cwd,
                start_new_session=True,
                preexec_fn=dies_with_us(stop_signal),
                umask=0o077,
                **popen,
            )
        self.pid = self.process.pid
        self.started = time.monotonic()

    def is_running(self) -> bool:
        """Look without reaping: a dead leader keeps its number until `bury`, so its group cannot be another's."""
        if self.process.returncode is not None:
            return False
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def ask_to_stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, self.stop_signal)

    def bury(self) -> int:
        """Kill whatever is left of the group and reap the leader; answer its exit status."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()
        return self.process.returncode


def stop_all(children: Sequence[Child], *, within: float) -> None:
    """Ask all to end, wait for them together, kill what did not."""
    for child in children:
        child.ask_to_stop()
    deadline = time.monotonic() + within
    while any(child.is_running() for child in children) and time.monotonic() < deadline:
        time.sleep(0.02)
    for child in children:
        child.bury()


def child_of(parent: int, mark: str) -> int | None:
    """Find the living child of a process whose command line holds `mark`."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            state, of = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(of) == parent and state != "Z" and mark.encode() in (entry / "cmdline").read_bytes():
                return int(entry.name)
    return None


def dies_with_us(stop_signal: signal.Signals) -> Callable[[], None]:
    """Make the function a child runs before exec: no blocked signals, and `stop_signal` when its parent is gone."""
    parent = os.getpid()

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(stop_signal), 0, 0, 0)
        if os.getppid() != parent:  # it went between fork and prctl
            os._exit(1)

    return prepare
