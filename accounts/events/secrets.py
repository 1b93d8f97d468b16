"""
What receivers know our webhooks by: a signature by a secret that they share with us (Standard Webhooks 1.0).

A secret is stored nowhere. It is derived from WEBHOOK_KEY, the endpoint and its generation each time it is needed, so
a stolen database signs nothing; with another WEBHOOK_KEY every endpoint has another secret, and has to be told it.
"""

import hmac
from base64 import b64encode
from datetime import datetime
from uuid import UUID

from django.conf import settings

from accounts.models import WebhookEndpoint

PREFIX = "whsec_"


def of(endpoint: WebhookEndpoint, generation: int) -> str:
    """Write the secret of a generation as receivers keep it: `whsec_` and the base64 of 32 bytes."""
    return PREFIX + b64encode(_key(endpoint.pk, generation)).decode()


def message_id(*, epoch: int, event_id: int) -> str:
    """Name an event as receivers know it: the same in every attempt and redelivery, to any endpoint."""
    return f"evt_{epoch}_{event_id}"


def headers(endpoint: WebhookEndpoint, *, message_id: str, body: bytes, at: datetime) -> dict[str, str]:
    """
    Sign an attempt made at `at`; while a rotation overlaps, by the secret before it as well.

    Receivers refuse attempts whose time is more than five minutes from theirs: each attempt is signed anew.
    """
    timestamp = str(int(at.timestamp()))
    signed = b".".join([message_id.encode(), timestamp.encode(), body])
    keys = [_key(endpoint.pk, generation) for generation in _valid(endpoint, at)]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{b64encode(hmac.digest(key, signed, 'sha256')).decode()}" for key in keys),
    }


def _valid(endpoint: WebhookEndpoint, at: datetime) -> list[int]:
    """Name the generations that sign at a time, the newest first."""
    newest, until = endpoint.secret_generation, endpoint.previous_secret_until
    return [newest] if until is None or until <= at else [newest, newest - 1]


def _key(endpoint_id: UUID, generation: int) -> bytes:
    return hmac.digest(settings.WEBHOOK_KEY.encode(), f"webhook:{endpoint_id}:{generation}".encode(), "sha256")
