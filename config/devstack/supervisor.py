"""The supervisor: starts children in order, watches them, stops them in the opposite order."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from config.devstack import processes
from config.devstack.failures import StackFailed, Stopped, last_line
from config.devstack.processes import Child
from config.devstack.state import State

STEP_SECONDS = 0.05
# After a child died it starts again at once; one that dies again and again waits longer each time.
BACKOFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 5.0)
STEADY_SECONDS = 30.0


class Supervisor:
    """The parent of everything in one state directory. Starts children from the main thread only (PDEATHSIG)."""

    def __init__(self, state: State, *, say: Callable[[str], None], patience: float = 6.0) -> None:
        self.state = state
        self.say = say
        # How long children may take to end in good order; with the servers' half of it: under 10 s in all.
        self.patience = patience
        self.asked_to_stop = False
        self.layers: list[dict[str, Child]] = []
        self.recipes: dict[str, Callable[[], Child]] = {}
        self.deaths: dict[str, int] = {}
        self.due: dict[str, float] = {}
        self.guard: subprocess.Popen[str] | None = None

    # --- its life ---------------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def running(self) -> Iterator["Supervisor"]:
        """Own the state directory; whatever happens inside, nothing runs when this is left."""
        self.state.lock()
        handlers = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        self.guard = self._start_guard()
        try:
            yield self
        finally:
            self.stop()
            self.guard.stdin.close()  # type: ignore[union-attr]
            self.guard.wait()
            for number, handler in handlers.items():
                signal.signal(number, handler)
            os.close(self.state.lock_fd)

    def _on_signal(self, number: int, frame: object) -> None:
        self.asked_to_stop = True

    def _start_guard(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("guard.py")), str(self.patience)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            start_new_session=True,
            pass_fds=[self.state.lock_fd],
        )

    def tell_guard(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.guard.stdin.write(f"{line}\n")  # type: ignore[union-attr]

    def pause(self, seconds: float = STEP_SECONDS) -> None:
        """Wait a little; the place where a wish to stop is heard.

        :raises Stopped: if someone asked to stop
        """
        if self.asked_to_stop:
            raise Stopped
        time.sleep(seconds)

    # --- starting ---------------------------------------------------------------------------------------------------
    def layer(self) -> None:
        """Open a layer: what starts from here stops before everything that was started earlier."""
        self.layers.append({})

    def start(self, name: str, recipe: Callable[[], Child]) -> Child:
        """Start a child that is started again, by the same recipe, when it dies."""
        self.recipes[name] = recipe
        return self._adopt(recipe())

    def _adopt(self, child: Child) -> Child:
        layer = next((known for known in self.layers if child.name in known), self.layers[-1])
        layer[child.name] = child
        self.tell_guard(f"+ {child.pid} {int(child.stop_signal)}")
        return child

    def wait_until(self, child: Child, ready: Callable[[], bool], *, within: float) -> None:
        """
        Wait until a child answers.

        :raises StackFailed: if it ends first, or does not answer in time
        """
        give_up = time.monotonic() + within
        while not ready():
            if not child.is_running():
                raise StackFailed.of(child.name, f"ended at start: {last_line(child.log)}", log=child.log)
            if time.monotonic() > give_up:
                raise StackFailed.of(
                    child.name, f"no answer within {within:.0f} s: {last_line(child.log)}", log=child.log
                )
            self.pause()

    def run(
        self, name: str, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, **how: Any
    ) -> None:
        """
        Run a command to its end.

        :raises StackFailed: if it fails
        """
        log = self.state.log(name)
        log.unlink(missing_ok=True)
        child = self._adopt(Child(name, command, log=log, env=env, **how))
        while child.is_running():
            self.pause()
        if self._let_go(child) != 0:
            raise StackFailed.of(name, f"failed: {last_line(log)}", log=log)

    def _let_go(self, child: Child) -> int:
        status = child.bury()
        self.tell_guard(f"- {child.pid}")
        for layer in self.layers:
            if layer.get(child.name) is child:
                del layer[child.name]
        return status

    # --- watching ---------------------------------------------------------------------------------------------------
    def watch(self) -> None:
        """Start again whatever died: one turn."""
        now = time.monotonic()
        for layer in self.layers:
            for name, child in list(layer.items()):
                if name in self.due:
                    if now >= self.due[name]:
                        del self.due[name]
                        self._adopt(self.recipes[name]())
                elif not child.is_running():
                    self._note_death(child, now)

    def _note_death(self, child: Child, now: float) -> None:
        status = child.bury()
        self.tell_guard(f"- {child.pid}")
        lived = now - child.started
        count = self.deaths[child.name] = 0 if lived > STEADY_SECONDS else self.deaths.get(child.name, -1) + 1
        wait = BACKOFF_SECONDS[min(count, len(BACKOFF_SECONDS) - 1)]
        self.due[child.name] = now + wait
        how = f"killed by signal {-status}" if status < 0 else f"exit {status}"
        self.say(f"{child.name} died ({how}); starting it again{f' in {wait:g} s' if wait else ''} (log: {child.log})")

    # --- stopping ---------------------------------------------------------------------------------------------------
    def stop(self) -> None:
        """Stop every child, the newest layer first."""
        seconds = self.patience
        while self.layers:
            layer = self.layers.pop()
            processes.stop_all(list(layer.values()), within=seconds)
            for child in layer.values():
                self.tell_guard(f"- {child.pid}")
            seconds = self.patience / 2
