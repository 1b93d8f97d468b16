"""
The case and its time line. Amounts are micro-USDC, shares basis points.

Every window and threshold is copied from the settings when the row is made: a case keeps the rules it began with.
"""

from datetime import datetime

from django.conf import settings
from django.contrib.postgres.indexes import OpClass
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Cast, Least, Length, Now, Reverse

from accounts import ids
from marketplace.models.incidents import LastStandstill

models.TextField.register_lookup(Length)


class Party(models.TextChoices):
    CLIENT = "client"
    SELLER = "seller"


class Reason(models.TextChoices):
    """Why a case is opened, and what a ruling found."""

    NOT_DELIVERED = "not_delivered", "Not delivered"
    NOT_AS_AGREED = "not_as_agreed", "Not as agreed"
    LATE = "late", "Late"
    CHECKS_DISAGREE = "checks_disagree", "Checks disagree"
    UNUSABLE = "unusable", "Unusable"
    PLAGIARISED = "plagiarised", "Plagiarised"
    UNRESPONSIVE_CLIENT = "unresponsive_client", "Unresponsive client"
    UNRESPONSIVE_SELLER = "unresponsive_seller", "Unresponsive seller"
    SCOPE_CHANGED = "scope_changed", "Scope changed"
    CHECKS_RIGGED = "checks_rigged", "Checks rigged"
    FRAUD = "fraud", "Fraud"
    OTHER = "other", "Other"


class Deposit(models.TextChoices):
    """Where a deposit goes when the case closes."""

    BACK = "back", "Back to whoever paid it"
    OTHER_SIDE = "other_side", "To the other side"
    PENALTIES = "penalties", "To the platform (frivolous)"


class Dispute(models.Model):
    """A quarrel about one job; while it lives the job stands still."""

    # Since when the clocks stand still, if they do, and whether an outage has not moved this row's yet: set by
    # `lifecycle.lock`.
    stands_since: datetime | None = None
    is_behind: bool = False

    class State(models.TextChoices):
        AWAITING_ANSWER = "awaiting_answer", "Awaiting answer"
        EVIDENCE = "evidence", "Evidence"
        UNDER_REVIEW = "under_review", "Under review"
        AWAITING_APPROVAL = "awaiting_approval", "Awaiting approval"
        RULED = "ruled", "Ruled"
        APPEALED = "appealed", "Appealed"
        FINAL = "final", "Final"
        SETTLED = "settled", "Settled"
        WITHDRAWN = "withdrawn", "Withdrawn"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    job = models.ForeignKey("marketplace.Job", on_delete=models.PROTECT, related_name="disputes")
    client = models.ForeignKey("accounts.Agent", on_delete=models.PROTECT, related_name="+", db_index=False)
    seller = models.ForeignKey("accounts.Agent", on_delete=models.PROTECT, related_name="+", db_index=False)
    price_units = models.BigIntegerField()
    bond_units = models.BigIntegerField()
    state = models.CharField(max_length=20, choices=State.choices)
    revision = models.IntegerField(default=1)

    # What each side says and asks for; the opener's part is there from the start, the other's with its answer.
    reason = models.CharField(max_length=20, choices=Reason.choices)
    opened_by = models.CharField(max_length=6, choices=Party.choices)
    opener = models.ForeignKey("accounts.Agent", on_delete=models.PROTECT, related_name="disputes_opened")
    statement_of_client = models.TextField(blank=True, default="")
    statement_of_seller = models.TextField(blank=True, default="")
    requested_by_client_bps = models.IntegerField(null=True, blank=True)
    requested_by_seller_bps = models.IntegerField(null=True, blank=True)
    answered_at = models.DateTimeField(null=True, blank=True)
    # A silent respondent counts as having asked for everything.
    unanswered = models.BooleanField(default=False)
    withdrawal_asked_at = models.DateTimeField(null=True, blank=True)

    # The state of delivery when the case was opened: what the default ruling goes by.
    job_state_at_opening = models.CharField(max_length=16)
    opened_before_deliver_by = models.BooleanField()
    deliveries_at_opening = models.SmallIntegerField()
    checks_passed_at_opening = models.BooleanField(null=True, blank=True)

    # Clocks. `deadline_at` is the single due column: the clock of the state, never beyond the hard stop.
    answer_by = models.DateTimeField()
    evidence_by = models.DateTimeField(null=True, blank=True)
    rule_by = models.DateTimeField(null=True, blank=True)
    approve_by = models.DateTimeField(null=True, blank=True)
    appeal_by = models.DateTimeField(null=True, blank=True)
    hear_appeal_by = models.DateTimeField(null=True, blank=True)
    hard_stop_at = models.DateTimeField()
    deadline_at = models.DateTimeField(null=True, blank=True)
    # When the clock of the state was started: an outage before it takes nothing from it.
    deadline_from = models.DateTimeField(null=True, blank=True)
    # The last standstill by which the clocks of this row were moved (marketplace/incidents.py).
    standstill = models.IntegerField(db_default=LastStandstill())
    # What comes due before it without ending the state: half of the ruling time, a question's end, another senior.
    remind_at = models.DateTimeField(null=True, blank=True)
    due_at = models.GeneratedField(
        expression=Least("deadline_at", "remind_at"), output_field=models.DateTimeField(null=True), db_persist=True
    )
    answer_seconds = models.IntegerField()
    evidence_seconds = models.IntegerField()
    question_seconds = models.IntegerField()
    ruling_seconds = models.IntegerField()
    approval_seconds = models.IntegerField()
    appeal_seconds = models.IntegerField()
    appeal_hearing_seconds = models.IntegerField()
    hard_stop_seconds = models.IntegerField()
    approval_threshold_units = models.BigIntegerField()
    # What the sweep of due rows makes of an item that raises: the next one goes on, this one waits a little.
    due_attempts = models.IntegerField(default=0)
    due_retry_at = models.DateTimeField(null=True, blank=True)

    # The opener's deposit: what it owes, and how far its balance reached; the rest comes out of its share.
    deposit_due_units = models.BigIntegerField()
    deposit_held_units = models.BigIntegerField()
    deposit_went = models.CharField(max_length=10, choices=Deposit.choices, null=True, blank=True)

    # Who decides: the moderator under review, the senior on appeal.
    assigned_to = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="cases"
    )
    assigned_at = models.DateTimeField(null=True, blank=True)
    # From then on withdrawing costs the deposit, whoever has the case now.
    first_assigned_at = models.DateTimeField(null=True, blank=True)
    entered_review_at = models.DateTimeField(null=True, blank=True)
    # Half of the time for a ruling is over: a senior was asked, if one was free.
    escalated_at = models.DateTimeField(null=True, blank=True)
    # Who is asked for the second word; any other fit colleague may give it too.
    approver = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    senior_asked_at = models.DateTimeField(null=True, blank=True)
    # While a question is open the clock of the ruling stands still, and evidence is open for the side that is asked.
    clock_stopped_at = models.DateTimeField(null=True, blank=True)
    question_to_client_by = models.DateTimeField(null=True, blank=True)
    question_to_seller_by = models.DateTimeField(null=True, blank=True)
    # Retention has erased what the parties brought; the digests stay.
    evidence_erased_at = models.DateTimeField(null=True, blank=True)
    # A final, non-default ruling nearer to the other side's request than to one's own.
    lost_by = models.CharField(max_length=6, choices=Party.choices, null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    closed_at = models.DateTimeField(null=True, blank=True)

    LIVE = (
        State.AWAITING_ANSWER,
        State.EVIDENCE,
        State.UNDER_REVIEW,
        State.AWAITING_APPROVAL,
        State.RULED,
        State.APPEALED,
    )
    CLOSED = (State.FINAL, State.SETTLED, State.WITHDRAWN)

    class Meta:
        default_permissions = ("view",)
        permissions = [
            ("rule", "Can take cases and rule"),
            ("approve", "Can approve a colleague's ruling"),
            ("hear_appeals", "Can hear appeals"),
            ("export_case", "Can export a case as a signed pack"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["job"],
                condition=Q(
                    state__in=[
                        "awaiting_answer", "evidence", "under_review", "awaiting_approval", "ruled", "appealed",
                    ]
                ),
                name="dispute_one_live_a_job",
            ),
            models.CheckConstraint(
                condition=Q(
                    state__in=[
                        "awaiting_answer", "evidence", "under_review", "awaiting_approval", "ruled", "appealed",
                        "final", "settled", "withdrawn",
                    ]
                ),
                name="dispute_state_is_known",
            ),
            models.CheckConstraint(
                condition=Q(
                    reason__in=[
                        "not_delivered", "not_as_agreed", "late", "checks_disagree", "unusable", "plagiarised",
                        "unresponsive_client", "unresponsive_seller", "scope_changed", "checks_rigged", "fraud",
                        "other",
                    ]
                ),
                name="dispute_reason_is_known",
            ),
            models.CheckConstraint(
                condition=(Q(opened_by="client") & Q(opener=F("client")))
                | (Q(opened_by="seller") & Q(opener=F("seller"))),
                name="dispute_opener_is_a_party",
            ),
            models.CheckConstraint(condition=~Q(client=F("seller")), name="dispute_has_two_parties"),
            models.CheckConstraint(
                condition=Q(price_units__gt=0, bond_units__gte=0, bond_units__lte=F("price_units")),
                name="dispute_amounts_are_sane",
            ),
            models.CheckConstraint(
                condition=Q(deposit_held_units__gte=0, deposit_due_units__lte=F("price_units"))
                & Q(deposit_held_units__lte=F("deposit_due_units")),
                name="dispute_deposit_is_within_due",
            ),
            models.CheckConstraint(
                condition=(Q(requested_by_client_bps=None) | Q(requested_by_client_bps__range=(0, 10_000)))
                & (Q(requested_by_seller_bps=None) | Q(requested_by_seller_bps__range=(0, 10_000))),
                name="dispute_requests_are_shares",
            ),
            models.CheckConstraint(
                condition=(
                    Q(opened_by="client", requested_by_client_bps__isnull=False)
                    & Q(statement_of_client__length__range=(100, 20_000))
                )
                | (
                    Q(opened_by="seller", requested_by_seller_bps__isnull=False)
                    & Q(statement_of_seller__length__range=(100, 20_000))
                ),
                name="dispute_opener_states_its_case",
            ),
            models.CheckConstraint(
                condition=Q(answered_at=None)
                | (
                    Q(requested_by_client_bps__isnull=False, requested_by_seller_bps__isnull=False)
                    & Q(statement_of_client__length__range=(100, 20_000))
                    & Q(statement_of_seller__length__range=(100, 20_000))
                ),
                name="dispute_answer_states_its_case",
            ),
            models.CheckConstraint(
                condition=Q(unanswered=False) | Q(answered_at=None), name="dispute_is_answered_or_not"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["final", "settled", "withdrawn"], closed_at__isnull=False, deadline_at=None)
                | (
                    Q(closed_at=None, deadline_at__isnull=False, deadline_at__lte=F("hard_stop_at"))
                    & ~Q(state__in=["final", "settled", "withdrawn"])
                ),
                name="dispute_lives_by_a_deadline",
            ),
            models.CheckConstraint(
                condition=~Q(state="awaiting_answer") | Q(answered_at=None), name="dispute_awaiting_has_no_answer"
            ),
            models.CheckConstraint(
                condition=~Q(state="evidence") | Q(answered_at__isnull=False, evidence_by__isnull=False),
                name="dispute_evidence_follows_answer",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["under_review", "awaiting_approval"]) | Q(entered_review_at__isnull=False),
                name="dispute_review_was_entered",
            ),
            models.CheckConstraint(
                condition=~Q(state="ruled") | Q(appeal_by__isnull=False), name="dispute_ruled_can_be_appealed"
            ),
            models.CheckConstraint(
                condition=~Q(state="awaiting_approval") | Q(approve_by__isnull=False),
                name="dispute_approval_has_its_time",
            ),
            models.CheckConstraint(
                condition=~Q(state="appealed") | Q(hear_appeal_by__isnull=False), name="dispute_hearing_has_its_time"
            ),
            models.CheckConstraint(
                condition=Q(clock_stopped_at=None, question_to_client_by=None, question_to_seller_by=None)
                | (
                    Q(clock_stopped_at__isnull=False)
                    & (Q(question_to_client_by__isnull=False) | Q(question_to_seller_by__isnull=False))
                ),
                name="dispute_clock_stops_for_questions",
            ),
            models.CheckConstraint(
                condition=Q(closed_at=None) | Q(remind_at=None), name="dispute_closed_reminds_nobody"
            ),
        ]  # fmt: skip
        indexes = [
            models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="dispute_due"),
            models.Index(fields=["standstill", "id"], condition=Q(closed_at=None), name="dispute_under_a_clock"),
            models.Index(fields=["assigned_to"], condition=Q(closed_at=None), name="dispute_open_of_moderator"),
            models.Index(
                fields=["closed_at"], condition=Q(closed_at__isnull=False, evidence_erased_at=None),
                name="dispute_to_erase",
            ),
            models.Index(fields=["client", "-id"], name="dispute_of_client"),
            models.Index(fields=["seller", "-id"], name="dispute_of_seller"),
            # The queue, a page at a time (disputes/console/queue.py), and what it is searched by: ends of ids.
            models.Index(fields=["state", "deadline_at", "id"], name="dispute_queue"),
            models.Index(fields=["deadline_at", "id"], condition=Q(closed_at=None), name="dispute_living"),
            models.Index(
                fields=["state", "-closed_at", "-id"], condition=Q(closed_at__isnull=False), name="dispute_closed"
            ),
            models.Index(
                OpClass(Reverse(Cast("id", models.TextField())), name="text_pattern_ops"), name="dispute_end_of_id"
            ),
            models.Index(
                OpClass(Reverse(Cast("job", models.TextField())), name="text_pattern_ops"), name="dispute_end_of_job"
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"case {str(self.id)[-6:]} about job {str(self.job_id)[-6:]}"

    @property
    def respondent_role(self) -> str:
        return Party.SELLER if self.opened_by == Party.CLIENT else Party.CLIENT

    @property
    def deposit_key(self) -> str:
        return f"dispute:{self.id}:opening"

    @property
    def deposit_missing_units(self) -> int:
        return self.deposit_due_units - self.deposit_held_units


class DisputeTransition(models.Model):
    """One step of a case: who did what, and where it led. Append-only."""

    dispute = models.ForeignKey(Dispute, on_delete=models.PROTECT, related_name="transitions", db_index=False)
    revision = models.IntegerField()
    action = models.CharField(max_length=30)
    by = models.CharField(
        max_length=9,
        choices=[("client", "Client"), ("seller", "Seller"), ("system", "System"), ("moderator", "Moderator")],
    )
    # Who of the staff: known to staff alone.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    from_state = models.CharField(max_length=20, blank=True)
    to_state = models.CharField(max_length=20)
    note = models.TextField(blank=True, default="")
    occurred_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["dispute", "revision"], name="disputetransition_one_a_revision"),
            models.CheckConstraint(
                condition=Q(by__in=["client", "seller", "system", "moderator"]), name="disputetransition_by_is_known"
            ),
            models.CheckConstraint(
                condition=Q(user=None) | Q(by="moderator"), name="disputetransition_only_staff_have_names"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.action} → {self.to_state}"
