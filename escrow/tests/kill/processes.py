"""Treasury processes as they run in production, on the tests' database, and the bell that wakes them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import redis
from celery import Celery
from django.conf import settings
from django.db import connection

from escrow.tests.chain import ROOT, LocalChain

CLAIM_SECONDS = 2
# What beat rings in the treasury's queue.
TASKS = tuple(
    f"escrow.tasks.{name}"
    for name in ("authorize_withdrawals", "relay_transactions", "settle_withdrawals", "sweep_deposits")
)


class TreasuryProcess:
    """A celery worker that holds the keys; `told` is for doomed.py."""

    def __init__(self, chain: LocalChain, *, rpc_url: str, prefix: str, log: Path, told: Mapping[str, str]) -> None:
        self.log = log
        command = [Path(sys.executable).parent / "celery", "--app", "config.celery", "worker"]
        command += ["--include", "escrow.tests.kill.doomed", "--queues", "treasury", "--pool", "solo"]
        command += ["--hostname", f"{log.stem}@{os.getpid()}", "--loglevel", "INFO"]
        command += ["--without-gossip", "--without-mingle"]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=_environment(chain, rpc_url) | {"KILL_QUEUE_PREFIX": prefix} | told,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_running(self) -> bool:
        return self._process.poll() is None

    def was_killed(self) -> bool:
        return self._process.poll() == -signal.SIGKILL

    def kill(self) -> None:
        """Kill it, wherever it is."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ask it to end, as a deployment does."""
        self._process.terminate()
        self._process.wait()

    def last_words(self) -> str:
        return f"{self.log.name}, {self._process.poll()}:\n" + self.log.read_text(errors="replace")[-4_000:]


class Bell:
    """A queue of the treasury's own on the running Redis, and who rings in it."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._redis = redis.Redis.from_url(settings.REDIS_URL)
        self._app = Celery("bell", broker=settings.REDIS_URL, set_as_current=False)
        self._app.conf.broker_transport_options = {"global_keyprefix": prefix}

    def ring(self, times: int = 1) -> None:
        """Ask for every task of the treasury, unless what was asked before is still waiting."""
        if self._redis.llen(f"{self.prefix}treasury"):
            return
        for task in TASKS:
            for _ in range(times):
                self._app.send_task(task, queue="treasury", ignore_result=True)

    def is_silent(self) -> bool:
        """True if nobody is at work any more."""
        return not self._redis.llen(f"{self.prefix}treasury") and not self._redis.hlen(f"{self.prefix}unacked")

    def close(self) -> None:
        self._app.close()
        for key in self._redis.scan_iter(match=f"{self.prefix}*", count=1000):
            self._redis.delete(key)
        self._redis.close()


def _environment(chain: LocalChain, rpc_url: str) -> dict[str, str]:
    """What production would tell the process, but for the names of the tests' own database, chain and keys."""
    apart = ("CHAIN_ID", "USDC_ADDRESS", "DEPOSIT_FACTORY_ADDRESS", "PYTEST_CURRENT_TEST", "DATABASE_URL_FILE")
    return {name: value for name, value in os.environ.items() if name not in apart} | {
        "BAILEE_PROCESS": "treasury",
        "DATABASE_URL": _database_url(),
        "REDIS_URL": settings.REDIS_URL,
        "CHAIN_RPC_URL": rpc_url,
        "STATE_DIR": str(chain.state_dir),
        "KILL_CLAIM_SECONDS": str(CLAIM_SECONDS),
    }


def _database_url() -> str:
    test = connection.settings_dict
    password = f":{quote(test['PASSWORD'], safe='')}" if test["PASSWORD"] else ""
    place = f"{quote(test['HOST'], safe='')}:{test['PORT']}"
    return f"postgres://{quote(test['USER'], safe='')}{password}@{place}/{test['NAME']}"
