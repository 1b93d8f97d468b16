"""
One EVM node, spoken to by JSON-RPC. The only module that imports web3.

A node may lie, lag or be silent. What it did not answer, or not in the shape the protocol gives it, is
`NodeUnavailable`; what it answered with an error is `NodeRefused`, whose text differs per client and is never branched
on alone; a view of the chain that contradicts itself is `ChainNotTrusted`. None of these moves money.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

TIMEOUT_SECONDS = 10
BATCH = 50
MOST_BLOCKS = 2**63


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
    """
    The node's view of the chain contradicts itself, or ours: nothing may be decided from it.

    `reason` is a stable word for it, the same for every block and time it happens at.
    """

    def __init__(self, message: str, *, reason: str = "contradiction") -> None:
        super().__init__(message)
        self.reason = reason


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
            if not isinstance(answers, list) or len(_ids(answers)) != len(part) or len(answers) != len(part):
                raise NodeUnavailable("batch: the answers do not match the calls")
            results += [_result_of(answer) for answer in sorted(answers, key=lambda answer: answer["id"])]
        return results

    def chain_id(self) -> int:
        return number(self.ask("eth_chainId"))

    def block(self, which: int | str) -> Block | None:
        """The header at a height or tag, None where the node has none."""
        found = self.ask("eth_getBlockByNumber", hex(which) if isinstance(which, int) else which, False)
        if not found:
            return None
        return _block_at(which, found) if isinstance(which, int) else _block(found)

    def blocks(self, numbers: Iterable[int]) -> list[Block]:
        """
        The headers at these heights.

        :raises NodeUnavailable: if one is missing
        """
        heights = list(numbers)
        found = self.ask_many([("eth_getBlockByNumber", [hex(height), False]) for height in heights])
        if not all(found):
            raise NodeUnavailable("a block is missing")
        return [_block_at(height, one) for height, one in zip(heights, found, strict=True)]

    def heads(self) -> Heads:
        """
        The finalized, safe and latest block.

        :raises ChainNotTrusted: if they are not in that order
        """
        found = [self.block(tag) for tag in ("finalized", "safe", "latest")]
        if any(block is None for block in found):
            raise ChainNotTrusted("the node does not know finalized, safe and latest", reason="no_heads")
        heads = Heads(*found)  # type: ignore[arg-type]
        if not heads.finalized.number <= heads.safe.number <= heads.latest.number:
            raise ChainNotTrusted("finalized, safe and latest are out of order", reason="heads_out_of_order")
        return heads

    def call(self, to: bytes, data: bytes, *, block: int | bytes | str = "latest") -> bytes:
        """What a contract answers; `block` is a tag, a height, or a hash (EIP-1898), which a reorg cannot move."""
        return self.calls([(to, data)], block=block)[0]

    def calls(self, calls: Sequence[tuple[bytes, bytes]], *, block: int | bytes | str = "latest") -> list[bytes]:
        """What contracts answer to (address, data) pairs, all as of one block, in few round trips."""
        at = _at(block)
        asked = [("eth_call", [{"to": text(to), "data": text(data)}, at]) for to, data in calls]
        if len(asked) == 1:
            [(method, params)] = asked
            return [raw(self.ask(method, *params))]
        return [raw(answer) for answer in self.ask_many(asked)]

    def code(self, address: bytes) -> bytes:
        return raw(self.ask("eth_getCode", text(address), "latest"))

    def receipt(self, tx_hash: bytes) -> dict[str, Any] | None:
        """The receipt of a transaction as the node words it, complete; None while it is in no block."""
        found = self.ask("eth_getTransactionReceipt", text(tx_hash))
        if not found or field(found, "blockHash") is None:
            return None
        for name in ("blockNumber", "status"):
            number(field(found, name))
        digest(found["blockHash"])
        if digest(field(found, "transactionHash")) != tx_hash:
            raise NodeUnavailable("the receipt is of another transaction")
        for entry in rows(field(found, "logs")):
            if not isinstance(entry, dict):
                raise NodeUnavailable("a log is no object")
        return dict(found)

    def transaction_count(self, address: bytes, *, block: int | str = "latest") -> int:
        at = hex(block) if isinstance(block, int) else block
        return number(self.ask("eth_getTransactionCount", text(address), at))

    def gas_balance(self, address: bytes) -> int:
        """The wei an address has to pay for gas."""
        return number(self.ask("eth_getBalance", text(address), "latest"))

    def knows(self, tx_hash: bytes) -> bool:
        """Tell whether the node has a transaction, in a block or waiting for one."""
        return self.ask("eth_getTransactionByHash", text(tx_hash)) is not None

    def send(self, raw_transaction: bytes) -> None:
        """Hand over a signed transaction. An error does not prove that the node did not take it."""
        self.ask("eth_sendRawTransaction", text(raw_transaction))


def _ids(answers: list[Any]) -> set[int]:
    """The distinct ids of answers, of those that have one."""
    found = {answer.get("id") for answer in answers if isinstance(answer, dict)}
    return {one for one in found if isinstance(one, int)}


def _result_of(answer: Any) -> Any:
    if not isinstance(answer, dict):
        raise NodeUnavailable("the answer is no JSON-RPC")
    if error := answer.get("error"):
        if isinstance(error, dict):
            code = error.get("code")
            raise NodeRefused(code if isinstance(code, int) else 0, str(error.get("message")))
        raise NodeRefused(0, str(error))
    if "result" not in answer:
        raise NodeUnavailable("the answer has no result")
    return answer["result"]


def _at(block: int | bytes | str) -> Any:
    if isinstance(block, int):
        return hex(block)
    if isinstance(block, bytes):
        return {"blockHash": text(block), "requireCanonical": True}
    return block


def _block(found: Any) -> Block:
    height = number(field(found, "number"))
    if height >= MOST_BLOCKS:
        raise NodeUnavailable("the height of a block is unreadable")
    return Block(
        height,
        digest(field(found, "hash")),
        digest(field(found, "parentHash")),
        number(field(found, "timestamp")),
    )


def _block_at(height: int, found: Any) -> Block:
    block = _block(found)
    if block.number != height:
        raise ChainNotTrusted("the node showed a block of another height", reason="other_height")
    return block


# --- reading what a node wrote: what is not as the protocol says is as good as no answer ------------------------------
_QUANTITY = re.compile("0[xX][0-9a-fA-F]{1,64}")
_DATA = re.compile("0[xX](?:[0-9a-fA-F]{2})*")


def field(found: Any, name: str) -> Any:
    """
    A member of a JSON object.

    :raises NodeUnavailable: if it has none of that name
    """
    if not isinstance(found, dict) or name not in found:
        raise NodeUnavailable(f"the answer has no {name}")
    return found[name]


def rows(found: Any) -> list[Any]:
    """
    A JSON array.

    :raises NodeUnavailable: if it is something else
    """
    if not isinstance(found, list):
        raise NodeUnavailable("the answer is no list")
    return found


def number(value: Any) -> int:
    """
    Read a JSON-RPC quantity.

    :raises NodeUnavailable: if it is none
    """
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise NodeUnavailable("a quantity is unreadable")
    return int(value, 16)


def raw(value: Any) -> bytes:
    """
    Read JSON-RPC data, in whatever spelling.

    :raises NodeUnavailable: if it is none
    """
    if not isinstance(value, str) or not _DATA.fullmatch(value):
        raise NodeUnavailable("data are unreadable")
    return bytes.fromhex(value[2:])


def digest(value: Any) -> bytes:
    """
    Read a hash or another word of 32 bytes.

    :raises NodeUnavailable: if it is none
    """
    found = raw(value)
    if len(found) != 32:
        raise NodeUnavailable("a hash is unreadable")
    return found


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
