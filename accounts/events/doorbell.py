"""
Who has news: agent ids on a channel of Redis, after the commit.

A doorbell, and no more: what happened stands in rows, and whoever listens looks there each second anyway. One that is
lost delays somebody by that second; one that cannot ring costs the request that rang it nothing that it would notice.
"""

import asyncio
import json
import logging
import threading
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from functools import cache
from typing import Any
from uuid import UUID
from weakref import WeakSet

import redis
from django.conf import settings
from django.db import transaction
from redis import asyncio as aredis
from redis.asyncio import retry as aretry
from redis.backoff import NoBackoff
from redis.retry import Retry

log = logging.getLogger(__name__)

CHANNEL = "bailee:events"
# Longer than Redis ever needs, and short for a request that waits for it in vain …
PATIENCE_SECONDS = 0.2
# … after which this process leaves it in peace for so long.
SILENCE_SECONDS = 5.0
# Who listens asks after so much quiet whether Redis is still there, and connects anew if it does not say so.
QUIET_SECONDS = 5.0
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.1, 5.0

_silent_until = 0.0


def ring(recipients: Iterable[UUID]) -> None:
    """
    Ring for agents once this transaction is committed: one PUBLISH, however often it is called.

    What was called in a savepoint or a transaction that is rolled back does not ring.
    """
    bell = _Bell(recipients)
    _waiting.bells.add(bell)
    transaction.on_commit(bell, robust=True)


async def listen() -> AsyncGenerator[list[UUID], None]:
    """
    Hear who has news, for ever: Redis may come and go.

    What rang while nobody was connected is not heard, so whoever listens looks at the rows by itself as well.
    """
    pause = FIRST_RETRY_SECONDS
    while True:
        try:
            async with aclosing(_heard()) as heard:
                async for message in heard:
                    pause = FIRST_RETRY_SECONDS
                    if message is not None:
                        yield message
        except (redis.RedisError, OSError) as error:
            log.warning("doorbell_not_heard error=%s", type(error).__name__)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LAST_RETRY_SECONDS)


class _Bell:
    """What one call of `ring` leaves for the commit; the first that commits rings for all of them."""

    def __init__(self, recipients: Iterable[UUID]) -> None:
        self.recipients = frozenset(recipients)

    def __call__(self) -> None:
        if self in _waiting.bells:
            bells = list(_waiting.bells)
            _waiting.bells.clear()
            _publish(frozenset().union(*(bell.recipients for bell in bells)))


class _Waiting(threading.local):
    """
    The bells of this thread's transaction. Django forgets the hooks of a savepoint that is rolled back, and tells
    nobody: since only its list keeps them alive, they vanish from here as well.
    """

    def __init__(self) -> None:
        self.bells: WeakSet[_Bell] = WeakSet()


_waiting = _Waiting()


def _publish(recipients: Iterable[UUID]) -> None:
    global _silent_until
    if time.monotonic() < _silent_until:
        return
    try:
        _client(settings.REDIS_URL).publish(CHANNEL, json.dumps(sorted(map(str, recipients))))
    except (redis.RedisError, OSError) as error:
        _silent_until = time.monotonic() + SILENCE_SECONDS
        log.warning("doorbell_not_rung error=%s", type(error).__name__)


@cache
def _client(url: str) -> redis.Redis:
    # Its pool is made for threads, and makes connections of its own after a fork. By default it would try three times.
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=PATIENCE_SECONDS,
        socket_timeout=PATIENCE_SECONDS,
        retry=Retry(NoBackoff(), 0),
        driver_info=None,
    )


async def _heard() -> AsyncGenerator[list[UUID] | None, None]:
    """Yield what rings, and None for a sign of life, until Redis is away."""
    client = aredis.Redis.from_url(
        settings.REDIS_URL,
        socket_connect_timeout=QUIET_SECONDS,
        socket_timeout=QUIET_SECONDS,
        retry=aretry.Retry(NoBackoff(), 0),
    )
    async with client, client.pubsub() as subscription:
        await subscription.subscribe(CHANNEL)
        asked = False
        while True:
            message = await subscription.get_message(timeout=QUIET_SECONDS)
            if message is None and asked:
                raise redis.TimeoutError("Redis says nothing")
            if asked := message is None:
                await subscription.ping()
            else:
                yield _agents_in(message)


def _agents_in(message: dict[str, Any]) -> list[UUID] | None:
    if message["type"] != "message":
        return None
    try:
        return [UUID(agent) for agent in json.loads(message["data"])]
    except (ValueError, TypeError, AttributeError):
        log.warning("doorbell_not_understood")
        return None
