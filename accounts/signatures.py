"""
Ed25519 (RFC 8032) public keys and signatures, as bytes and as the text that agents send.

A key or signature has one meaning and its text one canonical form: base64url (RFC 4648, section 5) without padding.
The padded form of the same section is read as well; what counts and is stored is the bytes.
"""

import base64
import binascii
import re

from nacl import bindings
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from accounts.errors import DomainError

KEY_BYTES = 32
SIGNATURE_BYTES = 64

_ALPHABET = re.compile(r"[A-Za-z0-9_-]+={0,2}", re.ASCII)


class SignatureInvalid(DomainError):
    status = 401
    code = "signature_invalid"
    title = "The signature does not fit this key and message"


class Malformed(ValueError):
    """The text is not the base64url of a usable key or signature."""


def read_key(text: str) -> bytes:
    """
    Read a public key.

    :raises Malformed: unless it is the canonical encoding of a point of the prime-order group: a small-order key
        would accept one signature for many messages, a mixed or non-canonical one would be the same key twice
    """
    key = _decoded(text, KEY_BYTES)
    if not bindings.crypto_core_ed25519_is_valid_point(key):
        raise Malformed("This is not a usable Ed25519 public key.")
    return key


def read_signature(text: str) -> bytes:
    """Read a signature; whether it fits is asked by `verify`."""
    return _decoded(text, SIGNATURE_BYTES)


def read_secret(text: str) -> bytes:
    """
    Read the 32 bytes (seed) of a private key of ours.

    :raises Malformed: unless it is their base64url
    """
    return _decoded(text, KEY_BYTES)


def write(raw: bytes) -> str:
    """Write bytes in the canonical form."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def verify(*, public_key: bytes, message: str, signature: bytes) -> None:
    """
    Check a signature over the UTF-8 bytes of a message; libsodium refuses S ≥ L and small-order R.

    :raises SignatureInvalid: unless it fits
    """
    if not fits(public_key=public_key, message=message, signature=signature):
        raise SignatureInvalid


def fits(*, public_key: bytes, message: str, signature: bytes) -> bool:
    """Tell whether the signature is that key's over that message."""
    try:
        VerifyKey(public_key).verify(message.encode(), signature)
    except (BadSignatureError, ValueError):
        return False
    return True


def _decoded(text: str, size: int) -> bytes:
    if not _ALPHABET.fullmatch(text):
        raise Malformed("This is not base64url.")
    bare = text.rstrip("=")
    try:
        raw = base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    except binascii.Error as error:
        raise Malformed("This is not base64url.") from error
    canonical = write(raw)
    # Equal again only if unused bits are zero; padding is either absent or complete.
    if len(raw) != size or bare != canonical or text not in {canonical, canonical + "=" * (-len(canonical) % 4)}:
        raise Malformed(f"This is not the base64url of {size} bytes.")
    return raw
