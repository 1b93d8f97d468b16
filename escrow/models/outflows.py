"""
USDC that left an address of ours, log by log, and why. Amounts are micro-USDC.
"""

from django.conf import settings
from django.db import models
from django.db.models import Q

from accounts import ids

from .fields import Address, Hash


class Outflow(models.Model):
    """
    One Transfer log that took USDC from a treasury, a cold address or a deposit address.

    What is not explained by a payout of ours, or by a move between addresses of ours, is the work of a stolen key or of
    a database that forgot: it stops payouts until somebody says what it was. A reorg may give the key of a log to
    another transfer, as with deposits.
    """

    class Explanation(models.TextChoices):
        UNEXPLAINED = ""
        PAYOUT = "payout"  # of `withdrawal`
        INTERNAL = "internal"  # to another address of ours: a sweep, or a move to or from a cold address
        WRITTEN_OFF = "written_off"  # gone: a treasurer posted it as a loss

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    chain_id = models.BigIntegerField()
    tx_hash = Hash()
    log_index = models.IntegerField()
    block_number = models.BigIntegerField()
    block_hash = Hash()
    sender = Address()
    receiver = Address()
    amount_units = models.BigIntegerField()
    explanation = models.CharField(
        max_length=12, choices=Explanation.choices, default=Explanation.UNEXPLAINED, blank=True
    )
    withdrawal = models.ForeignKey("Withdrawal", null=True, on_delete=models.PROTECT, related_name="outflows")
    nonce = Hash(null=True)  # of ERC-3009, where an authorization of the sender moved it
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    reason = models.CharField(max_length=500, blank=True)
    seen_at = models.DateTimeField()
    explained_at = models.DateTimeField(null=True)
    orphaned_at = models.DateTimeField(null=True)  # its block is gone

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["chain_id", "tx_hash", "log_index"], name="outflow_log_once"),
            models.UniqueConstraint(
                fields=["withdrawal"],
                condition=Q(withdrawal__isnull=False, orphaned_at__isnull=True),
                name="outflow_is_one_payouts",
            ),
            models.UniqueConstraint(
                fields=["sender", "nonce"],
                condition=Q(nonce__isnull=False, orphaned_at__isnull=True),
                name="outflow_nonce_once",
            ),
            models.CheckConstraint(
                condition=Q(explanation__in=["", "payout", "internal", "written_off"]),
                name="outflow_explanation_known",
            ),
            models.CheckConstraint(
                condition=Q(explanation="payout", withdrawal__isnull=False)
                | (~Q(explanation="payout") & Q(withdrawal__isnull=True)),
                name="outflow_payout_has_its_withdrawal",
            ),
            models.CheckConstraint(
                condition=~Q(explanation="written_off") | (Q(by__isnull=False) & ~Q(reason="")),
                name="outflow_written_off_by_somebody",
            ),
        ]
        indexes = [
            models.Index(
                fields=["chain_id", "block_number"],
                condition=Q(explanation="", orphaned_at__isnull=True),
                name="outflow_unexplained",
            ),
            models.Index(fields=["chain_id", "block_number", "log_index"], name="outflow_by_block"),
        ]

    def __str__(self) -> str:
        return f"0x{self.tx_hash.hex()}:{self.log_index}"


class PayoutGuard(models.Model):
    """Up to which finalized block every used nonce of our treasuries is known to the database. One row a chain."""

    chain_id = models.BigIntegerField(primary_key=True)
    checked_block = models.BigIntegerField()
    checked_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"payouts of chain {self.chain_id} are known up to {self.checked_block}"
