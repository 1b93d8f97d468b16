"""The story in the README is run as it stands there, by bash and curl, against a running stack."""

import os
import re
import subprocess

import pytest

from config.devstack.state import PROJECT
from config.devstack.tests.conftest import Up

pytestmark = pytest.mark.xdist_group("stack")


class TestStory:
    def test_runs_and_ends_with_the_seller_paid(self, up: Up) -> None:
        running = {"BAILEE": f"{up.wait()['web_url']}/v1", "STATE_DIR": str(up.place)}
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
