"""
What the treasury process works with: whose USDC it pays from, which keys pay gas, and every transaction it ever signed.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from accounts import ids

from .fields import Address, Hash


class Treasury(models.Model):
    """
    An address that holds custody. Append-only: the newest that is not cold signs, the earlier ones are still watched.

    A cold one signs nothing here: people hold its key, what lies there counts as custody.
    """

    chain_id = models.BigIntegerField()
    address = Address()
    cold = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name_plural = "treasuries"
        constraints = [models.UniqueConstraint(fields=["chain_id", "address"], name="treasury_once")]

    def __str__(self) -> str:
        return f"treasury 0x{self.address.hex()}"


class Relayer(models.Model):
    """A key that holds gas and nothing else. Its nonces are handed out under the lock of this row."""

    chain_id = models.BigIntegerField()
    address = Address()
    next_nonce = models.BigIntegerField()
    retired_at = models.DateTimeField(null=True)  # gets no new nonce; what it has is brought to an end
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["chain_id", "address"], name="relayer_once"),
            models.CheckConstraint(condition=Q(next_nonce__gte=0), name="relayer_nonce_not_negative"),
        ]

    def __str__(self) -> str:
        return f"relayer 0x{self.address.hex()}"


class RelayTransaction(models.Model):
    """
    One nonce of a relayer and what it is for. It stays until a block has used that nonce.

    Its attempts are the transactions signed under the nonce: the first one and its replacements with higher fees.
    """

    class Purpose(models.TextChoices):
        WITHDRAWAL = "withdrawal"
        SWEEP = "sweep"
        FILLER = "filler"

    class State(models.TextChoices):
        ALLOCATED = "allocated"  # nothing signed yet
        SIGNED = "signed"  # an attempt stands in the database; whether a node has it is unknown
        SENT = "sent"  # a node took an attempt
        CONFIRMED = "confirmed"  # a finalized block holds it, and it did its work
        REVERTED = "reverted"  # a finalized block holds it, and it did nothing
        SUPERSEDED = "superseded"  # the nonce is used up, the work was done by another transaction or is not wanted

    OPEN = (State.ALLOCATED, State.SIGNED, State.SENT)

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    relayer = models.ForeignKey(Relayer, on_delete=models.PROTECT, related_name="transactions")
    nonce = models.BigIntegerField()
    purpose = models.CharField(max_length=10, choices=Purpose.choices)
    withdrawal = models.ForeignKey("Withdrawal", null=True, on_delete=models.PROTECT, related_name="relays")
    salts = ArrayField(Hash(), default=list, blank=True)  # of a sweep
    to = Address()
    data = models.BinaryField()
    gas_limit = models.BigIntegerField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.ALLOCATED)
    lease_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    closed_at = models.DateTimeField(null=True)
    tx_hash = Hash(null=True)  # the attempt that a finalized block holds
    block_number = models.BigIntegerField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["relayer", "nonce"], name="relay_nonce_once"),
            models.CheckConstraint(
                condition=Q(purpose__in=["withdrawal", "sweep", "filler"]), name="relay_purpose_known"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["allocated", "signed", "sent", "confirmed", "reverted", "superseded"]),
                name="relay_state_known",
            ),
            models.CheckConstraint(
                condition=Q(purpose="withdrawal", withdrawal__isnull=False) | ~Q(purpose="withdrawal"),
                name="relay_of_a_withdrawal",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["allocated", "signed", "sent"], closed_at__isnull=True)
                | Q(state__in=["confirmed", "reverted", "superseded"], closed_at__isnull=False),
                name="relay_closed_has_time",
            ),
            models.UniqueConstraint(
                fields=["relayer"],
                condition=Q(purpose="sweep", state__in=["allocated", "signed", "sent"]),
                name="relay_one_open_sweep_per_relayer",
            ),
            models.UniqueConstraint(
                fields=["withdrawal"],
                condition=Q(purpose="withdrawal", state__in=["allocated", "signed", "sent"]),
                name="relay_one_open_per_withdrawal",
            ),
        ]
        indexes = [
            models.Index(fields=["id"], condition=Q(state__in=["allocated", "signed", "sent"]), name="relay_open"),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} under nonce {self.nonce} ({self.state})"


class RelayAttempt(models.Model):
    """A signed transaction, stored before it is sent. Fees are wei per gas. Its bytes never change."""

    relay = models.ForeignKey(RelayTransaction, on_delete=models.PROTECT, related_name="attempts")
    number = models.SmallIntegerField()
    raw = models.BinaryField()
    tx_hash = Hash(unique=True)
    filler = models.BooleanField(default=False)  # uses the nonce up and does nothing else
    max_fee = models.BigIntegerField()
    priority_fee = models.BigIntegerField()
    signed_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["relay", "number"], name="relayattempt_number_once")]

    def __str__(self) -> str:
        return f"0x{self.tx_hash.hex()}"


class SweepFailure(models.Model):
    """A deposit address that a finalized sweep could not empty: left out until `retry_at`, twice as long each time."""

    chain_id = models.BigIntegerField()
    address = Address()
    failures = models.IntegerField(default=1)
    retry_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chain_id", "address"], name="sweepfailure_once")]

    def __str__(self) -> str:
        return f"0x{self.address.hex()} could not be swept {self.failures} times"
