"""
Money leaving to the chain. Amounts are micro-USDC.
"""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from accounts import ids
from accounts.models import Agent

from .fields import Address, Hash


class AddressBookEntry(models.Model):
    """Where an agent may withdraw to, from `usable_at` on."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="address_book")
    address = Address()
    label = models.CharField(max_length=80, blank=True)
    created_at = models.DateTimeField()
    usable_at = models.DateTimeField()
    removed_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "address book entries"
        constraints = [
            models.UniqueConstraint(
                fields=["agent", "address"], condition=Q(removed_at__isnull=True), name="addressbook_address_once"
            ),
            models.CheckConstraint(
                condition=Q(usable_at__gte=F("created_at")), name="addressbook_usable_after_created"
            ),
        ]
        indexes = [models.Index(fields=["address"], name="addressbook_address")]

    def __str__(self) -> str:
        return f"0x{self.address.hex()}"


class Withdrawal(models.Model):
    """
    One payout and what became of it. Only `withdrawals.TABLE` says which state follows which.

    `agent` is null for what treasurers ask for: income of the platform, a deposit that goes back to its sender, and
    a move between addresses of ours (`source` to `address`), which changes nothing in the ledger.
    """

    class State(models.TextChoices):
        REQUESTED = "requested"
        HELD = "held"
        COOLING = "cooling"
        AUTHORIZED = "authorized"
        BROADCAST = "broadcast"
        SETTLED = "settled"
        LAPSED = "lapsed"
        REFUNDED = "refunded"
        CANCELLED = "cancelled"
        REJECTED = "rejected"
        RECOGNISED = "recognised"  # found on the chain, paid before this database remembers

    class Owner(models.TextChoices):
        AGENT = "agent"
        PLATFORM = "platform"
        RETURN = "return"
        INTERNAL = "internal"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    owner = models.CharField(max_length=8, choices=Owner.choices, default=Owner.AGENT)
    agent = models.ForeignKey(Agent, null=True, on_delete=models.PROTECT, related_name="withdrawals")
    returns = models.ForeignKey("Deposit", null=True, on_delete=models.PROTECT, related_name="returned_by")
    source = Address(null=True)  # of an internal move: the treasury it leaves
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    note = models.CharField(max_length=500, blank=True)  # why a treasurer asked for it, or refused it
    chain_id = models.BigIntegerField()
    amount_units = models.BigIntegerField()
    fee_units = models.BigIntegerField(default=0)
    entry = models.ForeignKey(AddressBookEntry, null=True, on_delete=models.PROTECT, related_name="withdrawals")
    address = Address()
    state = models.CharField(max_length=10, choices=State.choices)
    revision = models.IntegerField(default=1)
    requested_at = models.DateTimeField()
    cooling_until = models.DateTimeField(null=True)
    held_for = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    approvals_needed = models.SmallIntegerField(default=0)
    approve_by = models.DateTimeField(null=True)
    # What came due and raised is tried again later; the others do not wait for it.
    due_failures = models.SmallIntegerField(default=0)
    due_retry_at = models.DateTimeField(null=True)
    # the newest block anybody had been credited from when this was asked: it must be final before money leaves
    credited_block = models.BigIntegerField(default=0)
    lease_until = models.DateTimeField(null=True)
    lapses_at = models.DateTimeField(null=True)
    broadcast_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    tx_hash = Hash(null=True)
    block_number = models.BigIntegerField(null=True)
    block_hash = Hash(null=True)

    OPEN = (State.REQUESTED, State.HELD, State.COOLING, State.AUTHORIZED, State.BROADCAST, State.LAPSED)

    class Meta:
        permissions = [("approve_withdrawal", "Can approve a withdrawal that is held")]
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    state__in=[
                        "requested",
                        "held",
                        "cooling",
                        "authorized",
                        "broadcast",
                        "settled",
                        "lapsed",
                        "refunded",
                        "cancelled",
                        "rejected",
                        "recognised",
                    ]
                ),
                name="withdrawal_state_known",
            ),
            models.CheckConstraint(
                condition=Q(owner__in=["agent", "platform", "return", "internal"]), name="withdrawal_owner_known"
            ),
            models.CheckConstraint(
                condition=Q(owner="agent", agent__isnull=False, returns__isnull=True, source__isnull=True)
                | Q(owner="platform", agent__isnull=True, returns__isnull=True, source__isnull=True)
                | Q(owner="return", agent__isnull=True, returns__isnull=False, source__isnull=True)
                | Q(owner="internal", agent__isnull=True, returns__isnull=True, source__isnull=False),
                name="withdrawal_has_its_owner",
            ),
            models.CheckConstraint(
                condition=Q(owner="agent") | Q(asked_by__isnull=False), name="withdrawal_asked_by_somebody"
            ),
            models.UniqueConstraint(
                fields=["returns"],
                condition=Q(
                    returns__isnull=False,
                    state__in=[
                        "requested",
                        "held",
                        "cooling",
                        "authorized",
                        "broadcast",
                        "lapsed",
                        "settled",
                        "recognised",
                    ],
                ),
                name="withdrawal_returns_a_deposit_once",
            ),
            models.CheckConstraint(condition=Q(amount_units__gt=0, fee_units__gte=0), name="withdrawal_pays_something"),
            models.CheckConstraint(
                condition=~Q(state="held") | Q(approvals_needed__gte=1, approve_by__isnull=False),
                name="withdrawal_held_waits_for_someone",
            ),
            models.CheckConstraint(
                condition=~Q(state="cooling") | Q(cooling_until__isnull=False), name="withdrawal_cooling_ends"
            ),
            models.CheckConstraint(
                condition=Q(
                    state__in=["settled", "refunded", "cancelled", "rejected", "recognised"], closed_at__isnull=False
                )
                | (
                    ~Q(state__in=["settled", "refunded", "cancelled", "rejected", "recognised"])
                    & Q(closed_at__isnull=True)
                ),
                name="withdrawal_closed_has_time",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["settled", "recognised"])
                | Q(tx_hash__isnull=False, block_number__isnull=False, block_hash__isnull=False),
                name="withdrawal_paid_has_proof",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["authorized", "broadcast", "lapsed"]) | Q(lapses_at__isnull=False),
                name="withdrawal_authorized_lapses",
            ),
        ]
        indexes = [
            models.Index(
                fields=["state", "id"],
                condition=Q(state__in=["requested", "held", "cooling", "authorized", "broadcast", "lapsed"]),
                name="withdrawal_open",
            ),
            models.Index(fields=["agent", "-id"], name="withdrawal_of_agent"),
            models.Index(fields=["requested_at"], name="withdrawal_velocity"),
            models.Index(
                fields=["chain_id", "block_number"],
                condition=Q(block_number__isnull=False),
                name="withdrawal_by_block",
            ),
        ]

    def __str__(self) -> str:
        return f"withdrawal {self.id} ({self.state})"


class WithdrawalApproval(models.Model):
    """One treasurer's word on one revision of a withdrawal, never of the one who asked for it. Append-only."""

    withdrawal = models.ForeignKey(Withdrawal, on_delete=models.PROTECT, related_name="approvals")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    revision = models.IntegerField()
    reason = models.CharField(max_length=500, blank=True)
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["withdrawal", "by"], name="withdrawalapproval_one_a_person"),
        ]

    def __str__(self) -> str:
        return f"{self.by_id} approved {self.withdrawal_id}"


class Authorization(models.Model):
    """
    The fields of ERC-3009 the treasury signs for a withdrawal. Written once, before signing.

    Signing the same fields again is harmless; other fields under the nonce are never signed, and a trigger sees to it.
    """

    withdrawal = models.OneToOneField(
        Withdrawal, primary_key=True, on_delete=models.PROTECT, related_name="authorization"
    )
    chain_id = models.BigIntegerField()
    token = Address()
    sender = Address()
    receiver = Address()
    value_units = models.BigIntegerField()
    valid_before = models.BigIntegerField()  # Unix seconds
    nonce = Hash()
    since_block = models.BigIntegerField()  # nothing about this nonce can be in an earlier block
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["sender", "nonce"], name="authorization_nonce_once"),
            models.CheckConstraint(condition=Q(value_units__gt=0), name="authorization_pays_something"),
        ]

    def __str__(self) -> str:
        return f"authorization of {self.withdrawal_id}"
