import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.devstack.failures import StackFailed
from config.devstack.processes import Child
from config.devstack.state import PROJECT, State
from config.devstack.supervisor import Supervisor
from config.devstack.tests.conftest import left_of, wait_for

# A leader with a grandchild in its group, both named by the state directory.
FAMILY = "sleep 600 & echo $! > {place}/grandchild; exec sleep 600"


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State.at(str(tmp_path / "a state"))


@pytest.fixture
def supervisor(state: State) -> Iterator[Supervisor]:
    with Supervisor(state, say=lambda line: None).running() as supervisor:
        supervisor.layer()
        yield supervisor


def sleeper(state: State, name: str = "sleeper", script: str = "exec sleep 600", **env: str) -> Child:
    return Child(name, ["sh", "-c", script], log=state.log(name), env={**os.environ, "PLACE": str(state.root), **env})


class TestRunning:
    def test_leaves_nothing_when_it_is_left(self, state: State) -> None:
        with Supervisor(state, say=print).running() as supervisor:
            supervisor.layer()
            supervisor.start("family", lambda: sleeper(state, "family", FAMILY.format(place=f'"{state.root}"')))
            assert wait_for((state.root / "grandchild").exists)
            assert len(left_of(state.root)) >= 2

        assert left_of(state.root) == []

    def test_leaves_nothing_when_its_body_fails(self, state: State) -> None:
        with contextlib.suppress(ZeroDivisionError), Supervisor(state, say=print).running() as supervisor:
            supervisor.layer()
            supervisor.start("sleeper", lambda: sleeper(state))
            raise ZeroDivisionError

        assert left_of(state.root) == []

    def test_a_child_that_will_not_hear_is_killed(self, state: State) -> None:
        deaf = "trap '' TERM; while :; do sleep 1; done"
        with Supervisor(state, say=print, patience=1).running() as supervisor:
            supervisor.layer()
            supervisor.start("deaf", lambda: sleeper(state, "deaf", deaf))
            wait_for(lambda: len(left_of(state.root)) >= 2)
            before = time.monotonic()

        assert time.monotonic() - before < 3
        assert left_of(state.root) == []

    def test_a_second_one_in_the_same_directory_is_refused(self, supervisor: Supervisor, state: State) -> None:
        second = Supervisor(State(state.root), say=print)

        with pytest.raises(StackFailed, match="another stack"), second.running():
            pass

    def test_its_place_is_free_again_afterwards(self, state: State) -> None:
        for _ in range(2):
            with Supervisor(State(state.root), say=print).running() as supervisor:
                assert supervisor.state.lock_fd > 0


class TestKilled:
    PROGRAM = """
import sys
from pathlib import Path
from config.devstack.processes import Child
from config.devstack.state import State
from config.devstack.supervisor import Supervisor
state = State.at(sys.argv[1])
with Supervisor(state, say=print, patience=1).running() as supervisor:
    supervisor.layer()
    supervisor.start("family", lambda: Child("family", ["sh", "-c", sys.argv[2]], log=state.log("family")))
    print("up", flush=True)
    while True:
        supervisor.pause()
"""

    @pytest.mark.parametrize(
        "script",
        [FAMILY, "trap '' TERM; touch {place}/grandchild; while :; do sleep 1; done"],
        ids=["a family", "a child that ignores TERM"],
    )
    def test_kill_minus_nine_leaves_nothing_and_the_place_free(self, state: State, script: str) -> None:
        script = script.format(place=f'"{state.root}"')
        process = subprocess.Popen(
            [sys.executable, "-c", self.PROGRAM, str(state.root), script],
            cwd=PROJECT,
            env={**os.environ, "STATE_DIR": str(state.root)},
            stdout=subprocess.PIPE,
        )
        assert process.stdout.readline() == b"up\n"
        assert wait_for((state.root / "grandchild").exists)

        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()

        assert wait_for(lambda: left_of(state.root) == [], seconds=10), left_of(state.root)
        with Supervisor(state, say=print).running():
            pass


class TestWatch:
    def test_starts_again_what_was_killed_and_says_so(self, state: State) -> None:
        said: list[str] = []
        with Supervisor(state, say=said.append).running() as supervisor:
            supervisor.layer()
            first = supervisor.start("sleeper", lambda: sleeper(state))
            os.kill(first.pid, signal.SIGKILL)

            assert wait_for(lambda: supervisor.watch() or supervisor.layers[0]["sleeper"].pid != first.pid)
            assert supervisor.layers[0]["sleeper"].is_running()

        assert "sleeper died (killed by signal 9)" in said[0]
        assert left_of(state.root) == []

    def test_ends_the_rest_of_a_dead_group_first(self, supervisor: Supervisor, state: State) -> None:
        child = supervisor.start("family", lambda: sleeper(state, "family", FAMILY.format(place=f'"{state.root}"')))
        assert wait_for(lambda: (state.root / "grandchild").exists() and (state.root / "grandchild").read_text())
        grandchild = int((state.root / "grandchild").read_text())
        os.kill(child.pid, signal.SIGKILL)

        supervisor.recipes["family"] = lambda: sleeper(state, "family")
        assert wait_for(lambda: supervisor.watch() or supervisor.layers[0]["family"].pid != child.pid)

        assert wait_for(lambda: not Path(f"/proc/{grandchild}/cmdline").exists(), seconds=5)

    def test_waits_longer_for_one_that_dies_again_and_again(self, supervisor: Supervisor, state: State) -> None:
        supervisor.start("hasty", lambda: sleeper(state, "hasty", "exit 3"))
        waits = []

        for _ in range(3):
            assert wait_for(lambda: supervisor.watch() or "hasty" in supervisor.due)
            waits.append(supervisor.due["hasty"] - time.monotonic())
            supervisor.due["hasty"] = 0

            supervisor.watch()

        assert waits[0] < waits[1] < waits[2]


class TestRun:
    def test_a_command_that_fails_is_named_with_its_reason_and_its_log(
        self, supervisor: Supervisor, state: State
    ) -> None:
        with pytest.raises(StackFailed) as failure:
            supervisor.run("migrate", ["sh", "-c", "echo fine; echo 'Error: no such table'; echo bye; exit 1"])

        assert str(failure.value) == f"migrate: failed: Error: no such table (log: {state.log('migrate')})"

    def test_a_child_that_ends_before_it_is_ready_is_named(self, supervisor: Supervisor, state: State) -> None:
        child = supervisor.start("broken", lambda: sleeper(state, "broken", "echo 'FATAL: no memory'; exit 1"))

        with pytest.raises(StackFailed, match="broken: ended at start: FATAL: no memory"):
            supervisor.wait_until(child, lambda: False, within=20)
