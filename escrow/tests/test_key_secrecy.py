"""Keys stay where they are: not in an environment, a log, an exception that travels, nor the database."""

import base64
import json
import os
import pickle
import secrets
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from billiard.einfo import ExceptionInfo
from celery import current_app
from django.db import connection
from eth_account import Account

from escrow.tests import signing_tasks
from escrow.tests.treasury import run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def passphrase(chain) -> str:
    return (chain.state_dir / "keys" / "passphrase").read_text().rstrip("\n")


@pytest.fixture
def secret_words(chain, passphrase) -> list[bytes]:
    """Every way a key or the passphrase could be written."""
    words = [passphrase.encode()]
    for path in sorted((chain.state_dir / "keys").glob("*.json")):
        key = bytes(Account.decrypt(json.loads(path.read_text()), passphrase))
        number = int.from_bytes(key, "big")
        texts = [key.hex(), key.hex().upper(), str(number), base64.b64encode(key).decode().rstrip("="), repr(key)[2:-1]]
        words += [key, key[::-1], *(text.encode() for text in texts)]
    assert len(words) >= 1 + 3 * 7  # the treasury's and two relayers'
    return words


def found_in(content: bytes, words: list[bytes]) -> list[bytes]:
    return [word for word in words if word in content]


# --- the process ------------------------------------------------------------------------------------------------------
class Worker:
    """A real treasury worker of Celery, which forks, with a queue of its own."""

    def __init__(self, queue: str, log: Path, process: subprocess.Popen) -> None:
        self.queue, self.log, self.process = queue, log, process

    def ask(self, task, *arguments: str) -> None:
        current_app.send_task(task.name, args=arguments, queue=self.queue)

    def wait_for(self, words: str) -> str:
        """The line of its log that holds these words."""
        for _ in range(1200):
            for line in self.log.read_text().splitlines():
                if words in line:
                    return line
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(f"never said {words}:\n{self.log.read_text()}")

    def pids(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [self.process.pid, *map(int, children.split())]


@pytest.fixture(params=["descriptor", "file"])
def worker(request, chain, passphrase, settings, tmp_path):
    with a_worker(chain, settings, tmp_path, passphrase if request.param == "descriptor" else "") as worker:
        yield worker


@contextmanager
def a_worker(chain, settings, tmp_path: Path, piped: str):
    keys, queue, log = chain.state_dir / "keys", f"treasury-{secrets.token_hex(8)}", tmp_path / "log"
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "BAILEE_PROCESS": "treasury",
        "LOG_LEVEL": "DEBUG",
        "STATE_DIR": str(chain.state_dir),
        "TREASURY_KEYSTORE": str(keys / "treasury.json"),
        "RELAYER_KEYSTORES": f"{keys / 'relayer-1.json'},{keys / 'relayer-2.json'}",
        "TREASURY_PASSPHRASE_FILE": "" if piped else str(keys / "passphrase"),
    }
    read, write = os.pipe()
    if piped:
        environment["TREASURY_PASSPHRASE_FD"] = str(read)
        os.write(write, piped.encode() + b"\n")
    os.close(write)
    command = [
        *(str(Path(sys.executable).parent / "celery"), "--app", "config.celery", "worker"),
        *("--include", "escrow.tests.signing_tasks", "--queues", queue, "--hostname", f"{queue}@test"),
        *("--pool", "prefork", "--concurrency", "1", "--loglevel", "DEBUG"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, pass_fds=[read]
        )
    os.close(read)
    try:
        yield Worker(queue, log, process)
    finally:
        process.terminate()
        process.wait(timeout=20)


class TestTreasuryProcess:
    def test_shows_its_keys_to_nobody(self, chain, worker, secret_words):
        """Its environment and command line, and all it logs at the lowest level, with a traceback out of signing."""
        worker.ask(signing_tasks.sign, "first")
        first = worker.wait_for("said=first")
        worker.ask(signing_tasks.fail_inside)
        worker.wait_for("ZeroDivisionError")
        worker.ask(signing_tasks.fail_inside_and_tell)
        worker.wait_for("told where it was caught")
        worker.ask(signing_tasks.sign, "second")
        worker.wait_for("said=second")

        assert f"signer={chain.treasury.hex()}" in first
        assert len(worker.pids()) >= 2
        for pid in worker.pids():
            shown = b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("environ", "cmdline"))
            assert b"BAILEE_PROCESS=treasury" in shown
            assert found_in(shown, secret_words) == []
        logged = worker.log.read_bytes()
        assert logged.count(b"break_at_the_key") >= 2  # the tracebacks reach down to it
        assert found_in(logged, secret_words) == []

    def test_signs_on_after_its_child_was_killed(self, chain, worker):
        """The passphrase came by a pipe that is empty now: the new child has the keys from the one that forked it."""
        worker.ask(signing_tasks.sign, "first")
        first = worker.wait_for("said=first")
        worker.ask(signing_tasks.die)
        worker.ask(signing_tasks.sign, "second")
        second = worker.wait_for("said=second")

        assert f"signer={chain.treasury.hex()}" in second
        assert first.split("pid=")[1].split()[0] != second.split("pid=")[1].split()[0]


# --- what travels and what stays --------------------------------------------------------------------------------------
@pytest.fixture
def keystore(chain):
    from escrow.signing import keystore

    keystore._opened.clear()
    keystore._passphrases.clear()
    yield keystore
    keystore._opened.clear()
    keystore._passphrases.clear()


class TestExceptions:
    def test_out_of_signing_travel_without_keys(self, chain, keystore, secret_words):
        """As Celery sends them from the child that worked to the worker that logs, cause and traceback included."""
        with pytest.raises(ZeroDivisionError) as raised:
            signing_tasks.fail_inside()
        information = ExceptionInfo((raised.type, raised.value, raised.tb))

        sent = pickle.dumps((information, information.exception, information.traceback))

        assert b"break_at_the_key" in sent
        assert found_in(sent, secret_words) == []

    def test_of_a_key_that_does_not_open_travel_without_keys(self, chain, keystore, settings, tmp_path, secret_words):
        wrong = tmp_path / "passphrase"
        wrong.write_text(secrets.token_urlsafe(32))
        wrong.chmod(0o600)
        settings.TREASURY_PASSPHRASE_FILE = str(wrong)

        with pytest.raises(keystore.KeyRefused) as raised:
            keystore.sign_digest(chain.treasury, bytes(32))
        information = ExceptionInfo((raised.type, raised.value, raised.tb))
        sent = pickle.dumps((information, information.traceback, str(raised.value)))

        assert b"passphrase is another" in sent
        assert found_in(sent, [*secret_words, wrong.read_bytes()]) == []


class TestDatabase:
    def test_holds_no_key_after_a_payout(self, chain, rich, ask, secret_words):
        withdrawal = ask()
        run(chain)
        withdrawal.refresh_from_db()
        assert withdrawal.state == "settled"

        content = everything_in_the_database()

        # What has to be there is found, so what is not found is not there.
        there = [chain.treasury.hex().encode(), bytes(withdrawal.tx_hash).hex().encode()]
        assert found_in(content, there) == there
        assert b"withdrawal.settled" in content
        assert found_in(content, secret_words) == []


def everything_in_the_database() -> bytes:
    """Every row of every table as text; bytes are in hexadecimal."""
    rows = []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT quote_ident(relname) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        tables = [table for (table,) in cursor.fetchall()]
        assert len(tables) > 30
        for table in tables:
            cursor.execute(f"SELECT t::text FROM {table} t")
            rows += [row for (row,) in cursor.fetchall()]
    return "\n".join(rows).encode()
