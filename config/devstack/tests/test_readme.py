"""The story in the README is run as it stands there, by bash and curl, against a stack of its own."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from config.devstack import ports
from config.devstack.state import PROJECT, State
from config.devstack.tests.conftest import Start, wait_for

START_SECONDS = 120


@pytest.fixture
def running(start: Start, tmp_path: Path) -> dict[str, str]:
    """A whole stack, as `make up` starts it."""
    port = str(ports.remembered(State.at(str(tmp_path)), "web"))
    process = start("up", STATE_DIR=str(tmp_path), PORT=port)
    stack = tmp_path / "stack.json"
    assert wait_for(lambda: stack.exists() or process.poll() is not None, seconds=START_SECONDS)
    assert process.poll() is None, process.stderr.read()
    return {"BAILEE": f"http://127.0.0.1:{port}/v1", "STATE_DIR": str(tmp_path)}


class TestStory:
    def test_runs_and_ends_with_the_seller_paid(self, running: dict[str, str]) -> None:
        story = re.search(r"```bash\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL).group(1)

        told = subprocess.run(
            ["bash", "-c", story],
            cwd=PROJECT,
            env={**os.environ, **running},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

        assert told.returncode == 0, told.stdout + told.stderr
        assert "silence is approval" in told.stdout
        assert told.stdout.splitlines()[-1] == "19.800000"
