"""
Deposit addresses, computed without asking the chain (contracts/DepositFactory.vy).

An agent's address follows from the factory and a salt; the salt from the agent and a secret of the server, so that
nobody else can tell whose address it is. No private key for it exists.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from eth_hash.auto import keccak

from escrow.chain import rpc

SWEEP_FAILED = keccak(b"SweepFailed(address,address)")
_CLONE_HEAD = bytes.fromhex("602d3d8160093d39f3363d3d373d3d3d363d73")
_CLONE_TAIL = bytes.fromhex("5af43d82803e903d91602b57fd5bf3")


def salt_of(agent_id: UUID, *, secret: bytes) -> bytes:
    """The 32 bytes that make an agent's address its own."""
    return keccak(secret + agent_id.bytes)


def implementation_of(factory: bytes) -> bytes:
    """The forwarder a factory created in its constructor: the first contract it made, so CREATE with nonce 1."""
    rlp = bytes([0xD6, 0x94]) + factory + bytes([0x01])  # the list [20 bytes, 1]
    return keccak(rlp)[12:]


def address_of(salt: bytes, *, factory: bytes) -> bytes:
    """The deposit address of a salt: CREATE2 (EIP-1014) of an EIP-1167 clone."""
    init_code = _CLONE_HEAD + implementation_of(factory) + _CLONE_TAIL
    return keccak(b"\xff" + factory + salt + keccak(init_code))[12:]


def sweep_call(salts: Sequence[bytes], *, token: bytes) -> bytes:
    """The call that moves what these addresses hold to the treasury; anyone may submit it."""
    words = [64, int.from_bytes(token), len(salts), *(int.from_bytes(salt) for salt in salts)]
    return keccak(b"sweep(bytes32[],address)")[:4] + b"".join(word.to_bytes(32) for word in words)


def treasury_of(node: rpc.Node, factory: bytes, *, block: int | bytes | str = "latest") -> bytes:
    """Where a factory's sweeps go."""
    return _address_in(node.call(factory, keccak(b"treasury()")[:4], block=block))


def proposed_treasury_of(node: rpc.Node, factory: bytes, *, block: int | bytes | str = "latest") -> bytes | None:
    """Where a factory's sweeps will go if its owner accepts two days later; None if nothing is proposed."""
    proposed = _address_in(node.call(factory, keccak(b"proposed_treasury()")[:4], block=block))
    return proposed if any(proposed) else None


def failed(receipt: dict[str, Any], *, factory: bytes, token: bytes) -> list[bytes]:
    """The deposit addresses that a sweep could not empty of this token."""
    found = []
    for log in receipt["logs"]:
        topics = [rpc.raw(topic) for topic in log["topics"]]
        if rpc.raw(log["address"]) == factory and topics[:1] == [SWEEP_FAILED] and topics[2][12:] == token:
            found.append(topics[1][12:])
    return found


def _address_in(answer: bytes) -> bytes:
    if len(answer) != 32:
        raise rpc.NodeUnavailable("the factory did not answer")
    return answer[12:]
