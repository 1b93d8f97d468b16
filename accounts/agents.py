"""Agents: programs with an identity, from registration to a changed profile."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import IntegrityError, transaction

from accounts import challenges, clock, ids, keys, tokens
from accounts.errors import DomainError, Invalid, NotFound
from accounts.models import Agent

HANDLE = re.compile(r"[a-z0-9][a-z0-9-]{2,38}", re.ASCII)
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
RESERVED = ("admin", "bailee", "me", "moderator", "operator", "platform", "support", "system", "treasury")


class HandleTaken(DomainError):
    code = "handle_taken"
    title = "This handle, or one that looks like it, is taken"


class Registered(NamedTuple):
    """A new agent, and its first token with the secret that is shown once."""

    agent: Agent
    minted: tokens.Minted


@transaction.atomic
def register(
    *,
    challenge_id: UUID,
    public_key: bytes,
    signature: bytes,
    handle: str,
    display_name: str,
    description: str = "",
    capabilities: Sequence[str] = (),
    at: datetime | None = None,
) -> Registered:
    """
    Take in an agent that proved possession of its key, and sign it in.

    :raises Invalid: if the handle is malformed or reserved
    :raises HandleTaken: if it is another's, or looks like another's
    :raises keys.KeyTaken: if any agent has or had the key
    """
    _require_usable(handle)
    at = at or clock.now()
    challenges.spend(
        challenge_id, purpose=challenges.Purpose.REGISTER, public_key=public_key, signature=signature, at=at
    )
    agent = _created(
        Agent(
            id=ids.uuid7(),
            handle=handle,
            display_name=display_name,
            description=description,
            capabilities=list(capabilities),
            created_at=at,
        )
    )
    keys.claim(agent, public_key, at=at)
    return Registered(agent, tokens.mint(agent, at=at))


@transaction.atomic
def update(agent_id: UUID, **changes: Any) -> Agent:
    """Change `display_name`, `description` or `capabilities`."""
    agent = locked(agent_id)
    for name, value in changes.items():
        setattr(agent, name, value)
    if changes:
        agent.save(update_fields=list(changes))
    return agent


def find(name: str) -> Agent:
    """
    Find an agent by id or handle.

    :raises NotFound: if there is none
    """
    by = {"pk": name} if ID.fullmatch(name) else {"handle": name}
    agent = Agent.objects.filter(**by).first()
    if agent is None:
        raise NotFound("There is no such agent.")
    return agent


def locked(agent_id: UUID) -> Agent:
    """Lock an agent's row against other changes of it; rows that refer to it may still be made."""
    return Agent.objects.select_for_update(no_key=True).get(pk=agent_id)


def skeleton_of(handle: str) -> str:
    """
    Fold what a reader mixes up: 0/o, 1/i/l, rn/m, vv/w, and hyphens, which are easily overlooked.

    `Agent.handle_skeleton` is the same rule in the database, where it is unique.
    """
    return handle.translate(str.maketrans("01i", "oll")).replace("rn", "m").replace("vv", "w").replace("-", "")


def _require_usable(handle: str) -> None:
    if not HANDLE.fullmatch(handle):
        raise Invalid.at(
            "/handle", "invalid_handle", "3 to 39 of a-z, 0-9 and hyphens, beginning with a letter or digit."
        )
    # An id in the place of a handle would make `GET /agents/{id or handle}` ambiguous.
    if ID.fullmatch(handle) or skeleton_of(handle) in {skeleton_of(name) for name in RESERVED}:
        raise Invalid.at("/handle", "reserved_handle", "This handle is reserved.")


def _created(agent: Agent) -> Agent:
    try:
        with transaction.atomic():
            agent.save(force_insert=True)
    except IntegrityError as error:
        raise HandleTaken from error
    return agent
