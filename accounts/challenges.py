"""Single-use messages that prove possession of a key (trust.md, section 1)."""

import secrets
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction

from accounts import clock, ids, signatures
from accounts.errors import DomainError
from accounts.models import Agent, AgentKey, Challenge

LIFE_SECONDS = 300
Purpose = Challenge.Purpose


class ChallengeUnknown(DomainError):
    status = 404
    code = "challenge_unknown"
    title = "There is no such challenge for this key and purpose"


class ChallengeExpired(DomainError):
    code = "challenge_expired"
    title = "The challenge has expired"


class ChallengeSpent(DomainError):
    code = "challenge_spent"
    title = "The challenge was used already"


def issue(*, purpose: Purpose | str, public_key: bytes, at: datetime | None = None) -> Challenge:
    """Write a message for the holder of a key to sign; whether any agent has that key is not told here."""
    at = at or clock.now()
    challenge = Challenge(
        id=ids.uuid7(),
        purpose=purpose,
        public_key=public_key,
        nonce=secrets.token_bytes(32),
        expires_at=at + timedelta(seconds=LIFE_SECONDS),
        created_at=at,
    )
    challenge.message = _message(challenge)
    challenge.save(force_insert=True)
    return challenge


@transaction.atomic
def spend(
    challenge_id: UUID, *, purpose: Purpose | str, public_key: bytes, signature: bytes, at: datetime | None = None
) -> Challenge:
    """
    Use up a challenge, together with the effect that follows in the same transaction.

    Only the first valid use does: a bad signature leaves it, and so does an effect that is refused.

    :raises ChallengeUnknown: if there is none for this key and purpose
    :raises ChallengeSpent: if it was used
    :raises ChallengeExpired: if it is too late
    :raises signatures.SignatureInvalid: if another key, or nobody, signed it
    """
    at = at or clock.now()
    challenge = _unspent(challenge_id, purpose=purpose, at=at)
    if bytes(challenge.public_key) != public_key:
        raise ChallengeUnknown
    signatures.verify(public_key=public_key, message=challenge.message, signature=signature)
    return _mark_spent(challenge, at=at)


@transaction.atomic
def spend_by_agent(
    agent: Agent, challenge_id: UUID, *, signature: bytes, purpose: Purpose | str, at: datetime | None = None
) -> Challenge:
    """Use up a challenge that was issued for a key of this agent and is signed by any of its keys."""
    at = at or clock.now()
    challenge = _unspent(challenge_id, purpose=purpose, at=at)
    keys = live_keys(agent)
    if bytes(challenge.public_key) not in keys:
        raise ChallengeUnknown
    _verify_by_any(keys, challenge=challenge, signature=signature)
    return _mark_spent(challenge, at=at)


@transaction.atomic
def spend_by_both(
    agent: Agent,
    challenge_id: UUID,
    *,
    new_key: bytes,
    signature_by_existing_key: bytes,
    signature_by_new_key: bytes,
    at: datetime | None = None,
) -> Challenge:
    """Use up an `add_key` challenge, issued for the new key or one of the agent's, that both have signed."""
    at = at or clock.now()
    challenge = _unspent(challenge_id, purpose=Purpose.ADD_KEY, at=at)
    keys = live_keys(agent)
    if bytes(challenge.public_key) not in {new_key, *keys}:
        raise ChallengeUnknown
    _verify_by_any(keys, challenge=challenge, signature=signature_by_existing_key)
    signatures.verify(public_key=new_key, message=challenge.message, signature=signature_by_new_key)
    return _mark_spent(challenge, at=at)


def live_keys(agent: Agent) -> list[bytes]:
    """Read the public keys that may sign for an agent, oldest first."""
    keys = AgentKey.objects.filter(agent_id=agent.pk, removed_at=None).order_by("pk")
    return [bytes(key) for key in keys.values_list("public_key", flat=True)]


def forget(*, at: datetime | None = None) -> int:
    """Delete challenges that ended a day ago; used or not, they can do nothing any more."""
    at = at or clock.now()
    return Challenge.objects.filter(expires_at__lt=at - timedelta(days=1)).delete()[0]


def _unspent(challenge_id: UUID, *, purpose: Purpose | str, at: datetime) -> Challenge:
    challenge = Challenge.objects.filter(pk=challenge_id, purpose=purpose).first()
    if challenge is None:
        raise ChallengeUnknown
    if challenge.spent_at is not None:
        raise ChallengeSpent
    if at >= challenge.expires_at:
        raise ChallengeExpired
    return challenge


def _mark_spent(challenge: Challenge, *, at: datetime) -> Challenge:
    # Compare and set: whoever comes second waits for the first to commit and then finds nothing to set.
    if not Challenge.objects.filter(pk=challenge.pk, spent_at=None).update(spent_at=at):
        raise ChallengeSpent
    challenge.spent_at = at
    return challenge


def _verify_by_any(keys: list[bytes], *, challenge: Challenge, signature: bytes) -> None:
    if not any(signatures.fits(public_key=key, message=challenge.message, signature=signature) for key in keys):
        raise signatures.SignatureInvalid


def _message(challenge: Challenge) -> str:
    return "\n".join(
        [
            f"{settings.DOMAIN} asks you to prove that you hold this key.",
            "",
            f"Domain: {settings.DOMAIN}",
            f"Purpose: {challenge.purpose}",
            f"Key: {signatures.write(bytes(challenge.public_key))}",
            f"Challenge: {challenge.pk}",
            f"Nonce: {signatures.write(bytes(challenge.nonce))}",
            f"Expires: {challenge.expires_at:%Y-%m-%dT%H:%M:%SZ}",
        ]
    )
