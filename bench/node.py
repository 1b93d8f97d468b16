"""
A node of a busy chain that is made up: blocks that follow from each other, full of Transfer logs of one token.

    with running(Chain(blocks=200, logs=300, ours=addresses)) as url: …

It answers what a scan asks (eth_chainId, eth_getBlockByNumber, eth_getLogs with all filters, batches) in the shape and
size of a real node's answers, and refuses more than `most` logs at once, as providers do. Everything follows from the
heights, so two runs read the same chain. `stub_calls` answers how often each method was called.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CHAIN_ID = 8_453
TOKEN = bytes.fromhex("833589fcd6edb6e08f4c7c32d4f71b54bda02913")
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
LOGS_PER_TRANSACTION = 2
SECONDS_PER_BLOCK = 2
FINALIZED_BEHIND, SAFE_BEHIND = 40, 20


class Refused(Exception):
    """An answer that is an error."""


class Chain:
    """
    Blocks 0 to `blocks`, with `logs` transfers in each but the first.

    Every `every`-th transfer goes to one of `ours`; the others are between strangers.
    """

    def __init__(
        self, *, blocks: int, logs: int, ours: Sequence[bytes], every: int = 100, most: int = 10_000, now: int = 0
    ) -> None:
        self.last = blocks
        self.logs = logs
        self.most = most
        self._began = (now or int(time.time())) - SECONDS_PER_BLOCK * blocks
        self._ours, self._every = ours, every
        self._logs = [self._logs_of(height) if height else [] for height in range(blocks + 1)]

    def block(self, which: str, _full: bool = False) -> dict[str, Any] | None:
        behind = {"latest": 0, "safe": SAFE_BEHIND, "finalized": FINALIZED_BEHIND, "earliest": self.last}
        height = max(0, self.last - behind[which]) if which in behind else int(which, 16)
        if height > self.last:
            return None
        return {
            "number": hex(height),
            "hash": self._hash(height),
            "parentHash": self._hash(height - 1) if height else "0x" + "0" * 64,
            "timestamp": hex(self._began + SECONDS_PER_BLOCK * height),
            "logsBloom": "0x" + "f" * 512,
            "gasLimit": hex(240_000_000),
            "gasUsed": hex(60_000 * self.logs),
            "transactions": [_transaction(height, n) for n in range(self.logs // LOGS_PER_TRANSACTION)],
        }

    def matching(self, wanted: dict[str, Any]) -> bytes:
        """The logs that match a filter, as JSON."""
        first, last = int(wanted["fromBlock"], 16), int(wanted["toBlock"], 16)
        if wanted["address"].lower() != _hex(TOKEN) or first > self.last:
            return b"[]"
        choices = [
            None if topic is None else {topic} if isinstance(topic, str) else set(topic) for topic in wanted["topics"]
        ]
        found = [
            text
            for height in range(first, min(last, self.last) + 1)
            for topics, text in self._logs[height]
            if all(choice is None or topic in choice for choice, topic in zip(choices, topics, strict=False))
        ]
        if self.most and len(found) > self.most:
            raise Refused(f"query returned more than {self.most} results")
        return b"[" + b",".join(found) + b"]"

    def _logs_of(self, height: int) -> list[tuple[tuple[str, str, str], bytes]]:
        return [self._log(height, index) for index in range(self.logs)]

    def _log(self, height: int, index: int) -> tuple[tuple[str, str, str], bytes]:
        place = height * self.logs + index
        receiver = _stranger(place * 7 + 1)
        if self._ours and place % self._every == 0:
            receiver = self._ours[place // self._every % len(self._ours)]
        topics = (TRANSFER, _word(_stranger(place)), _word(receiver))
        log = {
            "address": _hex(TOKEN),
            "topics": topics,
            "data": f"0x{1_000_000 + place:064x}",
            "blockNumber": hex(height),
            "transactionHash": _transaction(height, index // LOGS_PER_TRANSACTION),
            "transactionIndex": hex(index // LOGS_PER_TRANSACTION),
            "blockHash": self._hash(height),
            "blockTimestamp": hex(self._began + SECONDS_PER_BLOCK * height),
            "logIndex": hex(index),
            "removed": False,
        }
        return topics, json.dumps(log, separators=(",", ":")).encode()

    def _hash(self, height: int) -> str:
        return _hex(sha256(b"block %d" % height).digest())


def _transaction(height: int, number: int) -> str:
    return _hex(sha256(b"transaction %d of %d" % (number, height)).digest())


def _stranger(number: int) -> bytes:
    return sha256(b"stranger %d" % (number % 50_000)).digest()[:20]


def _word(address: bytes) -> str:
    return _hex(address.rjust(32, b"\0"))


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


# --- over HTTP --------------------------------------------------------------------------------------------------------
class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, chain: Chain) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.chain = chain
        self.calls: Counter[str] = Counter()

    def answer(self, request: dict[str, Any]) -> bytes:
        method, params = request["method"], request["params"]
        self.calls[method] += 1
        head = b'{"jsonrpc":"2.0","id":%d,' % request["id"]
        try:
            return head + b'"result":' + self._result(method, params) + b"}"
        except Refused as refusal:
            return head + b'"error":' + json.dumps({"code": -32005, "message": str(refusal)}).encode() + b"}"

    def _result(self, method: str, params: list[Any]) -> bytes:
        if method == "eth_getLogs":
            return self.chain.matching(*params)
        if method == "eth_getBlockByNumber":
            return json.dumps(self.chain.block(*params)).encode()
        if method == "eth_chainId":
            return json.dumps(hex(CHAIN_ID)).encode()
        if method == "stub_calls":
            return json.dumps(self.calls).encode()
        raise Refused(f"the method {method} does not exist")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if isinstance(asked, list):
            body = b"[" + b",".join(self.server.answer(one) for one in asked) + b"]"
        else:
            body = self.server.answer(asked)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def running(**chain: Any) -> Iterator[str]:
    """The node as a process of its own; answers its URL."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(chain, theirs), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(chain: dict[str, Any], parent: Any) -> None:
    server = Server(Chain(**chain))
    parent.send(server.server_address[1])
    server.serve_forever()
