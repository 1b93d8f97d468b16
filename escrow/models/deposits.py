"""
Money coming in from the chain. Amounts are micro-USDC.

What a scan saw (`Deposit`), where it stands (`ScanCursor`), and the blocks it would walk back over (`ScannedBlock`).
"""

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from accounts import ids
from accounts.models import Agent

from .fields import Address, Hash


class DepositAddress(models.Model):
    """The address that is an agent's alone: a clone at the factory's CREATE2 address for this salt."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="deposit_addresses")
    chain_id = models.BigIntegerField()
    factory = Address()
    salt = Hash()
    address = Address()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name_plural = "deposit addresses"
        constraints = [
            models.UniqueConstraint(fields=["agent", "chain_id", "factory"], name="depositaddress_one_per_agent"),
            models.UniqueConstraint(fields=["chain_id", "address"], name="depositaddress_is_one_agents"),
        ]

    def __str__(self) -> str:
        return f"0x{self.address.hex()}"


class Deposit(models.Model):
    """
    One Transfer log that brought USDC to an address of ours.

    `generation` counts how often it was posted, `posted_to` is where the posting that stands went: a reorg takes it
    back and a later block may bring it again. The key is the log's, and a reorg may give it to another transfer: then
    the row stands for that one, unless its agent still owes what the old one had brought (`replaced_at`).
    """

    class State(models.TextChoices):
        SEEN = "seen"
        CREDITED = "credited"
        ORPHANED = "orphaned"
        BELOW_MINIMUM = "below_minimum"
        UNATTRIBUTED = "unattributed"

    class PostedTo(models.TextChoices):
        NOWHERE = ""
        AVAILABLE = "available"
        SUSPENSE = "suspense"

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    chain_id = models.BigIntegerField()
    tx_hash = Hash()
    log_index = models.IntegerField()
    block_number = models.BigIntegerField()
    block_hash = Hash()
    sender = Address()
    receiver = Address()
    amount_units = models.BigIntegerField()
    agent = models.ForeignKey(Agent, null=True, on_delete=models.PROTECT, related_name="deposits")
    state = models.CharField(max_length=16, choices=State.choices)
    generation = models.IntegerField(default=0)
    posted_to = models.CharField(max_length=10, choices=PostedTo.choices, default=PostedTo.NOWHERE, blank=True)
    # what a reversal could not take back from the agent; the next credit pays it first
    shortfall_units = models.BigIntegerField(default=0)
    seen_at = models.DateTimeField(db_default=Now())
    credited_at = models.DateTimeField(null=True)
    swept_at = models.DateTimeField(null=True)
    # gone for good, its log key stands for another transfer: kept for the shortfall that its agent owes
    replaced_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["chain_id", "tx_hash", "log_index"],
                condition=Q(replaced_at__isnull=True),
                name="deposit_log_once",
            ),
            models.CheckConstraint(
                condition=Q(replaced_at__isnull=True) | Q(state="orphaned", posted_to="", shortfall_units__gt=0),
                name="deposit_replaced_is_a_debt",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["seen", "credited", "orphaned", "below_minimum", "unattributed"]),
                name="deposit_state_known",
            ),
            models.CheckConstraint(
                condition=Q(posted_to__in=["", "available", "suspense"]), name="deposit_posting_known"
            ),
            models.CheckConstraint(condition=Q(amount_units__gt=0), name="deposit_brings_something"),
            models.CheckConstraint(
                condition=Q(shortfall_units__gte=0, shortfall_units__lte=F("amount_units")),
                name="deposit_shortfall_bounds",
            ),
            models.CheckConstraint(
                condition=~Q(state="credited")
                | Q(posted_to="available", agent__isnull=False, credited_at__isnull=False),
                name="deposit_credited_is_posted",
            ),
            models.CheckConstraint(condition=~Q(state="seen") | Q(posted_to=""), name="deposit_seen_is_unposted"),
            models.CheckConstraint(
                condition=~Q(state="unattributed") | (Q(agent__isnull=True) & ~Q(posted_to="available")),
                name="deposit_unattributed_is_nobodys",
            ),
            models.CheckConstraint(
                condition=Q(posted_to="") | Q(generation__gte=1), name="deposit_posted_has_generation"
            ),
        ]
        indexes = [
            models.Index(
                fields=["chain_id", "block_number"],
                condition=Q(state__in=["seen", "below_minimum", "unattributed"], posted_to=""),
                name="deposit_due",
            ),
            models.Index(fields=["id"], condition=Q(state="orphaned") & ~Q(posted_to=""), name="deposit_to_reverse"),
            models.Index(fields=["chain_id", "block_number"], name="deposit_by_block"),
            models.Index(fields=["agent", "-id"], name="deposit_of_agent"),
            models.Index(fields=["receiver"], condition=Q(swept_at__isnull=True), name="deposit_unswept"),
            models.Index(fields=["swept_at"], condition=Q(swept_at__isnull=False), name="deposit_swept"),
        ]

    def __str__(self) -> str:
        return f"deposit {self.id} ({self.state})"


class ScanCursor(models.Model):
    """How far a chain has been read: rows of deposits up to this block are complete. One row a chain."""

    chain_id = models.BigIntegerField(primary_key=True)
    block_number = models.BigIntegerField()
    block_hash = Hash()
    # the highest finalized block any poll was shown: it never goes back
    finalized_number = models.BigIntegerField(default=0)
    finalized_hash = Hash(null=True)
    safe_number = models.BigIntegerField(default=0)
    latest_number = models.BigIntegerField(default=0)
    read_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"chain {self.chain_id} read up to {self.block_number}"


class ScannedBlock(models.Model):
    """A block the scan read, to find the common ancestor when the chain turns out to be another."""

    chain_id = models.BigIntegerField()
    number = models.BigIntegerField()
    hash = Hash()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chain_id", "number"], name="scannedblock_height_once")]

    def __str__(self) -> str:
        return f"block {self.number} of chain {self.chain_id}"
