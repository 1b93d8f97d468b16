"""
The rows of the ledger. Amounts are integers of micro-USDC.

Only the PL/pgSQL function `ledger_post` writes them (migrations/sql/0001_ledger.sql); the triggers beside it
refuse whatever would make a row disagree with another.
"""

from django.db import models
from django.db.models import Q


class Kind(models.TextChoices):
    """What an account is for. The owner key says whose: an agent's id, `job:<id>`, `platform`, `chain:<id>`."""

    AVAILABLE = "available"
    WITHDRAWING = "withdrawing"
    STAKE = "stake"
    HOLD = "hold"
    BOND = "bond"
    DISPUTE_DEPOSIT = "dispute_deposit"
    FEES = "fees"
    PENALTIES = "penalties"
    SUSPENSE = "suspense"
    SHORTFALL = "shortfall"
    CUSTODY = "custody"


# Recorded losses, and the contra of what the chain holds: every other account keeps at least zero.
MAY_BE_NEGATIVE = (Kind.SHORTFALL, Kind.CUSTODY)


class LedgerAccount(models.Model):
    kind = models.CharField(max_length=20, choices=Kind.choices)
    owner_key = models.CharField(max_length=120)
    balance = models.BigIntegerField(db_default=0, help_text="micro-USDC")
    version = models.BigIntegerField(db_default=0, help_text="number of entries so far")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "owner_key"], name="ledgeraccount_once"),
            models.CheckConstraint(condition=Q(kind__in=Kind.values), name="ledgeraccount_kind_known"),
            models.CheckConstraint(condition=~Q(owner_key=""), name="ledgeraccount_has_owner"),
            models.CheckConstraint(
                condition=Q(balance__gte=0) | Q(kind__in=[str(kind) for kind in MAY_BE_NEGATIVE]),
                name="ledgeraccount_not_negative",
            ),
            models.CheckConstraint(condition=Q(version__gte=0), name="ledgeraccount_version_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.owner_key}"


class Transfer(models.Model):
    """Money that moved, at once, between two or more accounts. Its reference can exist once."""

    reference = models.CharField(max_length=200)
    kind = models.CharField(max_length=40)
    occurred_at = models.DateTimeField()
    actor = models.CharField(max_length=120)
    memo = models.CharField(max_length=500, blank=True)
    # Written with the transfer, so that no entry can join it in a later transaction.
    entry_count = models.SmallIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["reference"], name="transfer_reference_once"),
            models.CheckConstraint(condition=~Q(reference=""), name="transfer_has_reference"),
            models.CheckConstraint(condition=~Q(kind=""), name="transfer_has_kind"),
            models.CheckConstraint(condition=Q(entry_count__gte=2), name="transfer_moves_between_accounts"),
        ]

    def __str__(self) -> str:
        return self.reference


class Entry(models.Model):
    """One account's part in a transfer: what came (> 0) or went (< 0), and what was there afterwards."""

    transfer = models.ForeignKey(Transfer, on_delete=models.PROTECT, related_name="entries")
    account = models.ForeignKey(LedgerAccount, on_delete=models.PROTECT, related_name="entries", db_index=False)
    amount = models.BigIntegerField(help_text="micro-USDC")
    balance_after = models.BigIntegerField(help_text="micro-USDC")
    account_version = models.BigIntegerField()

    class Meta:
        verbose_name_plural = "entries"
        constraints = [
            models.UniqueConstraint(fields=["account", "account_version"], name="entry_version_once"),
            models.CheckConstraint(condition=~Q(amount=0), name="entry_moves_something"),
            models.CheckConstraint(condition=Q(account_version__gte=1), name="entry_version_from_one"),
        ]
        indexes = [models.Index(fields=["account", "-id"], name="entry_statement")]

    def __str__(self) -> str:
        return f"{self.amount} on account {self.account_id}"
