"""Who may hold a stream open: how many at once, and for how long their token is good."""

import threading
from collections import Counter
from collections.abc import Collection
from uuid import UUID

from django.db import connection

from accounts import scopes
from accounts.errors import DomainError, TryLater
from accounts.models import Agent

SCOPE = "events:read"


class TooManyStreams(DomainError):
    status = 429
    code = "too_many_streams"
    title = "The agent holds too many streams open"
    headers = {"Retry-After": "10"}


class Seats:
    """The streams that one process holds open, counted; asked by several threads."""

    def __init__(self, *, most: int, most_of_an_agent: int) -> None:
        self.most, self.most_of_an_agent = most, most_of_an_agent
        self.closed = False
        self._taken: Counter[UUID] = Counter()
        self._lock = threading.Lock()

    def take(self, agent_id: UUID) -> None:
        """
        Count one more stream of an agent.

        :raises TooManyStreams: if the agent has enough of them
        :raises TryLater: if the process has, or is about to end
        """
        with self._lock:
            if self._taken[agent_id] >= self.most_of_an_agent:
                raise TooManyStreams(f"At most {self.most_of_an_agent} streams at once.")
            if self.closed or self._taken.total() >= self.most:
                raise TryLater("No stream is free here now.")
            self._taken[agent_id] += 1

    def leave(self, agent_id: UUID) -> None:
        """Count one less."""
        with self._lock:
            self._taken[agent_id] -= 1
            if not self._taken[agent_id]:
                del self._taken[agent_id]

    def taken(self) -> int:
        return self._taken.total()


def still_good(token_ids: Collection[UUID]) -> set[UUID]:
    """Find, in one statement, which of these tokens may go on reading events."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT token.id, agent.status FROM accounts_token token JOIN accounts_agent agent"
            " ON agent.id = token.agent_id WHERE token.id = ANY(%s::uuid[])"
            " AND token.revoked_at IS NULL AND token.expires_at > statement_timestamp()",
            [list(token_ids)],
        )
        return {token_id for token_id, status in cursor.fetchall() if SCOPE in scopes.open_to(Agent(status=status))}
