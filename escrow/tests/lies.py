"""What a node may answer instead of the truth: each lie by name, as the method it is told on and how."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

from escrow.chain import rpc, usdc
from escrow.tests.chain import LocalChain
from escrow.tests.liar import Liar, Rewriting

BLOCK, LOGS, RECEIPT, CALL = "eth_getBlockByNumber", "eth_getLogs", "eth_getTransactionReceipt", "eth_call"
SENT = "eth_sendRawTransaction"
YEARS = 10 * 365 * 86_400
MANY = 1_000_000 * 10**6
STRANGER = b"\x57" * 20
ELSEWHERE = "0x" + "77" * 32
# What no field of JSON-RPC may be; None and the empty list are lies of their own where they would be true.
JUNK: dict[str, Any] = {
    "null": None,
    "nothing": "",
    "an empty number": "0x",
    "no number": "0xzz",
    "words": "the node is sorry",
    "a number": 7,
    "a boolean": True,
    "a list": ["0x1"],
    "an object": {"a": "0x1"},
    "an endless number": "0x" + "f" * 5_000,
}
HUGE = "0x" + "f" * 64


class Lie(NamedTuple):
    name: str
    method: str
    how: str | Rewriting

    def is_told_by(self, proxy: Liar) -> None:
        proxy.fault(self.method, self.how)


# --- how to rewrite an answer -----------------------------------------------------------------------------------------
def result(value: Any) -> Rewriting:
    """Always answer this."""
    return lambda _, answer: {**answer, "result": value}


def told(change: Callable[[Any], Any]) -> Rewriting:
    """Change what there is; errors and nulls stay."""

    def rewrite(_: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if not answer.get("result"):
            return answer
        return {**answer, "result": change(copy.deepcopy(answer["result"]))}

    return rewrite


def put(**fields: Any) -> Callable[[Any], Any]:
    """Put values into an object; a function gets the value that was there."""

    def change(found: dict[str, Any]) -> dict[str, Any]:
        values = {name: value(found[name]) if callable(value) else value for name, value in fields.items()}
        return {**found, **values}

    return change


def without(name: str) -> Callable[[Any], Any]:
    return lambda found: {key: value for key, value in found.items() if key != name}


def each(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda found: [change(one) for one in found]


def logs_in(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Change the logs of a receipt."""
    return lambda found: {**found, "logs": [change(one) for one in found["logs"]]}


def plus(amount: int) -> Callable[[str], str]:
    return lambda value: hex(max(0, int(value, 16) + amount))


def at_tag(tag: str, change: Callable[[Any], Any]) -> Rewriting:
    """Lie about one of latest, safe and finalized alone."""
    rewrite = told(change)
    return lambda request, answer: rewrite(request, answer) if request["params"][0] == tag else answer


def at_tags(change: Callable[[Any], Any]) -> Rewriting:
    """Lie about all of latest, safe and finalized."""
    rewrite = told(change)
    return lambda request, answer: answer if request["params"][0].startswith("0x") else rewrite(request, answer)


def word(function: str, value: int) -> Rewriting:
    """Let one function of every contract answer this number."""
    selector = rpc.text(usdc._selector(function))

    def rewrite(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        asked = request["params"][0]
        wanted = (asked.get("data") or asked.get("input") or "").startswith(selector)
        return {"jsonrpc": "2.0", "id": request["id"], "result": f"0x{value:064x}"} if wanted else answer

    return rewrite


def _topic(position: int, value: bytes) -> Callable[[Any], Any]:
    def change(topics: list[str]) -> list[str]:
        topics = [*topics, *["0x" + "00" * 32] * (position + 1 - len(topics))]
        return [*topics[:position], rpc.text(value.rjust(32, b"\0")), *topics[position + 1 :]]

    return change


def _cancelled_for_used(found: dict[str, Any]) -> dict[str, Any]:
    used, cancelled = rpc.text(usdc.AUTHORIZATION_USED), rpc.text(usdc.AUTHORIZATION_CANCELED)
    return {**found, "topics": [cancelled if topic == used else topic for topic in found["topics"]]}


def _is_transfer(found: dict[str, Any]) -> bool:
    return found["topics"][:1] == [rpc.text(usdc.TRANSFER)]


def _transfers_only(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda found: change(found) if _is_transfer(found) else found


def _invented(request: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """A receipt for a transaction that is in no block."""
    receipt = {"transactionHash": request["params"][0], "blockHash": ELSEWHERE, "blockNumber": "0x1", "status": "0x1"}
    return answer if answer.get("result") else {**answer, "result": {**receipt, "logs": []}}


def in_capitals(value: Any) -> Any:
    """Write every hexadecimal value in capitals, as some nodes do."""
    if isinstance(value, str) and value.startswith("0x"):
        return "0x" + value[2:].upper()
    if isinstance(value, list):
        return [in_capitals(one) for one in value]
    if isinstance(value, dict):
        return {key: in_capitals(one) for key, one in value.items()}
    return value


# --- the lies ---------------------------------------------------------------------------------------------------------
def silences() -> list[Lie]:
    """No answer, or none that can be read."""
    return [
        Lie("everything is refused", "*", "refuse"),
        Lie("too many requests", "*", "rate_limit"),
        Lie("cut short", "*", "truncate"),
        Lie("errors after the work is done", "*", "error_after_accepting"),
        Lie("no result", "*", lambda _, answer: {"jsonrpc": "2.0", "id": answer["id"]}),
        Lie("an error that is no object", "*", lambda _, answer: {"jsonrpc": "2.0", "id": answer["id"], "error": "no"}),
    ]


def some_junk() -> list[Lie]:
    """A little junk, of another kind at each place; `make test-long` plays all."""
    return [lie for number, lie in enumerate(junk()) if number % 47 == 0]


def junk() -> list[Lie]:
    """Answers of a shape the protocol does not know, whole and field by field."""
    whole = [
        Lie(f"{method} answers {name}", method, result(value))
        for method in ("eth_chainId", BLOCK, LOGS, CALL, RECEIPT)
        for name, value in JUNK.items()
        if (method, name) != (RECEIPT, "null")
    ]
    places: list[tuple[str, str, Callable[[Callable[[Any], Any]], Callable[[Any], Any]]]] = [
        *((BLOCK, name, lambda change: change) for name in ("number", "hash", "parentHash", "timestamp")),
        *(
            (LOGS, name, each)
            for name in ("address", "topics", "data", "blockNumber", "blockHash", "transactionHash", "logIndex")
        ),
        *((RECEIPT, name, lambda change: change) for name in ("blockNumber", "status", "logs", "transactionHash")),
        *((RECEIPT, name, logs_in) for name in ("address", "topics", "data", "blockHash", "logIndex")),
    ]
    fields = [
        Lie(f"{name} in {method} is {word_}", method, told(inside(put(**{name: value}))))
        for method, name, inside in places
        for word_, value in JUNK.items()
    ]
    missing = [Lie(f"no {name} in {method}", method, told(inside(without(name)))) for method, name, inside in places]
    return whole + fields + missing


def heads(chain: LocalChain) -> list[Lie]:
    """A view of the chain that cannot be true."""
    genesis = chain.node.ask(BLOCK, "0x0", False)
    return [
        Lie("another chain", "eth_chainId", result("0x1")),
        Lie("no finalized block", BLOCK, at_tag("finalized", lambda _: None)),
        Lie("no block at all", BLOCK, result(None)),
        Lie("finalized above latest", BLOCK, at_tag("finalized", put(number=plus(1_000)))),
        Lie("safe above latest", BLOCK, at_tag("safe", put(number=plus(1_000)))),
        Lie("finalized went back", BLOCK, at_tag("finalized", lambda _: genesis)),
        Lie("everything went back", BLOCK, at_tags(lambda _: genesis)),
        Lie("an old head", BLOCK, at_tags(put(timestamp=hex(1_600_000_000)))),
        Lie("always the same block", BLOCK, result(genesis)),
        Lie("a height beyond all chains", BLOCK, at_tags(put(number=HUGE))),
        Lie("a time beyond all times", BLOCK, at_tags(put(timestamp=HUGE))),
        Lie("a head of the far future", BLOCK, at_tags(put(timestamp=plus(YEARS)))),
        Lie("a finalized block of the far future", BLOCK, at_tag("finalized", put(timestamp=plus(YEARS)))),
        Lie("a finalized block that nobody mined", BLOCK, at_tag("finalized", put(hash=ELSEWHERE))),
    ]  # fmt: skip


def of_logs() -> list[Lie]:
    """Logs that are not what the chain holds."""
    return [
        Lie("logs of another token", LOGS, told(each(put(address=rpc.text(STRANGER))))),
        Lie("logs that were removed", LOGS, told(each(put(removed=True)))),
        Lie("logs of another block", LOGS, told(each(put(blockHash=ELSEWHERE)))),
        Lie("logs of another transaction", LOGS, told(each(put(transactionHash=ELSEWHERE)))),
        Lie("logs of blocks that were not asked for", LOGS, told(each(put(blockNumber=plus(1_000))))),
        Lie("logs of heights that are none", LOGS, told(each(put(blockNumber=HUGE)))),
        Lie("logs of other amounts", LOGS, told(each(_transfers_only(put(data=f"0x{MANY:064x}"))))),
        Lie("logs of endless amounts", LOGS, told(each(_transfers_only(put(data=HUGE))))),
        Lie(
            "logs twice, with another amount", LOGS, told(lambda found: found + each(put(data=f"0x{MANY:064x}"))(found))
        ),
        Lie("used nonces are called cancelled", LOGS, told(each(_cancelled_for_used))),
        Lie("nonces are others", LOGS, told(each(put(topics=_topic(2, b"\x33" * 32))))),
    ]


def of_receipts() -> list[Lie]:
    """Receipts that are not what the chain holds."""
    return [
        Lie("no receipt", RECEIPT, result(None)),
        Lie("the receipt of another transaction", RECEIPT, told(put(transactionHash=ELSEWHERE))),
        Lie("a receipt of another block", RECEIPT, told(put(blockHash=ELSEWHERE))),
        Lie("a receipt without logs", RECEIPT, told(put(logs=[]))),
        Lie("a receipt that failed", RECEIPT, told(put(status="0x0", logs=[]))),
        Lie("a receipt with logs of another token", RECEIPT, told(logs_in(put(address=rpc.text(STRANGER))))),
        Lie("a receipt of other amounts", RECEIPT, told(logs_in(_transfers_only(put(data=f"0x{MANY:064x}"))))),
        Lie("a receipt of other receivers", RECEIPT, told(logs_in(_transfers_only(put(topics=_topic(2, STRANGER)))))),
        Lie("a receipt of what never was", RECEIPT, _invented),
        Lie("a receipt of a far block", RECEIPT, told(put(blockNumber=plus(1_000)))),
    ]


def of_calls() -> list[Lie]:
    """Answers of the token that are not its own."""
    return [
        Lie("no nonce is used", CALL, word("authorizationState(address,bytes32)", 0)),
        Lie("every nonce is used", CALL, word("authorizationState(address,bytes32)", 1)),
        Lie("everybody is rich", CALL, word("balanceOf(address)", MANY)),
        Lie("nobody has anything", CALL, word("balanceOf(address)", 0)),
        Lie("another domain", CALL, word("DOMAIN_SEPARATOR()", 1)),
        Lie("the factory's treasury is a stranger's", CALL, word("treasury()", int.from_bytes(STRANGER))),
        Lie("calls answer nothing", CALL, result("0x")),
    ]


def of_sending() -> list[Lie]:
    """What only concerns transactions of ours."""
    return [
        Lie("sent, and refused", SENT, "error_after_accepting"),
        Lie("sent, and lost", SENT, "drop"),
        Lie("endless gas", "eth_estimateGas", result(HUGE)),
        Lie("no gas", "eth_estimateGas", result("0x0")),
        Lie("gas of no price", "eth_gasPrice", result("0x0")),
        Lie("gas beyond price", "eth_gasPrice", result(HUGE)),
        Lie("a tip beyond price", "eth_maxPriorityFeePerGas", result(HUGE)),
        Lie("many transactions of ours", "eth_getTransactionCount", result("0x7fffffff")),
        Lie("endless transactions of ours", "eth_getTransactionCount", result(HUGE)),
    ]
