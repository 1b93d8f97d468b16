"""A receiver of webhooks on this machine, which answers as a test wants it to."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Post(NamedTuple):
    """One request as it came in."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


class Reply(NamedTuple):
    """What the receiver says, and after how many seconds."""

    status: int = 200
    headers: dict[str, str] = {}
    after_seconds: float = 0.0


class Receiver:
    """What came in, in order; `most_at_once` by path."""

    def __init__(self, reply: Callable[[Post], Reply]) -> None:
        self.reply = reply
        self.posts: list[Post] = []
        self.most_at_once: Counter[str] = Counter()
        self.released = threading.Event()
        self._now: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def ids(self, path: str | None = None) -> list[str]:
        return [post.id for post in self.posts if path in (None, post.path)]

    def in_flight(self, path: str) -> int:
        with self._lock:
            return self._now[path]

    def take(self, post: Post) -> Reply:
        with self._lock:
            self._now[post.path] += 1
            self.most_at_once[post.path] = max(self.most_at_once[post.path], self._now[post.path])
            self.posts.append(post)
        try:
            reply = self.reply(post)
            if reply.after_seconds:  # or until the test is over, or lets go
                self.released.wait(reply.after_seconds)
            return reply
        finally:
            with self._lock:
                self._now[post.path] -= 1

    def wait_for(self, count: int, *, path: str | None = None, within_seconds: float = 20.0) -> None:
        end = time.monotonic() + within_seconds
        while len(self.ids(path)) < count:
            assert time.monotonic() < end, f"{len(self.ids(path))} posts of {count}"
            time.sleep(0.01)


@contextmanager
def receiving(reply: Callable[[Post], Reply] = lambda post: Reply()) -> Iterator[Receiver]:
    """Listen on a port of loopback for the time of a test."""
    receiver = Receiver(reply)
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.released.set()
        receiver.server.shutdown()
        receiver.server.server_close()


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            reply = receiver.take(Post(self.path, headers, body))
            try:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()
            except OSError:  # the caller has gone
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
