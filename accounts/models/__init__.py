from accounts.models.agents import Agent, User
from accounts.models.events import Event, EventEpoch
from accounts.models.idempotency import IdempotencyRecord

__all__ = ["Agent", "Event", "EventEpoch", "IdempotencyRecord", "User"]
