import os
import signal
import stat
from pathlib import Path

from config.devstack.tests.conftest import Start, left_of, wait_for

ASK = """
import os, sys, psycopg, redis
from config.devstack import anvil
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    connection.execute("SET session_replication_role = replica")
    fsync, connections = (connection.execute(f"SHOW {name}").fetchone()[0] for name in ("fsync", "max_connections"))
redis.Redis.from_url(os.environ["REDIS_URL"]).ping()
chain = int(anvil.call(os.environ["CHAIN_RPC_URL"], "eth_chainId"), 16)
print(fsync, connections, chain)
sys.exit(7)
"""


class TestServers:
    def test_gives_three_servers_to_the_command_and_answers_its_exit_status(self, start: Start, tmp_path: Path) -> None:
        run = start("servers", "--", "python3", "-c", ASK, TMPDIR=str(tmp_path), PYTHONPATH=os.getcwd(), **_python())

        out, err = run.communicate(timeout=60)

        assert (out.split(), run.returncode) == (["off", "400", "31337"], 7), err
        assert list(tmp_path.iterdir()) == []
        assert left_of(tmp_path) == []

    def test_keeps_a_named_state_closed_to_others(self, start: Start, tmp_path: Path) -> None:
        place = tmp_path / "a named state"
        run = start("servers", "--", "true", STATE_DIR=str(place))
        _, err = run.communicate(timeout=60)

        assert run.returncode == 0, err
        open_files = [path for path in place.rglob("*") if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077]
        assert open_files == []
        assert left_of(place) == []

    def test_ends_everything_on_term(self, start: Start, tmp_path: Path) -> None:
        place = tmp_path / "state"
        run = start("servers", "--", "sh", "-c", f"touch '{tmp_path}/begun'; exec sleep 600", STATE_DIR=str(place))
        assert wait_for((tmp_path / "begun").exists, seconds=60)

        run.send_signal(signal.SIGTERM)

        assert run.wait(10) == 130
        assert left_of(place) == []

    def test_leaves_nothing_after_kill_minus_nine(self, start: Start, tmp_path: Path) -> None:
        run = start("servers", "--", "sh", "-c", f"touch '{tmp_path}/begun'; exec sleep 600", TMPDIR=str(tmp_path))
        assert wait_for((tmp_path / "begun").exists, seconds=60)

        run.kill()

        assert wait_for(lambda: left_of(tmp_path) == [], seconds=10), left_of(tmp_path)
        assert wait_for(lambda: [path.name for path in tmp_path.iterdir()] == ["begun"], seconds=5)

    def test_uses_the_servers_it_is_given(self, start: Start, tmp_path: Path) -> None:
        given = {name: os.environ[name] for name in ("DATABASE_URL", "REDIS_URL", "CHAIN_RPC_URL")}
        run = start("servers", "--", "sh", "-c", "echo $DATABASE_URL $REDIS_URL $CHAIN_RPC_URL", **given)

        out, err = run.communicate(timeout=60)

        assert out.split() == list(given.values()), err

    def test_says_in_one_line_which_server_does_not_answer(self, start: Start, tmp_path: Path) -> None:
        run = start("servers", "--", "true", STATE_DIR=str(tmp_path), REDIS_URL="redis://127.0.0.1:1/0")

        _, err = run.communicate(timeout=60)

        assert run.returncode == 1
        assert err.strip() == "The stack did not start. REDIS_URL: the server named by it does not answer"
        assert left_of(tmp_path) == []


def _python() -> dict[str, str]:
    import sys

    return {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
