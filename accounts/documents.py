"""
Signing what leaves the house: case packs, receipts. Ed25519 (RFC 8032) over the bytes of a document.

The private key is `DOCUMENT_KEY`; it signs no money. Its public half is published at /.well-known/bailee-keys.json,
beside those of earlier keys (`DOCUMENT_EARLIER_PUBLIC_KEYS`), so that what they signed can be verified for ever.
"""

import hashlib
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from nacl.signing import SigningKey

from accounts import signatures

PUBLISHED_AT = "/.well-known/bailee-keys.json"


class Seal(NamedTuple):
    """A signature, and the published name of the key that made it."""

    key_id: str
    signature: bytes


def sign(document: bytes) -> Seal:
    """Sign a document. It must say itself what it is: no two kinds may share their first bytes."""
    key = _key()
    return Seal(id_of(bytes(key.verify_key)), key.sign(document).signature)


def key_id() -> str:
    return id_of(bytes(_key().verify_key))


def published() -> dict[str, Any]:
    """List the public keys that documents may be verified by, the current one first."""
    current = signatures.write(bytes(_key().verify_key))
    earlier = [text for text in settings.DOCUMENT_EARLIER_PUBLIC_KEYS if text != current]
    return {"keys": [_described(text, current=text == current) for text in [current, *earlier]]}


def id_of(public_key: bytes) -> str:
    """Name a public key: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def _described(text: str, *, current: bool) -> dict[str, Any]:
    try:
        public_key = signatures.read_key(text)
    except signatures.Malformed as error:
        raise ImproperlyConfigured("DOCUMENT_EARLIER_PUBLIC_KEYS are base64url of Ed25519 public keys") from error
    return {"id": id_of(public_key), "algorithm": "Ed25519", "public_key": text, "current": current}


def _key() -> SigningKey:
    return SigningKey(signatures.read_secret(settings.DOCUMENT_KEY))
