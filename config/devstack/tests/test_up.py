"""One whole stack, started twice on the same state: what `make up` promises."""

import base64
import json
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from config.devstack import anvil, people, ports
from config.devstack.state import PROJECT
from config.devstack.tests.conftest import SERVER_VARIABLES, START_SECONDS, Up, left_of, wait_for

# One worker of the test run: the stack is started once.
pytestmark = pytest.mark.xdist_group("stack")
CELERY = ("worker", "webhooks", "treasury")
APPLICATIONS = {
    "web": "config.wsgi",
    "stream": "config.asgi",
    **{name: f"{name}@bailee" for name in CELERY},
    "beat": " beat ",
}


@pytest.fixture
def stack(up: Up) -> dict[str, Any]:
    return up.wait()


def children(parent: int) -> dict[str, int]:
    """Find the application processes of a supervisor by their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            is_child = (
                entry.name.isdigit() and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent
            )
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode() if is_child else ""
        except OSError:
            continue
        found.update({name: int(entry.name) for name, mark in APPLICATIONS.items() if mark in command})
    return found


def manage(place: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return devstack(place, "manage", *command)


def devstack(place: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    inherited = {name: value for name, value in os.environ.items() if name not in SERVER_VARIABLES}
    return subprocess.run(
        [sys.executable, "-m", "config.devstack", *command],
        cwd=PROJECT,
        env={**inherited, "STATE_DIR": str(place)},
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            return answer.status == 200
    except OSError:
        return False


class TestUp:
    def test_writes_where_everything_is(self, stack: dict[str, Any], up: Up) -> None:
        chain = json.loads((up.place / "chain.json").read_text())

        assert stack["pid"] == up.process.pid
        assert answers(f"{stack['web_url']}/readyz")
        assert answers(f"{stack['stream_url']}/readyz")
        assert not answers(f"{stack['stream_url']}/v1/openapi.json")
        for role in people.ROLES:
            assert set(stack[role]) == {"username", "password", "totp_secret"}
            assert len(base64.b32decode(stack[role]["totp_secret"])) == 20
        assert {"rpc_url", "chain_id", "usdc", "factory", "treasury", "faucet_private_key"} <= set(chain)
        assert int(anvil.call(chain["rpc_url"], "eth_chainId"), 16) == chain["chain_id"]

    def test_keeps_everything_it_writes_to_itself(self, stack: dict[str, Any], up: Up) -> None:
        files = [path for path in up.place.rglob("*") if path.is_file() and "postgres" not in path.parts]

        assert {up.place / "stack.json", up.place / "chain.json"} <= set(files)
        assert [path for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077] == []

    def test_no_secret_stands_in_the_environment_of_a_process(self, stack: dict[str, Any], up: Up) -> None:
        secrets = [path.read_bytes().strip() for path in (up.place / "secrets").iterdir()]
        environments = {name: Path(f"/proc/{pid}/environ").read_bytes() for name, pid in children(stack["pid"]).items()}

        assert set(environments) == set(APPLICATIONS)
        assert [name for name, env in environments.items() if any(secret in env for secret in secrets)] == []

    def test_lends_a_command_its_servers_and_secrets(self, stack: dict[str, Any], up: Up) -> None:
        done = manage(up.place, "check_books", "--full")

        assert (done.returncode, done.stderr) == (0, "")
        assert "ok  all balances sum to zero" in done.stdout

    def test_tells_the_code_of_an_account(self, stack: dict[str, Any], up: Up) -> None:
        done = devstack(up.place, "code", "admin")
        now = time.time()

        assert done.returncode == 0
        around = {people.code_of(stack["admin"]["totp_secret"], at=now - late) for late in (0, 30)}
        assert done.stdout.strip() in around

        unknown = devstack(up.place, "code", "nobody")

        assert (unknown.returncode, unknown.stdout) == (1, "")
        assert "there is no account nobody" in unknown.stderr

    def test_refuses_a_second_one_on_the_same_state(self, stack: dict[str, Any], up: Up) -> None:
        second = Up(up.place)
        status = second.process.wait(60)
        second.output.seek(0)

        assert status == 1
        assert f"another stack (process {stack['pid']}) is running" in second.output.read()
        assert answers(f"{stack['web_url']}/healthz")

    def test_starts_again_whatever_of_the_application_is_killed(self, stack: dict[str, Any]) -> None:
        before = children(stack["pid"])
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)

        def all_are_new() -> bool:
            after = children(stack["pid"])
            return set(after) == set(before) and not set(after.values()) & set(before.values())

        assert wait_for(all_are_new, seconds=20)
        for url in (stack["web_url"], stack["stream_url"]):
            assert wait_for(lambda url=url: answers(f"{url}/readyz"), seconds=60)

    def test_ends_on_term_within_ten_seconds_and_goes_on_from_there(self, stack: dict[str, Any], up: Up) -> None:
        with psycopg.connect(stack["database_url"]) as database:
            database.execute("CREATE TABLE remembered AS SELECT 42 AS answer")
        chain = json.loads((up.place / "chain.json").read_text())
        height = int(anvil.call(chain["rpc_url"], "eth_blockNumber"), 16)

        took = up.stop()

        assert took < 10
        assert up.process.returncode == 0
        assert left_of(up.place) == []
        assert not (up.place / "stack.json").exists()

        again = Up(up.place)
        try:
            resumed = again.wait()
            with psycopg.connect(resumed["database_url"]) as database:
                assert database.execute("SELECT answer FROM remembered").fetchone() == (42,)
            assert int(anvil.call(chain["rpc_url"], "eth_blockNumber"), 16) >= height
            assert json.loads((up.place / "chain.json").read_text()) == chain
            assert resumed["admin"] == stack["admin"]
        finally:
            again.stop()
        assert left_of(up.place) == []


class TestManage:
    def test_needs_a_running_stack(self, tmp_path: Path) -> None:
        done = manage(tmp_path / "nobody", "check_books")

        assert done.returncode == 1
        assert f"no stack is running in {tmp_path / 'nobody'}" in done.stderr


class TestFailedStart:
    @pytest.fixture
    def start(self, tmp_path: Path) -> Callable[..., tuple[int, str]]:
        def start(**env: str) -> tuple[int, str]:
            inherited = {name: value for name, value in os.environ.items() if name not in SERVER_VARIABLES}
            done = subprocess.run(
                [sys.executable, "-m", "config.devstack", "up"],
                cwd=PROJECT,
                env={**inherited, "STATE_DIR": str(tmp_path / "state"), **env},
                capture_output=True,
                text=True,
                timeout=START_SECONDS,
                check=False,
            )
            assert left_of(tmp_path) == []
            return done.returncode, done.stderr.strip()

        return start

    def test_says_which_port_is_taken(self, start: Callable[..., tuple[int, str]]) -> None:
        import socket

        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            taken = other.getsockname()[1]

            status, told = start(PORT=str(taken))

        assert (status, told) == (1, f"The stack did not start. web: port {taken} is in use; set PORT to another")

    def test_names_the_step_that_failed_and_its_log(
        self, start: Callable[..., tuple[int, str]], tmp_path: Path
    ) -> None:
        status, told = start(PORT=str(ports.any_free()), FEE_BPS="a lot")

        assert status == 1
        assert told.startswith("The stack did not start. preparation: failed: settings: ")
        assert "FEE_BPS" in told or "a lot" in told
        assert told.endswith(f"(log: {tmp_path / 'state' / 'logs' / 'preparation.log'})")
        assert "\n" not in told
