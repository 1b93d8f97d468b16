"""
One EVM node, spoken to by JSON-RPC. The only module that imports web3.

A node may lie, lag or be silent. What it did not answer is `NodeUnavailable`; what it answered with an error is
`NodeRefused`, whose text differs per client and is never branched on alone; a view of the chain that contradicts
itself is `ChainNotTrusted`. None of these moves money.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

TIMEOUT_SECONDS = 10
BATCH = 50


class NodeError(Exception):
    """The node gave no result."""


class NodeUnavailable(NodeError):
    """No answer, or none that can be read: nothing is known about what the node did."""


class NodeRefused(NodeError):
    """The node answered with a JSON-RPC error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class ChainNotTrusted(Exception):
    """The node's view of the chain contradicts itself, or ours: nothing may be decided from it."""


class Block(NamedTuple):
    """A block header; `timestamp` is its time in Unix seconds."""

    number: int
    hash: bytes
    parent: bytes
    timestamp: int


class Heads(NamedTuple):
    """The three blocks that matter, read in an order that cannot make an honest node look wrong."""

    finalized: Block
    safe: Block
    latest: Block


class Node:
    """A node behind a URL."""

    def __init__(self, url: str) -> None:
        from web3 import HTTPProvider  # 1.1 s: only where the chain is spoken to

        self._provider = HTTPProvider(
            url, request_kwargs={"timeout": TIMEOUT_SECONDS}, exception_retry_configuration=None
        )

    def ask(self, method: str, *params: Any) -> Any:
        """
        Ask for the result of one call.

        :raises NodeUnavailable: if no readable answer came
        :raises NodeRefused: if the answer is an error
        """
        try:
            answer = self._provider.make_request(method, list(params))
        except Exception as error:  # requests, urllib3 and json each have their own families
            raise NodeUnavailable(f"{method}: {type(error).__name__}") from error
        return _result_of(answer)

    def ask_many(self, calls: Sequence[tuple[str, list[Any]]]) -> list[Any]:
        """Ask several calls in as few round trips as the node takes; one failing fails all."""
        results: list[Any] = []
        for start in range(0, len(calls), BATCH):
            part = calls[start : start + BATCH]
            try:
                answers: Any = self._provider.make_batch_request(part)  # type: ignore[arg-type]
            except Exception as error:
                raise NodeUnavailable(f"batch: {type(error).__name__}") from error
            if not isinstance(answers, list) or len(answers) != len(part):
                raise NodeUnavailable("batch: the answers do not match the calls")
            results += [_result_of(answer) for answer in sorted(answers, key=lambda answer: answer["id"])]
        return results

    def chain_id(self) -> int:
        return number(self.ask("eth_chainId"))

    def block(self, which: int | str) -> Block | None:
        """The header at a height or tag, None where the node has none."""
        found = self.ask("eth_getBlockByNumber", hex(which) if isinstance(which, int) else which, False)
        return _block(found) if found else None

    def blocks(self, numbers: Iterable[int]) -> list[Block]:
        """
        The headers at these heights.

        :raises NodeUnavailable: if one is missing
        """
        found = self.ask_many([("eth_getBlockByNumber", [hex(height), False]) for height in numbers])
        if not all(found):
            raise NodeUnavailable("a block is missing")
        return [_block(one) for one in found]

    def heads(self) -> Heads:
        """
        The finalized, safe and latest block.

        :raises ChainNotTrusted: if they are not in that order
        """
        found = [self.block(tag) for tag in ("finalized", "safe", "latest")]
        if any(block is None for block in found):
            raise ChainNotTrusted("the node does not know finalized, safe and latest")
        heads = Heads(*found)  # type: ignore[arg-type]
        if not heads.finalized.number <= heads.safe.number <= heads.latest.number:
            raise ChainNotTrusted("finalized, safe and latest are out of order")
        return heads

    def call(self, to: bytes, data: bytes, *, block: int | bytes | str = "latest") -> bytes:
        """What a contract answers; `block` is a tag, a height, or a hash (EIP-1898), which a reorg cannot move."""
        at: Any = block
        if isinstance(block, int):
            at = hex(block)
        elif isinstance(block, bytes):
            at = {"blockHash": text(block), "requireCanonical": True}
        return raw(self.ask("eth_call", {"to": text(to), "data": text(data)}, at))

    def code(self, address: bytes) -> bytes:
        return raw(self.ask("eth_getCode", text(address), "latest"))

    def receipt(self, tx_hash: bytes) -> dict[str, Any] | None:
        """The receipt of a transaction as the node words it, None while it is in no block."""
        found: dict[str, Any] | None = self.ask("eth_getTransactionReceipt", text(tx_hash))
        return found if found and found.get("blockHash") else None

    def transaction_count(self, address: bytes, *, block: int | str = "latest") -> int:
        at = hex(block) if isinstance(block, int) else block
        return number(self.ask("eth_getTransactionCount", text(address), at))

    def gas_balance(self, address: bytes) -> int:
        """The wei an address has to pay for gas."""
        return number(self.ask("eth_getBalance", text(address), "latest"))

    def send(self, raw_transaction: bytes) -> None:
        """Hand over a signed transaction. An error does not prove that the node did not take it."""
        self.ask("eth_sendRawTransaction", text(raw_transaction))


def _result_of(answer: Any) -> Any:
    if not isinstance(answer, dict):
        raise NodeUnavailable("the answer is no JSON-RPC")
    if error := answer.get("error"):
        if isinstance(error, dict):
            raise NodeRefused(int(error.get("code") or 0), str(error.get("message")))
        raise NodeRefused(0, str(error))
    if "result" not in answer:
        raise NodeUnavailable("the answer has no result")
    return answer["result"]


def _block(found: dict[str, Any]) -> Block:
    return Block(number(found["number"]), raw(found["hash"]), raw(found["parentHash"]), number(found["timestamp"]))


def number(value: str) -> int:
    """Read a JSON-RPC quantity."""
    return int(value, 16)


def raw(value: str) -> bytes:
    """Read JSON-RPC data, in whatever spelling."""
    return bytes.fromhex(value[2:])


def text(value: bytes) -> str:
    """Write JSON-RPC data."""
    return "0x" + bytes(value).hex()


_lock = threading.Lock()


@lru_cache(maxsize=4)
def _connected(url: str) -> Node:
    return Node(url)


def connect(url: str) -> Node:
    """The node behind a URL; its connections are kept."""
    with _lock:
        return _connected(url)
