"""
USDC: its logs, its balances and its payments by signature (ERC-20, ERC-3009, EIP-712).

A log counts only if the token itself emitted it, with the right topics, in a block that stands. All of it is compared
as bytes: nodes differ in how they spell hashes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from eth_hash.auto import keccak

from escrow.chain import rpc

TRANSFER = keccak(b"Transfer(address,address,uint256)")
AUTHORIZATION_USED = keccak(b"AuthorizationUsed(address,bytes32)")
AUTHORIZATION_CANCELED = keccak(b"AuthorizationCanceled(address,bytes32)")

_TRANSFER_TYPE = keccak(
    b"TransferWithAuthorization(address from,address to,uint256 value,"
    b"uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
_CANCEL_TYPE = keccak(b"CancelAuthorization(address authorizer,bytes32 nonce)")
_DOMAIN_TYPE = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
# Names USDC goes by, per network; the token's own separator decides, this only makes the message.
NAMES = ("USD Coin", "USDC")
VERSION = "2"
ADDRESSES_PER_CALL = 100
LOGS_PER_PART, BLOCKS_AT_FIRST = 5_000, 8
MOST_LOGS = 2**31  # in one block


class DomainMismatch(rpc.ChainNotTrusted):
    """The token's EIP-712 domain is not the one we would sign for."""


class Transfer(NamedTuple):
    """One Transfer log; the amount is micro-USDC."""

    block_number: int
    block_hash: bytes
    tx_hash: bytes
    log_index: int
    sender: bytes
    receiver: bytes
    amount_units: int

    @property
    def log_key(self) -> tuple[bytes, int]:
        """What names its log: transaction and index."""
        return (self.tx_hash, self.log_index)

    @property
    def place(self) -> tuple[int, bytes, bytes, int]:
        """Where its log is: height and hash of the block, transaction, index."""
        return self[:4]


class AuthorizationLog(NamedTuple):
    """A nonce of ERC-3009 that was used or cancelled."""

    block_number: int
    block_hash: bytes
    tx_hash: bytes
    log_index: int
    authorizer: bytes
    nonce: bytes
    used: bool


class Authorization(NamedTuple):
    """What ERC-3009 signs; `validAfter` is always 0."""

    sender: bytes
    receiver: bytes
    value_units: int
    valid_before: int
    nonce: bytes


def transfers(
    node: rpc.Node,
    token: bytes,
    *,
    first: int,
    last: int,
    receivers: Sequence[bytes] = (),
    senders: Sequence[bytes] = (),
) -> list[Transfer]:
    """The transfers in blocks first..last to one of `receivers` or from one of `senders`, once each, in order."""
    topics: list[list[Any]] = [[rpc.text(TRANSFER), None, some] for some in _in_parts(receivers)]
    topics += [[rpc.text(TRANSFER), some] for some in _in_parts(senders)]
    return _decoded(token, (log for wanted in topics for log in _logs(node, token, wanted, first, last)))


def everybodys_transfers(node: rpc.Node, token: bytes, *, first: int, last: int) -> Iterator[list[Transfer]]:
    """
    All transfers in blocks first..last, in order, a part at a time: a busy chain does not fit into memory.

    Each part is of as many blocks as will, going by the part before, hold about LOGS_PER_PART.
    """
    blocks = BLOCKS_AT_FIRST
    while first <= last:
        until = min(first + blocks - 1, last)
        part = _decoded(token, _logs(node, token, [rpc.text(TRANSFER)], first, until))
        yield part
        blocks = max(1, min(4 * blocks, LOGS_PER_PART * (until - first + 1) // max(len(part), 1)))
        first = until + 1


def _decoded(token: bytes, logs: Iterable[dict[str, Any]]) -> list[Transfer]:
    """The transfers in logs, each once, in the order of the chain."""
    return sorted({transfer for log in logs if (transfer := decoded_transfer(log, token))}, key=_order)


def _order(transfer: Transfer) -> tuple[int, int, Transfer]:
    return (transfer.block_number, transfer.log_index, transfer)


def parties(found: Iterable[Transfer]) -> set[bytes]:
    """Everyone who sent or received one of these."""
    return {address for transfer in found for address in (transfer.sender, transfer.receiver)}


def authorization_logs(
    node: rpc.Node, token: bytes, *, authorizer: bytes, nonces: Sequence[bytes], first: int, last: int
) -> list[AuthorizationLog]:
    """Which of these nonces were used or cancelled in blocks first..last, by whomever."""
    wanted = [
        [rpc.text(AUTHORIZATION_USED), rpc.text(AUTHORIZATION_CANCELED)],
        rpc.text(_word(authorizer)),
        [rpc.text(nonce) for nonce in nonces],
    ]
    found = [decoded_authorization(log, token) for log in _logs(node, token, wanted, first, last)]
    return [log for log in found if log and log.authorizer == authorizer]


def used_authorizations(
    node: rpc.Node, token: bytes, *, authorizers: Sequence[bytes], first: int, last: int
) -> list[AuthorizationLog]:
    """Every nonce that these addresses have used in blocks first..last, whatever it was for."""
    wanted = [[rpc.text(AUTHORIZATION_USED)], [rpc.text(_word(authorizer)) for authorizer in authorizers]]
    found = [decoded_authorization(log, token) for log in _logs(node, token, wanted, first, last)]
    return [log for log in found if log and log.used and log.authorizer in authorizers]


def authorized_transfers(receipt: dict[str, Any], token: bytes) -> dict[int, tuple[Transfer, AuthorizationLog]]:
    """
    The transfers of a transaction that an authorization moved, by log index, each with the nonce it used.

    The token says first that a nonce is used and then, before anybody else has a word, what it moved (FiatTokenV2).
    """
    used: dict[bytes, AuthorizationLog] = {}
    moved: dict[int, tuple[Transfer, AuthorizationLog]] = {}
    for log in sorted(receipt["logs"], key=lambda log: rpc.number(rpc.field(log, "logIndex"))):
        if authorization := decoded_authorization(log, token):
            if authorization.used:
                used[authorization.authorizer] = authorization
        elif (transfer := decoded_transfer(log, token)) and transfer.sender in used:
            moved[transfer.log_index] = (transfer, used.pop(transfer.sender))
    return moved


def decoded_transfer(log: dict[str, Any], token: bytes) -> Transfer | None:
    """The transfer in a log, None if the log is not one of this token's."""
    topics = _topics(log)
    if not _counts(log, token) or len(topics) != 3 or topics[0] != TRANSFER:
        return None
    data = rpc.raw(rpc.field(log, "data"))
    if len(data) != 32 or any(topics[1][:12] + topics[2][:12]):
        return None
    return Transfer(*_place(log), topics[1][12:], topics[2][12:], int.from_bytes(data))


def decoded_authorization(log: dict[str, Any], token: bytes) -> AuthorizationLog | None:
    """The used or cancelled nonce in a log, None if it is something else."""
    topics = _topics(log)
    if not _counts(log, token) or len(topics) != 3 or topics[0] not in (AUTHORIZATION_USED, AUTHORIZATION_CANCELED):
        return None
    return AuthorizationLog(*_place(log), topics[1][12:], topics[2], topics[0] == AUTHORIZATION_USED)


def balance_of(node: rpc.Node, token: bytes, owner: bytes, *, block: int | bytes | str = "latest") -> int:
    """
    The micro-USDC an address has.

    :raises NodeUnavailable: if the token does not say; nothing said is not nothing owned
    """
    return int.from_bytes(_answered(node.call(token, _balance_call(owner), block=block)))


def balances_of(
    node: rpc.Node, token: bytes, owners: Iterable[bytes], *, block: int | bytes | str = "latest"
) -> dict[bytes, int]:
    """
    The micro-USDC of many addresses, in batches. By a block's hash or height they are all of one moment.

    :raises NodeUnavailable: if the token does not say it for one of them
    """
    asked = list(dict.fromkeys(owners))
    answers = node.calls([(token, _balance_call(owner)) for owner in asked], block=block) if asked else []
    return {owner: int.from_bytes(_answered(answer)) for owner, answer in zip(asked, answers, strict=True)}


def authorization_state(node: rpc.Node, token: bytes, *, authorizer: bytes, nonce: bytes, block: bytes) -> bool:
    """True if the nonce was used or cancelled as of the block with this hash."""
    return authorization_states(node, token, [(authorizer, nonce)], block=block)[0]


def authorization_states(
    node: rpc.Node, token: bytes, asked: Sequence[tuple[bytes, bytes]], *, block: bytes
) -> list[bool]:
    """For each (authorizer, nonce) whether it was used or cancelled as of the block with this hash, in batches."""
    selector = _selector("authorizationState(address,bytes32)")
    calls = [(token, selector + _word(authorizer) + nonce) for authorizer, nonce in asked]
    return [bool(int.from_bytes(_answered(answer))) for answer in (node.calls(calls, block=block) if calls else [])]


def domain_separator(node: rpc.Node, token: bytes, *, chain_id: int) -> bytes:
    """
    The token's EIP-712 domain, computed by us from a name USDC goes by and compared with what the token says.

    :raises DomainMismatch: if the token's domain is none of these: then nothing may be signed for it
    """
    claimed = _answered(node.call(token, _selector("DOMAIN_SEPARATOR()")))
    for name in NAMES:
        if domain_of(name, VERSION, chain_id=chain_id, contract=token) == claimed:
            return claimed
    raise DomainMismatch("the token's EIP-712 domain is not USDC's")


def domain_of(name: str, version: str, *, chain_id: int, contract: bytes) -> bytes:
    """The EIP-712 domain separator of a token."""
    return keccak(_DOMAIN_TYPE + keccak(name.encode()) + keccak(version.encode()) + _word(chain_id) + _word(contract))


def authorization_digest(authorization: Authorization, domain: bytes) -> bytes:
    """What the treasury signs to pay (EIP-712 over ERC-3009's TransferWithAuthorization)."""
    struct = _TRANSFER_TYPE + _authorization_words(authorization)
    return keccak(b"\x19\x01" + domain + keccak(struct))


def cancellation_digest(*, authorizer: bytes, nonce: bytes, domain: bytes) -> bytes:
    """What the treasury signs to make a nonce unusable."""
    return keccak(b"\x19\x01" + domain + keccak(_CANCEL_TYPE + _word(authorizer) + nonce))


def payment_call(authorization: Authorization, *, v: int, r: int, s: int) -> bytes:
    """The call that pays: anyone may submit it, the token takes it once."""
    selector = _selector(
        "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)"
    )
    return selector + _authorization_words(authorization) + _word(v) + _word(r) + _word(s)


def cancellation_call(*, authorizer: bytes, nonce: bytes, v: int, r: int, s: int) -> bytes:
    """The call that makes a nonce unusable."""
    selector = _selector("cancelAuthorization(address,bytes32,uint8,bytes32,bytes32)")
    return selector + _word(authorizer) + nonce + _word(v) + _word(r) + _word(s)


def transfer_call(receiver: bytes, amount_units: int) -> bytes:
    return _selector("transfer(address,uint256)") + _word(receiver) + _word(amount_units)


def mint_call(receiver: bytes, amount_units: int) -> bytes:
    """TestUSDC only: the owner makes money of no worth."""
    return _selector("mint(address,uint256)") + _word(receiver) + _word(amount_units)


def _authorization_words(authorization: Authorization) -> bytes:
    return (
        _word(authorization.sender)
        + _word(authorization.receiver)
        + _word(authorization.value_units)
        + _word(0)
        + _word(authorization.valid_before)
        + authorization.nonce
    )


def _in_parts(owners: Sequence[bytes]) -> Iterator[list[str]]:
    """Addresses as topics, as many at a time as nodes take."""
    for start in range(0, len(owners), ADDRESSES_PER_CALL):
        yield [rpc.text(_word(owner)) for owner in owners[start : start + ADDRESSES_PER_CALL]]


def _logs(node: rpc.Node, token: bytes, topics: list[Any], first: int, last: int) -> Iterator[dict[str, Any]]:
    """Read a range of logs, in halves where the node refuses it as too much."""
    wanted = {"address": rpc.text(token), "fromBlock": hex(first), "toBlock": hex(last), "topics": topics}
    try:
        found = rpc.rows(node.ask("eth_getLogs", wanted))
    except rpc.NodeRefused:
        if first == last:
            raise
        middle = (first + last) // 2
        yield from _logs(node, token, topics, first, middle)
        yield from _logs(node, token, topics, middle + 1, last)
        return
    for log in found:
        if rpc.field(log, "blockHash") and not first <= rpc.number(rpc.field(log, "blockNumber")) <= last:
            raise rpc.ChainNotTrusted("the node showed logs of blocks that were not asked for", reason="other_height")
        yield log


def _counts(log: dict[str, Any], token: bytes) -> bool:
    own = rpc.raw(rpc.field(log, "address")) == token
    return own and not log.get("removed") and rpc.field(log, "blockHash") is not None


def _topics(log: dict[str, Any]) -> list[bytes]:
    return [rpc.digest(topic) for topic in rpc.rows(rpc.field(log, "topics"))]


def _place(log: dict[str, Any]) -> tuple[int, bytes, bytes, int]:
    index = rpc.number(rpc.field(log, "logIndex"))
    if index >= MOST_LOGS:
        raise rpc.NodeUnavailable("the index of a log is unreadable")
    return (
        rpc.number(rpc.field(log, "blockNumber")),
        rpc.digest(rpc.field(log, "blockHash")),
        rpc.digest(rpc.field(log, "transactionHash")),
        index,
    )


def _balance_call(owner: bytes) -> bytes:
    return _selector("balanceOf(address)") + _word(owner)


def _answered(answer: bytes) -> bytes:
    if len(answer) != 32:
        raise rpc.NodeUnavailable("the token did not answer")
    return answer


def _selector(signature: str) -> bytes:
    return keccak(signature.encode())[:4]


def _word(value: int | bytes) -> bytes:
    """One word of the ABI: 32 bytes, big-endian."""
    return value.to_bytes(32) if isinstance(value, int) else bytes(value).rjust(32, b"\0")
