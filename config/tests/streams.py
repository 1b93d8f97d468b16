"""A stream process of its own, and a client that reads it as an agent's program would: by plain lines."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
from django.conf import settings
from django.db import connection

from config.devstack import applications, ports, processes


class Heard(NamedTuple):
    """An event as it came; `data` is the text."""

    id: str
    type: str
    data: str


class Server:
    """granian with `config.asgi`, started and stopped like the local stack's, against the test database."""

    def __init__(self, log: Path, **env: str) -> None:
        self.log, self.port = log, ports.any_free()
        database = connection.settings_dict
        self.env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "BAILEE_PROCESS": "stream",
            "DATABASE_URL": (
                f"postgres://{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}"
                f"/{database['NAME']}"
            ),
            **env,
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/events/stream"

    def start(self) -> None:
        """Start it and wait until it is ready."""
        table = applications.table(port=0, stream_port=self.port)
        command = next(application.command for application in table if application.name == "stream")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                cwd=settings.BASE_DIR, env=self.env, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=processes.dies_with_us(signal.SIGTERM),
            )  # fmt: skip
        wait_for(lambda: applications.answers(f"http://127.0.0.1:{self.port}/readyz"), seconds=90)

    def kill(self) -> None:
        """Kill all of it where it stands."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> float:
        """Ask it to end; answer how many seconds that took."""
        began = time.monotonic()
        self.process.terminate()
        self.process.wait(30)
        return time.monotonic() - began

    def rss_bytes(self) -> int:
        """Add up what it and its worker hold in memory."""
        [worker] = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[-1:]
        pages = int(Path(f"/proc/{worker}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


class Listener:
    """One open stream; `events` yields what comes until it is cut."""

    def __init__(self, url: str, secret: str, *, last: str = "", seconds: float = 40, **query: str) -> None:
        headers = {"Authorization": f"Bearer {secret}"} | ({"Last-Event-ID": last} if last else {})
        self.http = httpx2.Client(timeout=seconds)
        self._context = self.http.stream("GET", url, headers=headers, params=query)
        self.answer: httpx2.Response = self._context.__enter__()
        self.lines = self.answer.iter_lines()
        self.last = last
        self.comments: list[str] = []
        self.retry = 0

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        self._context.__exit__(None, None, None)
        self.http.close()

    def events(self) -> Iterator[Heard]:
        kind = data = ""
        for line in self.lines:
            field, _, value = line.partition(": ")
            match field:
                case "id":
                    self.last = value
                case "event":
                    kind = value
                case "data":
                    data = value
                case "retry":
                    self.retry = int(value)
                case "" if value:
                    self.comments.append(value)
                case "":
                    if data:
                        yield Heard(self.last, kind, data)
                    kind = data = ""

    def take(self, count: int) -> list[Heard]:
        """Read so many events."""
        events = self.events()
        return [next(events) for _ in range(count)]


def wait_for(condition: Callable[[], object], *, seconds: float) -> None:
    """
    Wait until something is so.

    :raises AssertionError: if it is not in time
    """
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"not within {seconds} s"
        time.sleep(0.05)
