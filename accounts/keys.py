"""The keys of an agent: each is one agent's for ever, and one always remains (trust.md, section 1)."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from accounts import audit, challenges, clock, ids
from accounts.errors import DomainError, NotFound
from accounts.events import log
from accounts.models import Agent, AgentKey
from accounts.signatures import write


class KeyTaken(DomainError):
    code = "key_taken"
    title = "This key is, or was, an agent's"


class LastKey(DomainError):
    code = "last_key"
    title = "The last key cannot be removed"


def claim(agent: Agent, public_key: bytes, *, at: datetime) -> AgentKey:
    """
    Give a key to an agent, for ever; the caller has seen proof of possession.

    :raises KeyTaken: if any agent has or had it
    """
    key = AgentKey(id=ids.uuid7(), agent=agent, public_key=public_key, created_at=at)
    try:
        with transaction.atomic():
            key.save(force_insert=True)
    except IntegrityError as error:
        raise KeyTaken from error
    return key


@transaction.atomic
def add(
    agent: Agent,
    *,
    public_key: bytes,
    challenge_id: UUID,
    signature_by_existing_key: bytes,
    signature_by_new_key: bytes,
    at: datetime | None = None,
) -> AgentKey:
    """
    Add a key that signed the challenge beside one the agent has.

    :raises KeyTaken: if any agent has or had it
    """
    _lock(agent)
    at = at or clock.now()
    challenges.spend_by_both(
        agent,
        challenge_id,
        new_key=public_key,
        signature_by_existing_key=signature_by_existing_key,
        signature_by_new_key=signature_by_new_key,
        at=at,
    )
    key = claim(agent, public_key, at=at)
    _tell("key.added", key, at=at)
    _audit("key.added", key, agent=agent, at=at)
    return key


@transaction.atomic
def remove(key_id: UUID, *, agent: Agent, challenge_id: UUID, signature: bytes, at: datetime | None = None) -> AgentKey:
    """
    Take a key from signing; the row stays, so that nobody else can ever have it.

    :raises NotFound: if it is no live key of this agent
    :raises LastKey: if no other would remain
    """
    _lock(agent)
    at = at or clock.now()
    live = {key.pk: key for key in AgentKey.objects.filter(agent_id=agent.pk, removed_at=None)}
    if key_id not in live:
        raise NotFound
    if len(live) == 1:
        raise LastKey
    challenges.spend_by_agent(agent, challenge_id, signature=signature, purpose=challenges.Purpose.CONFIRM, at=at)
    key = live[key_id]
    before = audit.state_of(key)
    key.removed_at = at
    key.save(update_fields=["removed_at"])
    _tell("key.removed", key, at=at)
    _audit("key.removed", key, agent=agent, before=before, at=at)
    return key


def holder_of(public_key: bytes) -> Agent | None:
    """Find the agent that signs with this key now."""
    key = AgentKey.objects.select_related("agent").filter(public_key=public_key, removed_at=None).first()
    return key.agent if key else None


def _lock(agent: Agent) -> None:
    # Two removals at once must not leave an agent without a key.
    Agent.objects.select_for_update(no_key=True).get(pk=agent.pk)


def _tell(event: str, key: AgentKey, *, at: datetime) -> None:
    data = {"key_id": str(key.pk), "public_key": write(bytes(key.public_key))}
    log.record(event, to=[key.agent_id], data=data, at=at)


def _audit(action: str, key: AgentKey, *, agent: Agent, before: dict[str, Any] | None = None, at: datetime) -> None:
    audit.record(
        action, agent=agent, subject=f"key:{key.pk}", before=before, after=audit.state_of(key),
        facts={"public_key": write(bytes(key.public_key))}, at=at,
    )  # fmt: skip
