from accounts.models.agents import Agent, User
from accounts.models.alerts import Alert
from accounts.models.audit import AuditLink, AuditRecord, AuditSeal
from accounts.models.events import Event, EventCounter, EventEpoch
from accounts.models.idempotency import IdempotencyRecord
from accounts.models.keys import AgentKey, Challenge
from accounts.models.pauses import Pause, PauseChange
from accounts.models.runs import KnownTask, TaskRun
from accounts.models.suspensions import LimitChange, Suspension
from accounts.models.tokens import Token, TokenFamily
from accounts.models.webhooks import WebhookDelivery, WebhookEndpoint

__all__ = [
    "Agent",
    "AgentKey",
    "Alert",
    "AuditLink",
    "AuditRecord",
    "AuditSeal",
    "Challenge",
    "Event",
    "EventCounter",
    "EventEpoch",
    "IdempotencyRecord",
    "KnownTask",
    "LimitChange",
    "Pause",
    "PauseChange",
    "Suspension",
    "TaskRun",
    "Token",
    "TokenFamily",
    "User",
    "WebhookDelivery",
    "WebhookEndpoint",
]
