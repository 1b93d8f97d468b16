"""
Keys that never leave AWS KMS (ECC_SECG_P256K1, SIGN_VERIFY): this process only asks for signatures.

Region and credentials come from the usual environment of AWS. KMS answers DER with any `s` and no recovery id; what the
chain wants of it is found by recovering the signer, so a signature of another key never gets out of here.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from django.conf import settings
from eth_account.typed_transactions import TypedTransaction
from eth_hash.auto import keccak
from eth_keys import datatypes as secp256k1
from eth_keys.constants import SECPK1_N
from eth_keys.exceptions import BadSignature, ValidationError

from escrow.signing.signatures import KeyRefused, Signature, Signed, addresses_of

# A relay waits for its signature; a claim on a row outlives two tries of connecting and reading.
QUICKLY = Config(connect_timeout=3, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2})

_lock = threading.Lock()
_clients: dict[tuple[int, str], Any] = {}
_public_keys: dict[tuple[str, str], secp256k1.PublicKey] = {}


def open_all() -> None:
    """Ask for the public key of every key that the settings name."""
    named = [settings.TREASURY_KMS_KEY, *settings.TREASURY_EARLIER_KMS_KEYS, *settings.RELAYER_KMS_KEYS]
    _, refusals = addresses_of(named, _address_of)
    if refusals:
        raise KeyRefused("; ".join(refusals))


def treasury_address() -> bytes:
    """The address whose key signs new payouts."""
    if not settings.TREASURY_KMS_KEY:
        raise KeyRefused("TREASURY_KMS_KEY is not set")
    return _address_of(settings.TREASURY_KMS_KEY)


def earlier_treasury_addresses() -> list[bytes]:
    """The treasuries that signed before, oldest first as the settings name them."""
    return [_address_of(key_id) for key_id in settings.TREASURY_EARLIER_KMS_KEYS]


def relayer_addresses() -> list[bytes]:
    """The relayers whose keys are here and known to AWS: one that is not stops none of the others."""
    found, refusals = addresses_of(settings.RELAYER_KMS_KEYS, _address_of)
    if refusals and not found:
        raise KeyRefused("; ".join(refusals))
    return found


def sign_digest(address: bytes, digest: bytes) -> Signature:
    """
    Sign 32 bytes as a treasury, the present or an earlier one; asked again, KMS answers another good signature.

    :raises KeyRefused: if no key of a treasury is that of the address, or AWS refuses or is away
    """
    v, r, s = _sign(_holder(address, [settings.TREASURY_KMS_KEY, *settings.TREASURY_EARLIER_KMS_KEYS]), digest)
    return Signature(27 + v, r, s)


def sign_transaction(address: bytes, transaction: dict[str, Any]) -> Signed:
    """
    Sign a transaction of a relayer (EIP-1559).

    :raises KeyRefused: if no key here is that relayer's, or AWS refuses or is away
    """
    key_id = _holder(address, settings.RELAYER_KMS_KEYS)
    v, r, s = _sign(key_id, TypedTransaction.from_dict(transaction).hash())
    signed = TypedTransaction.from_dict({**transaction, "v": v, "r": r, "s": s}).encode()
    return Signed(signed, keccak(signed))


def _holder(address: bytes, key_ids: list[str]) -> str:
    refusals = []
    for key_id in filter(None, key_ids):
        try:
            if _address_of(key_id) == address:
                return key_id
        except KeyRefused as refusal:  # one key that AWS does not give stops none of the others
            refusals.append(str(refusal))
    raise KeyRefused("; ".join([f"no key in KMS is that of 0x{address.hex()}", *refusals]))


def _address_of(key_id: str) -> bytes:
    return _public_key(key_id).to_canonical_address()


def _public_key(key_id: str) -> secp256k1.PublicKey:
    """The public key of a key, asked for once."""
    place = (settings.KMS_ENDPOINT_URL, key_id)
    if place not in _public_keys:
        answer = _ask("get_public_key", KeyId=key_id)
        key = load_der_public_key(answer["PublicKey"])
        if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256K1):
            raise KeyRefused(f"{_name(key_id)} is no key of secp256k1 (ECC_SECG_P256K1)")
        point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        _public_keys[place] = secp256k1.PublicKey(point[1:])
    return _public_keys[place]


def _sign(key_id: str, digest: bytes) -> tuple[int, int, int]:
    """The recovery id, r and the lower s (EIP-2) of a signature that is surely this key's."""
    answer = _ask("sign", KeyId=key_id, Message=digest, MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256")
    r, s = decode_dss_signature(answer["Signature"])
    s = min(s, SECPK1_N - s)
    for recovery_id in (0, 1):
        try:
            signer = secp256k1.Signature(vrs=(recovery_id, r, s)).recover_public_key_from_msg_hash(digest)
        except (BadSignature, ValidationError):
            continue
        if signer == _public_key(key_id):
            return recovery_id, r, s
    raise KeyRefused(f"KMS answered a signature that is not one of {_name(key_id)}")


def _ask(operation: str, **asked: Any) -> dict[str, Any]:
    """Ask KMS; what it says when it refuses may name who we are, so only its code is told on."""
    try:
        answer: dict[str, Any] = getattr(_client(), operation)(**asked)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "refused")
        raise KeyRefused(f"KMS {operation} {_name(asked['KeyId'])}: {code}") from None
    except BotoCoreError as error:
        raise KeyRefused(f"KMS {operation} {_name(asked['KeyId'])}: {type(error).__name__}") from None
    return answer


def _client() -> Any:
    # Threads may share a client, though not make one; processes may not share its connections.
    endpoint = settings.KMS_ENDPOINT_URL
    with _lock:
        known = _clients.get((os.getpid(), endpoint))
        if known is None:
            known = boto3.session.Session().client("kms", endpoint_url=endpoint or None, config=QUICKLY)
            _clients[(os.getpid(), endpoint)] = known
        return known


def _name(key_id: str) -> str:
    """A key without the account that an ARN begins with."""
    return key_id.rpartition(":")[2]
