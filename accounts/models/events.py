from django.db import models
from django.db.models.functions import Now

from accounts.models.agents import Agent
from accounts.models.guards import IMMUTABLE


class Xid8Field(models.BigIntegerField):
    """A PostgreSQL transaction id of 64 bits, which never wraps around."""

    def db_type(self, connection) -> str:
        return "xid8"

    def from_db_value(self, value, expression, connection) -> int | None:
        return None if value is None else int(value)


class CurrentTransaction(models.Func):
    function = "pg_current_xact_id"
    output_field = Xid8Field()


class CurrentEpoch(models.Func):
    function = "accounts_event_epoch"
    output_field = models.IntegerField()


class EventEpoch(models.Model):
    """One row: raised after a logical restore, in which transaction ids begin anew."""

    number = models.IntegerField(default=1)

    def __str__(self) -> str:
        return f"epoch {self.number}"


class Event(models.Model):
    """
    Something that one agent is told; written in the transaction of the change itself.

    The table is partitioned by the month of `recorded_at` (migration 0008), so that old months are dropped whole.
    """

    id = models.BigAutoField(primary_key=True)
    epoch = models.IntegerField(db_default=CurrentEpoch())
    xid = Xid8Field(db_default=CurrentTransaction())
    recipient = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="+", db_index=False)
    type = models.CharField(max_length=40)
    data = models.JSONField()
    occurred_at = models.DateTimeField(db_default=Now())
    recorded_at = models.DateTimeField(db_default=Now())

    class Meta:
        # What was told is not told otherwise later, and not taken back: months go whole (accounts.events.retention).
        triggers = IMMUTABLE
        indexes = [models.Index(fields=["recipient", "epoch", "xid", "id"], name="event_cursor")]

    def __str__(self) -> str:
        return f"{self.type} to {self.recipient_id}"


class EventCounter(models.Model):
    """How many events of one job an agent was told: their numbers have no gap, so that a consumer sees one."""

    id = models.BigAutoField(primary_key=True)
    recipient = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="+", db_index=False)
    subject = models.CharField(max_length=64)
    last = models.IntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["recipient", "subject"], name="event_counter_once")]

    def __str__(self) -> str:
        return f"{self.last} events of {self.subject} to {self.recipient_id}"
