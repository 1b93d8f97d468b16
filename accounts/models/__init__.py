from accounts.models.agents import Agent, User
from accounts.models.alerts import Alert
from accounts.models.events import Event, EventEpoch
from accounts.models.idempotency import IdempotencyRecord
from accounts.models.keys import AgentKey, Challenge
from accounts.models.pauses import Pause, PauseChange
from accounts.models.suspensions import Suspension
from accounts.models.tokens import Token, TokenFamily

__all__ = [
    "Agent",
    "AgentKey",
    "Alert",
    "Challenge",
    "Event",
    "EventEpoch",
    "IdempotencyRecord",
    "Pause",
    "PauseChange",
    "Suspension",
    "Token",
    "TokenFamily",
    "User",
]
