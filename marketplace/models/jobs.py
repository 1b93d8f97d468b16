from datetime import datetime

import pgtrigger
from django.db import models
from django.db.models import Case, F, Q, When
from django.db.models.functions import Least, Now

from accounts import ids
from accounts.models import Agent
from accounts.models.guards import IMMUTABLE, KEPT
from marketplace.models.incidents import LastStandstill
from marketplace.models.listings import Listing


class State(models.TextChoices):
    NEGOTIATING = "negotiating"
    AGREED = "agreed"
    FUNDED = "funded"
    IN_PROGRESS = "in_progress"
    DELIVERED = "delivered"
    REVISING = "revising"
    DISPUTED = "disputed"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    FAILED = "failed"
    RESOLVED = "resolved"


TERMINAL = (State.COMPLETED, State.CANCELLED, State.EXPIRED, State.FAILED, State.RESOLVED)


class Job(models.Model):
    """
    One piece of work between one client and one seller.

    The numbers of the terms stand in columns of their own (from the latest offer while they negotiate, from the agreed
    one afterwards), so that no clock and no payment ever reads a setting or a document.
    """

    # Set by `locking.lock`: the database's clock under the row's lock, and the latest offer.
    at: datetime
    offer: "Offer"
    # Since when the clocks stand still, if they do: the moment by which "before" and "over" are judged.
    stands_since: datetime | None = None

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    revision = models.IntegerField(default=1)
    state = models.CharField(max_length=12, choices=State.choices, default=State.NEGOTIATING)
    client = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="jobs_as_client")
    seller = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="jobs_as_seller")
    listing = models.ForeignKey(Listing, null=True, blank=True, on_delete=models.PROTECT, related_name="jobs")

    max_rounds = models.SmallIntegerField()
    offer_seconds = models.IntegerField()
    offers_count = models.SmallIntegerField(default=1)
    agreed_terms_hash = models.CharField(max_length=71, null=True, blank=True)

    price_units = models.BigIntegerField()
    bond_units = models.BigIntegerField(default=0)
    client_abort_fee_units = models.BigIntegerField(default=0)
    fee_bps = models.IntegerField()
    delivery_seconds = models.IntegerField()
    review_seconds = models.IntegerField()
    revision_seconds = models.IntegerField()
    max_revisions = models.SmallIntegerField()
    max_deliveries = models.SmallIntegerField()

    revisions_used = models.SmallIntegerField(default=0)
    deliveries_count = models.SmallIntegerField(default=0)
    funded_at = models.DateTimeField(null=True, blank=True)
    deliver_by = models.DateTimeField(null=True, blank=True)
    review_by = models.DateTimeField(null=True, blank=True)
    revise_by = models.DateTimeField(null=True, blank=True)

    # The next thing that silence does, and when. Nothing else is ever due.
    deadline_at = models.DateTimeField(null=True, blank=True)
    # When that clock was started: an outage before it takes nothing from it.
    deadline_from = models.DateTimeField(null=True, blank=True)
    # When both parties are reminded of it; null once they were.
    near_at = models.DateTimeField(null=True, blank=True)
    # What the sweep goes by; the time row of a disputed job is its dispute's.
    due_at = models.GeneratedField(
        expression=Case(When(state=State.DISPUTED, then=F("near_at")), default=Least("deadline_at", "near_at")),
        output_field=models.DateTimeField(null=True),
        db_persist=True,
    )
    # The last standstill by which the clocks of this row were moved (incidents.py).
    standstill = models.IntegerField(db_default=LastStandstill())
    deadline_action = models.CharField(max_length=16, blank=True, default="")
    deadline_effect = models.TextField(blank=True, default="")
    # A deadline whose enforcement raised is tried again later; the others do not wait for it.
    deadline_failures = models.SmallIntegerField(default=0)
    deadline_retry_at = models.DateTimeField(null=True, blank=True)
    awaiting = models.CharField(max_length=9, null=True, blank=True)

    client_settlement_bps = models.IntegerField(null=True, blank=True)
    seller_settlement_bps = models.IntegerField(null=True, blank=True)

    # A case that is ruled leaves nothing to settle.
    settlement_closed = models.BooleanField(default=False)

    # Each party may open one dispute, a withdrawn one included, and one more after a redo.
    client_disputes_left = models.SmallIntegerField(default=1)
    seller_disputes_left = models.SmallIntegerField(default=1)
    # A ruling may let the work be done again once.
    redos_left = models.SmallIntegerField(default=1)

    # Where a dispute froze the job, for the day on which it is withdrawn.
    dispute_id = models.UUIDField(null=True, blank=True)
    frozen_state = models.CharField(max_length=12, blank=True, default="")
    frozen_at = models.DateTimeField(null=True, blank=True)
    # When the clock that it froze was started.
    frozen_from = models.DateTimeField(null=True, blank=True)

    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(state__in=State.values), name="job_state_is_known"),
            models.CheckConstraint(condition=~Q(client=F("seller")), name="job_has_two_parties"),
            models.CheckConstraint(
                condition=Q(price_units__gte=10_000, price_units__lte=10**12), name="job_price_in_bounds"
            ),
            models.CheckConstraint(
                condition=Q(bond_units__gte=0, bond_units__lte=F("price_units")), name="job_bond_in_bounds"
            ),
            models.CheckConstraint(
                condition=Q(client_abort_fee_units__gte=0, client_abort_fee_units__lte=F("price_units")),
                name="job_abort_fee_in_bounds",
            ),
            models.CheckConstraint(condition=Q(fee_bps__gte=0, fee_bps__lte=10_000), name="job_fee_in_bounds"),
            models.CheckConstraint(
                condition=Q(state__in=TERMINAL, deadline_at=None)
                | (~Q(state__in=TERMINAL) & Q(deadline_at__isnull=False)),
                name="job_lives_under_a_deadline",
            ),
            models.CheckConstraint(
                condition=Q(state__in=[State.NEGOTIATING, State.CANCELLED, State.EXPIRED])
                | Q(agreed_terms_hash__isnull=False),
                name="job_runs_under_agreed_terms",
            ),
            models.CheckConstraint(
                condition=Q(client_disputes_left__gte=0, seller_disputes_left__gte=0), name="job_disputes_are_counted"
            ),
            models.CheckConstraint(condition=Q(redos_left__range=(0, 1)), name="job_is_redone_once"),
            models.CheckConstraint(
                condition=Q(revisions_used__gte=0, revisions_used__lte=F("max_revisions")),
                name="job_revisions_in_bounds",
            ),
            models.CheckConstraint(
                condition=Q(client_settlement_bps=None) | Q(client_settlement_bps__range=(0, 10_000)),
                name="job_client_settlement_in_bounds",
            ),
            models.CheckConstraint(
                condition=Q(seller_settlement_bps=None) | Q(seller_settlement_bps__range=(0, 10_000)),
                name="job_seller_settlement_in_bounds",
            ),
        ]
        triggers = [
            pgtrigger.Protect(
                name="money_is_as_funded",
                operation=pgtrigger.UpdateOf("price_units", "bond_units", "client_abort_fee_units", "fee_bps"),
                condition=pgtrigger.Q(old__funded_at__isnull=False),
            ),
            pgtrigger.Protect(name="job_is_for_ever", operation=pgtrigger.Delete),
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="job_due"),
            models.Index(fields=["standstill", "id"], condition=Q(deadline_at__isnull=False), name="job_under_a_clock"),
            models.Index(fields=["client", "-id"], name="job_of_client"),
            models.Index(fields=["seller", "-id"], name="job_of_seller"),
        ]

    def __str__(self) -> str:
        return f"job {self.id} ({self.state})"

    @property
    def hold_key(self) -> str:
        """The opaque key under which escrow keeps this job's price and bond."""
        return f"job:{self.id}"


class Offer(models.Model):
    """One author's version of the terms; immutable."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    job = models.ForeignKey(Job, on_delete=models.PROTECT, related_name="offers", db_index=False)
    number = models.SmallIntegerField()
    author = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="+", db_index=False)
    terms = models.JSONField()
    terms_hash = models.CharField(max_length=71)
    message = models.TextField(blank=True, default="")
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["job", "number"], name="offer_number_once"),
            models.CheckConstraint(condition=Q(number__gte=1), name="offer_number_from_one"),
        ]
        triggers = (
            # An outage may let an offer live longer; nothing else of it ever changes.
            pgtrigger.Trigger(
                name="immutable",
                operation=pgtrigger.Update | pgtrigger.Delete,
                when=pgtrigger.Before,
                func="""
                    IF TG_OP = 'UPDATE' AND NEW.expires_at > OLD.expires_at
                        AND to_jsonb(NEW) - 'expires_at' = to_jsonb(OLD) - 'expires_at'
                    THEN
                        RETURN NEW;
                    END IF;
                    RAISE EXCEPTION 'pgtrigger: Cannot update or delete rows from % table', TG_TABLE_NAME;
                """,
            ),
            KEPT,
        )

    def __str__(self) -> str:
        return f"offer {self.number} of {self.job_id}"


class Transition(models.Model):
    """One step of a job's life; the time line is made of these."""

    id = models.BigAutoField(primary_key=True)
    job = models.ForeignKey(Job, on_delete=models.PROTECT, related_name="transitions", db_index=False)
    revision = models.IntegerField()
    action = models.CharField(max_length=16)
    by = models.CharField(max_length=9)
    from_state = models.CharField(max_length=12, blank=True, default="")
    to_state = models.CharField(max_length=12)
    note = models.TextField(blank=True, default="")
    occurred_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "revision"], name="transition_once_a_revision")]
        indexes = [
            # What an agent's public record counts.
            models.Index(fields=["job"], condition=Q(action="auto_approve"), name="transition_of_silence"),
        ]
        triggers = IMMUTABLE

    def __str__(self) -> str:
        return f"{self.action} by {self.by}"
