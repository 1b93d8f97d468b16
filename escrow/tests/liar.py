"""
A proxy in front of a node: it answers as the node does until it is told to lie, refuse, cut short or be silent.

    with liar(anvil_url) as proxy:
        proxy.fault("eth_getLogs", "hang")
        proxy.fault("eth_blockNumber", lambda request, answer: {**answer, "result": "0x0"}, times=1)
        proxy.honest()

Single requests and batches, many clients at once, connections that are kept. A fault of one call in a batch that
concerns the whole HTTP answer (rate_limit, hang, truncate) is one of the whole batch.
"""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from eth_hash.auto import keccak

Rewriting = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
HOW = ("refuse", "rate_limit", "hang", "truncate", "error_after_accepting", "drop")
ERROR = {"code": -32000, "message": "the node says no"}


class Silence(Exception):
    """Nothing is answered: the connection ends."""


class Fault:
    """One way to fail, for some calls or until `honest`."""

    def __init__(self, how: str | Rewriting, times: int | None) -> None:
        if not callable(how) and how not in HOW:
            raise ValueError(f"{how!r} is none of {HOW}")
        self.how = how
        self.times = times


class Liar:
    """What the proxy was told, and what it was asked."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream)
        self.url = ""
        self.calls: Counter[str] = Counter()
        self._faults: dict[str, Fault] = {}
        self._lock = threading.Lock()
        self._hanging = threading.Event()
        self._clients: set[socket.socket] = set()

    def fault(self, method: str, how: str | Rewriting, times: int | None = None) -> None:
        """Fail on a method, or on all (`*`), so many times or until `honest`; the last word on a method counts."""
        with self._lock:
            self._faults[method] = Fault(how, times)

    def honest(self) -> None:
        """End every fault; who hangs is cut off."""
        with self._lock:
            self._faults.clear()
            hanging, self._hanging = self._hanging, threading.Event()
        hanging.set()

    def answer(self, body: bytes, forward: Callable[[bytes], bytes]) -> tuple[int, bytes]:
        """The HTTP status and body for a request; `forward` asks the real node."""
        asked = json.loads(body)
        requests = asked if isinstance(asked, list) else [asked]
        hanging = self._hanging  # read first: who is told to hang may miss no `honest` that comes at this moment
        faults = [self._take(request["method"]) for request in requests]
        if "hang" in faults:
            hanging.wait()
            raise Silence
        if "rate_limit" in faults:
            return 429, b"Too Many Requests"
        if any(faults):
            pairs = zip(requests, faults, strict=True)
            answers = [_answer(request, how, forward) for request, how in pairs]
            content = json.dumps(answers if isinstance(asked, list) else answers[0]).encode()
        else:
            content = forward(body)
        return 200, content[: len(content) // 2] if "truncate" in faults else content

    def joined(self, client: socket.socket) -> None:
        with self._lock:
            self._clients.add(client)

    def left(self, client: socket.socket) -> None:
        with self._lock:
            self._clients.discard(client)

    def end(self) -> None:
        self.honest()
        with self._lock:
            for client in self._clients:
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)

    def _take(self, method: str) -> str | Rewriting | None:
        """Count the call, and say how it fails."""
        with self._lock:
            self.calls[method] += 1
            fault = self._faults.get(method) or self._faults.get("*")
            if fault is None or fault.times == 0:
                return None
            if fault.times:
                fault.times -= 1
            return fault.how


@contextmanager
def liar(upstream: str) -> Iterator[Liar]:
    """A proxy in front of the node behind a URL, honest until told otherwise."""
    proxy = Liar(upstream)
    server = _Server(("127.0.0.1", 0), _Handler)
    server.liar = proxy
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        proxy.end()
        thread.join()


def _answer(request: dict[str, Any], how: str | Rewriting | None, forward: Callable[[bytes], bytes]) -> dict[str, Any]:
    frame = {"jsonrpc": "2.0", "id": request.get("id")}
    if how == "refuse":
        return {**frame, "error": ERROR}
    if how == "drop" and request["method"] == "eth_sendRawTransaction":
        return {**frame, "result": "0x" + keccak(bytes.fromhex(request["params"][0][2:])).hex()}
    answer: dict[str, Any] = json.loads(forward(json.dumps(request).encode()))
    if how == "error_after_accepting":
        return {**frame, "error": ERROR}
    return how(request, answer) if callable(how) else answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    liar: Liar


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one packet
    server: _Server

    def setup(self) -> None:
        super().setup()
        self._node: HTTPConnection | None = None
        self.server.liar.joined(self.connection)

    def finish(self) -> None:
        self.server.liar.left(self.connection)
        if self._node:
            self._node.close()
        with suppress(OSError):  # the client is gone
            super().finish()

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            status, content = self.server.liar.answer(body, self._forward)
        except (Silence, OSError, HTTPException):
            self.close_connection = True  # the node behind us is away, or we are to be silent
            return
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass

    def _forward(self, body: bytes) -> bytes:
        node = self._node
        if node is None:
            there = self.server.liar.upstream
            node = self._node = HTTPConnection(str(there.hostname), there.port, timeout=60)
        node.request("POST", self.server.liar.upstream.path or "/", body, {"Content-Type": "application/json"})
        return node.getresponse().read()
