"""Decisions. What was decided never changes (trigger); only its standing does."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from accounts import ids
from disputes.models.cases import Deposit, Dispute, Party

REASON_CODES = [
    "not_delivered", "not_as_agreed", "late", "checks_disagree", "unusable", "plagiarised", "unresponsive_client",
    "unresponsive_seller", "scope_changed", "checks_rigged", "fraud", "other",
]  # fmt: skip


class Ruling(models.Model):
    """How the money is divided, and why. Shares are basis points of the price before the fee."""

    class Standing(models.TextChoices):
        PROPOSED = "proposed"
        STANDING = "standing"
        RETURNED = "returned"
        REPLACED = "replaced"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    dispute = models.ForeignKey(Dispute, on_delete=models.PROTECT, related_name="rulings", db_index=False)
    number = models.SmallIntegerField()
    standing = models.CharField(max_length=8, choices=Standing.choices)
    # Null for the default ruling, which nobody wrote.
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="rulings"
    )
    is_default = models.BooleanField(default=False)
    # Made by a senior who heard an appeal; it replaces the ruling that was appealed.
    on_appeal = models.BooleanField(default=False)
    # Null for a redo.
    seller_bps = models.IntegerField(null=True, blank=True)
    # Where a share is not a round number of basis points (an abort fee), its exact micro-USDC.
    seller_units = models.BigIntegerField(null=True, blank=True)
    redo = models.BooleanField(default=False)
    bond_to = models.CharField(max_length=6, choices=Party.choices)
    deposit = models.CharField(max_length=10, choices=Deposit.choices)
    appeal_deposit = models.CharField(max_length=10, choices=Deposit.choices, null=True, blank=True)
    reason_codes = ArrayField(models.CharField(max_length=20, choices=[(code, code) for code in REASON_CODES]))
    reasons = models.TextField()
    # Never shown to the parties.
    private_notes = models.TextField(blank=True, default="")
    needs_approval = models.BooleanField(default=False)
    # The revision of the case that its author had before them.
    revision = models.IntegerField()
    ruled_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["dispute", "number"], name="ruling_number_once"),
            models.UniqueConstraint(
                fields=["dispute"], condition=Q(standing="standing"), name="ruling_one_in_force"
            ),
            models.UniqueConstraint(
                fields=["dispute"], condition=Q(standing="proposed"), name="ruling_one_proposed"
            ),
            models.CheckConstraint(
                condition=Q(standing__in=["proposed", "standing", "returned", "replaced"]),
                name="ruling_standing_is_known",
            ),
            models.CheckConstraint(
                condition=Q(is_default=True, author=None) | Q(is_default=False, author__isnull=False),
                name="ruling_has_an_author_or_is_default",
            ),
            models.CheckConstraint(
                condition=Q(redo=True, seller_bps=None, seller_units=None)
                | Q(redo=False, seller_bps__range=(0, 10_000)),
                name="ruling_splits_or_lets_redo",
            ),
            models.CheckConstraint(
                condition=Q(seller_units=None) | Q(seller_units__gte=0), name="ruling_units_not_negative"
            ),
            models.CheckConstraint(condition=Q(bond_to__in=["client", "seller"]), name="ruling_bond_has_a_taker"),
            models.CheckConstraint(
                condition=Q(deposit__in=["back", "other_side", "penalties"]), name="ruling_deposit_has_a_taker"
            ),
            models.CheckConstraint(
                condition=Q(is_default=True) | Q(reasons__length__gte=200), name="ruling_gives_reasons"
            ),
            models.CheckConstraint(
                condition=Q(is_default=True) | (Q(reason_codes__len__gte=1)), name="ruling_names_a_code"
            ),
            models.CheckConstraint(
                condition=Q(reason_codes__contained_by=REASON_CODES), name="ruling_codes_are_known"
            ),
        ]  # fmt: skip
        indexes = [models.Index(fields=["ruled_at"], name="ruling_by_day")]

    def __str__(self) -> str:
        share = "redo" if self.redo else f"seller {self.seller_bps} bps"
        return f"ruling {self.number}: {share}"


class RulingApproval(models.Model):
    """The second person's word on a ruling. Append-only."""

    class Decision(models.TextChoices):
        APPROVED = "approved"
        RETURNED = "returned"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    ruling = models.ForeignKey(Ruling, on_delete=models.PROTECT, related_name="approvals")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    decision = models.CharField(max_length=8, choices=Decision.choices)
    reason = models.TextField(blank=True, default="")
    decided_at = models.DateTimeField()

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["ruling"], name="rulingapproval_one_a_ruling"),
            models.CheckConstraint(
                condition=Q(decision__in=["approved", "returned"]), name="rulingapproval_decision_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.decision} at {self.decided_at:%Y-%m-%d %H:%M}"


class Appeal(models.Model):
    """The one challenge to a ruling."""

    class Outcome(models.TextChoices):
        UPHELD = "upheld"
        REPLACED = "replaced"
        LAPSED = "lapsed"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    dispute = models.OneToOneField(Dispute, on_delete=models.PROTECT, related_name="appeal")
    against = models.ForeignKey(Ruling, on_delete=models.PROTECT, related_name="+")
    by = models.CharField(max_length=6, choices=Party.choices)
    appellant = models.ForeignKey("accounts.Agent", on_delete=models.PROTECT, related_name="+")
    grounds = models.TextField()
    deposit_due_units = models.BigIntegerField()
    deposit_held_units = models.BigIntegerField()
    deposit_went = models.CharField(max_length=10, choices=Deposit.choices, null=True, blank=True)
    filed_at = models.DateTimeField()
    decide_by = models.DateTimeField()
    outcome = models.CharField(max_length=8, choices=Outcome.choices, null=True, blank=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    # Why the ruling was upheld; one that replaces it has reasons of its own.
    reasons = models.TextField(blank=True, default="")
    private_notes = models.TextField(blank=True, default="")

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(condition=Q(by__in=["client", "seller"]), name="appeal_is_by_a_party"),
            models.CheckConstraint(
                condition=Q(grounds__length__range=(100, 5_000)), name="appeal_states_its_grounds"
            ),
            models.CheckConstraint(
                condition=Q(deposit_held_units__gte=0) & Q(deposit_held_units__lte=models.F("deposit_due_units")),
                name="appeal_deposit_is_within_due",
            ),
            models.CheckConstraint(
                condition=Q(outcome=None, decided_at=None)
                | Q(outcome__in=["upheld", "replaced", "lapsed"], decided_at__isnull=False),
                name="appeal_outcome_has_its_time",
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"appeal by the {self.by}"

    @property
    def deposit_key(self) -> str:
        return f"dispute:{self.dispute_id}:appeal"

    @property
    def deposit_missing_units(self) -> int:
        return self.deposit_due_units - self.deposit_held_units
