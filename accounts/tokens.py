"""
How requests are made: bearer tokens with scopes, an end, and a keyed hash instead of the secret (trust.md, section 1).

A secret is `blt_live_` or `blt_test_`, 30 random base62 characters, and 6 of the CRC-32 of all that, so that a mistyped
or made-up one is refused without asking the database.
"""

import hmac
import ipaddress
import secrets
import string
import zlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from accounts import audit, challenges, clock, ids, keys, limits, scopes
from accounts.errors import DomainError, NotAllowed, NotFound, Unauthenticated
from accounts.events import log
from accounts.models import Agent, Token, TokenFamily
from accounts.models.tokens import LONGEST_SECONDS

DEFAULT_SECONDS = 86_400
MAX_SECONDS = LONGEST_SECONDS
MAX_OVERLAP_SECONDS = 7 * 86_400

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM, _CHECK = 30, 6


class TokenNotLive(DomainError):
    code = "token_not_live"
    title = "The token is revoked, over, or rotated already"


class Minted(NamedTuple):
    """A token and its secret, which nobody can read again."""

    token: Token
    secret: str


def authenticate(secret: str, *, address: str = "") -> Token:
    """
    Find the live token of a secret, with its agent, in one statement; `address` is where the request came from.

    Of an agent that goes, the token has only the scopes that are left to it.

    :raises Unauthenticated: if it is malformed, unknown, over, revoked, or used from another network than allowed
    """
    if not _checks(secret):
        raise Unauthenticated
    with connection.cursor() as cursor:
        cursor.execute(_find_live(), [digest_of(secret)])
        row = cursor.fetchone()
    if row is None:
        raise Unauthenticated
    token = _token_of(row)
    if token.allowed_networks and not _inside(address, token.allowed_networks):
        raise Unauthenticated("The token may not be used from this network.")
    allowed = scopes.open_to(token.agent)
    if allowed is not scopes.ALL:
        token.scopes = [scope for scope in token.scopes if scope in allowed]
    return token


@transaction.atomic
def sign_in(
    *,
    challenge_id: UUID,
    public_key: bytes,
    signature: bytes,
    scopes: Sequence[str] | None = None,
    ttl_seconds: int = DEFAULT_SECONDS,
    label: str = "",
    max_per_job_units: int | None = None,
    max_per_day_units: int | None = None,
    allowed_networks: Sequence[str] = (),
    at: datetime | None = None,
) -> Minted:
    """
    Mint a token for the agent that holds this key; who holds the key may choose any scopes.

    :raises Unauthenticated: if the key is no agent's, or was removed
    """
    at = at or clock.now()
    challenges.spend(
        challenge_id, purpose=challenges.Purpose.SIGN_IN, public_key=public_key, signature=signature, at=at
    )
    return mint(
        _locked_holder(public_key),
        scopes=scopes,
        ttl_seconds=ttl_seconds,
        label=label,
        max_per_job_units=max_per_job_units,
        max_per_day_units=max_per_day_units,
        allowed_networks=allowed_networks,
        at=at,
    )


@transaction.atomic
def mint(
    agent: Agent,
    *,
    scopes: Sequence[str] | None = None,
    ttl_seconds: int = DEFAULT_SECONDS,
    label: str = "",
    max_per_job_units: int | None = None,
    max_per_day_units: int | None = None,
    allowed_networks: Sequence[str] = (),
    at: datetime | None = None,
) -> Minted:
    """
    Make a token of a new family; without `scopes`, with every scope that the agent may have.

    :raises limits.AgentNotActive: if it asks for a scope that an agent which goes has no more
    """
    _lock_agent(agent.pk)
    at = at or clock.now()
    token = Token(
        agent=agent,
        family=TokenFamily.objects.create(agent=agent),
        scopes=_granted(agent, scopes),
        label=label,
        created_at=at,
        expires_at=at + timedelta(seconds=ttl_seconds),
        max_per_job_units=max_per_job_units,
        max_per_day_units=max_per_day_units,
        allowed_networks=list(allowed_networks),
    )
    return _issued(token, "token.created", at=at)


@transaction.atomic
def rotate(token_id: UUID, *, by: Token, overlap_seconds: int, at: datetime | None = None) -> Minted:
    """
    Replace a token by one of the same rights and length; the old one lives on for the overlap at most.

    :raises NotFound: if it is no token of the same agent
    :raises NotAllowed: if it may do more than the token that asks
    :raises TokenNotLive: if it is over, revoked, or was rotated before
    """
    _lock_agent(by.agent_id)
    old = _locked(token_id, agent=by.agent)
    at = at or clock.now()
    if old.revoked_at is not None or old.expires_at <= at or Token.objects.filter(rotated_from=old).exists():
        raise TokenNotLive
    _refuse_wider(old, by=by)
    minted = _issued(
        Token(
            agent=by.agent,
            family_id=old.family_id,
            rotated_from=old,
            scopes=old.scopes,
            label=old.label,
            created_at=at,
            expires_at=at + (old.expires_at - old.created_at),
            max_per_job_units=old.max_per_job_units,
            max_per_day_units=old.max_per_day_units,
            allowed_networks=old.allowed_networks,
            allowed_counterparties=old.allowed_counterparties,
        ),
        "token.rotated",
        at=at,
    )
    if overlap_seconds:
        old.expires_at = min(old.expires_at, at + timedelta(seconds=overlap_seconds))
        old.save(update_fields=["expires_at"])
    else:
        _end(old, at=at)
    return minted


@transaction.atomic
def revoke(token_id: UUID, *, agent: Agent, at: datetime | None = None) -> Token:
    """
    End a token for the next request of any process; a revoked one stays as it is, so that asking again is safe.

    :raises NotFound: if it is no token of this agent
    """
    token = _locked(token_id, agent=agent)
    if token.revoked_at is None:
        _end(token, at=at or clock.now())
    return token


@transaction.atomic
def revoke_all(agent: Agent, *, at: datetime | None = None) -> int:
    """End every live token of an agent, the one that asks too; answers how many."""
    _lock_agent(agent.pk)
    live = Token.objects.select_for_update(no_key=True).filter(agent_id=agent.pk, revoked_at=None).order_by("pk")
    tokens = list(live)
    at = at or clock.now()
    for token in tokens:
        token.agent = agent
        _end(token, at=at)
    audit.record("token.all_revoked", agent=agent, subject=f"agent:{agent.pk}", facts={"revoked": len(tokens)}, at=at)
    return len(tokens)


def digest_of(secret: str) -> bytes:
    """Hash a secret under the pepper: who reads the table can neither use nor guess what is in it."""
    return hmac.digest(settings.TOKEN_PEPPER.encode(), secret.encode(), "sha256")


def new_secret() -> str:
    """Draw a secret of 178 random bits and append its checksum."""
    body = _kind() + "".join(secrets.choice(_BASE62) for _ in range(_RANDOM))
    return body + _checksum(body)


def _kind() -> str:
    return "blt_live_" if settings.BAILEE_ENV == "production" else "blt_test_"


def _checks(secret: str) -> bool:
    body, check = secret[:-_CHECK], secret[-_CHECK:]
    return (
        secret.isascii()
        and secret.startswith(_kind())
        and len(secret) == len(_kind()) + _RANDOM + _CHECK
        and _checksum(body) == check
    )


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECK):
        number, digit = divmod(number, len(_BASE62))
        digits = _BASE62[digit] + digits
    return digits


def _granted(agent: Agent, asked: Sequence[str] | None) -> list[str]:
    allowed = scopes.open_to(agent)
    if asked is None:
        return list(allowed)
    unknown = set(asked) - set(scopes.ALL)
    if unknown:
        raise ValueError(f"no such scopes: {sorted(unknown)}")
    if not set(asked) <= set(allowed):
        raise limits.AgentNotActive(status=agent.status)
    return [scope for scope in allowed if scope in asked]


def _issued(token: Token, action: str, *, at: datetime) -> Minted:
    secret = new_secret()
    token.id = ids.uuid7()
    token.prefix = secret.removeprefix(_kind())[:8]
    token.digest = digest_of(secret)
    token.save(force_insert=True)
    _tell("token.created", token, at=at)
    _audit(action, token, at=at)
    return Minted(token, secret)


def _end(token: Token, *, at: datetime) -> None:
    before = audit.state_of(token)
    token.revoked_at = at
    token.save(update_fields=["revoked_at"])
    _tell("token.revoked", token, at=at)
    _audit("token.revoked", token, before=before, at=at)


def _tell(event: str, token: Token, *, at: datetime) -> None:
    data = {"token_id": str(token.pk), "prefix": token.prefix, "label": token.label, "scopes": token.scopes}
    log.record(event, to=[token.agent_id], data=data, at=at)


def _audit(action: str, token: Token, *, before: dict[str, Any] | None = None, at: datetime) -> None:
    facts = {"prefix": token.prefix, "scopes": token.scopes}
    if token.rotated_from_id:
        facts["rotated_from"] = str(token.rotated_from_id)
    audit.record(
        action, agent=token.agent, subject=f"token:{token.pk}", before=before, after=audit.state_of(token),
        facts=facts, at=at,
    )  # fmt: skip


def _locked_holder(public_key: bytes) -> Agent:
    agent = keys.holder_of(public_key)
    if agent is not None:
        _lock_agent(agent.pk)
        agent = keys.holder_of(public_key)  # the key may have been removed while we waited
    if agent is None:
        raise Unauthenticated("No agent signs in with this key.")
    return agent


def _lock_agent(agent_id: UUID) -> None:
    # Of "mint" or "rotate" and "revoke all" at once, one is wholly before the other: no token slips through.
    Agent.objects.select_for_update(no_key=True).get(pk=agent_id)


def _locked(token_id: UUID, *, agent: Agent) -> Token:
    token = Token.objects.select_for_update(no_key=True).filter(pk=token_id, agent_id=agent.pk).first()
    if token is None:
        raise NotFound
    token.agent = agent
    return token


def _refuse_wider(old: Token, *, by: Token) -> None:
    """A token never mints a wider one; one with caps or networks of its own renews nothing but itself."""
    if old.pk == by.pk:
        return
    narrowed = by.max_per_job_units or by.max_per_day_units or by.allowed_networks or by.allowed_counterparties
    if narrowed or not set(old.scopes) <= set(by.scopes):
        raise NotAllowed("A token never mints a wider one.")


def _inside(address: str, networks: Sequence[str]) -> bool:
    try:
        client = ipaddress.ip_address(address)
    except ValueError:
        return False
    client = getattr(client, "ipv4_mapped", None) or client
    return any(client in ipaddress.ip_network(network) for network in networks)


@cache
def _find_live() -> str:
    # Written out, because this is the first statement of every request and the ORM would cost more than it.
    columns = ", ".join(
        [f"token.{field.column}" for field in Token._meta.concrete_fields]
        + [f"agent.{field.column}" for field in Agent._meta.concrete_fields]
    )
    return (
        f"SELECT {columns} FROM accounts_token token JOIN accounts_agent agent ON agent.id = token.agent_id"
        " WHERE token.digest = %s AND token.revoked_at IS NULL AND token.expires_at > statement_timestamp()"
    )


def _token_of(row: tuple) -> Token:
    names = [field.attname for field in Token._meta.concrete_fields]
    token = Token.from_db(connection.alias, names, row[: len(names)])
    agent_names = [field.attname for field in Agent._meta.concrete_fields]
    token.agent = Agent.from_db(connection.alias, agent_names, row[len(names) :])
    return token
