"""
What the treasury watch read, a row each minute. Amounts are micro-USDC, gas is wei.
"""

from django.db import models


class TreasuryReading(models.Model):
    """Ledger and chain side by side at one finalized block; rows older than two days are thinned to one an hour."""

    chain_id = models.BigIntegerField()
    block_number = models.BigIntegerField()
    block_at = models.DateTimeField()
    treasury_units = models.BigIntegerField()  # what the paying treasuries hold
    cold_units = models.BigIntegerField()
    unswept_units = models.BigIntegerField()  # what deposit addresses hold
    custody_units = models.BigIntegerField()  # what the ledger says the chain holds
    liabilities_units = models.BigIntegerField()
    shortfall_units = models.BigIntegerField()
    difference_units = models.BigIntegerField()  # ledger less chain, once what is on its way is counted
    pending_units = models.BigIntegerField()  # payouts asked for and not yet paid
    relayers = models.JSONField(default=dict)  # address: wei, as text
    read_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["chain_id", "-read_at"], name="treasuryreading_newest")]

    def __str__(self) -> str:
        return f"treasury at block {self.block_number}"


class WatchState(models.Model):
    """How the watch itself fares. One row a chain."""

    chain_id = models.BigIntegerField(primary_key=True)
    failures = models.IntegerField(default=0)  # in a row
    tried_at = models.DateTimeField()
    read_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"watch of chain {self.chain_id}"
