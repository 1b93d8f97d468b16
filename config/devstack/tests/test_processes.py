import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.devstack import processes
from config.devstack.demo import kills
from config.devstack.demo.agents import NeverHappened
from config.devstack.processes import Child
from config.devstack.tests.conftest import left_of, wait_for

SLEEP = "import time; time.sleep(600)"


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    child = Child("sleeper", [sys.executable, "-c", SLEEP, "treasury@here"], log=tmp_path / "log")
    yield child
    child.bury()


class TestChildOf:
    def test_finds_a_child_by_its_command_line(self, child: Child) -> None:
        assert wait_for(lambda: processes.child_of(os.getpid(), "treasury@here") == child.pid)

    def test_does_not_find_the_child_of_another(self, child: Child) -> None:
        assert processes.child_of(child.pid, "treasury@here") is None
        assert processes.child_of(os.getppid(), "treasury@here") is None

    def test_does_not_find_a_dead_one(self, child: Child) -> None:
        assert wait_for(lambda: processes.child_of(os.getpid(), "treasury@here") == child.pid)

        child.process.kill()

        assert wait_for(lambda: not child.is_running())
        assert processes.child_of(os.getpid(), "treasury@here") is None


class TestKills:
    def test_ends_the_whole_group_of_a_leader(self, tmp_path: Path) -> None:
        command = ["sh", "-c", "sleep 600 & exec sleep 600"]
        family = Child("family", command, log=tmp_path / "log", cwd=tmp_path)
        assert wait_for(lambda: len(left_of(tmp_path)) == 2)

        kills.kill(family.pid)

        assert wait_for(lambda: left_of(tmp_path) == [])
        family.bury()

    def test_leaves_a_process_alone_that_leads_no_group(self) -> None:
        process = subprocess.Popen([sys.executable, "-c", SLEEP])
        try:
            with pytest.raises(NeverHappened):
                kills.kill(process.pid)
            assert process.poll() is None
        finally:
            process.kill()
            process.wait()
