from typing import Any

from rest_framework import serializers
from rest_framework.response import Response

from accounts import audit, clock
from accounts.api.fields import moment
from accounts.edge.fields import MoneyField, units_to_text
from accounts.edge.schema import documented
from accounts.edge.views import PublicView
from escrow import solvency
from escrow.solvency import Holdings


class LedgerHead(serializers.Serializer):
    transfer_id = serializers.CharField()
    entry_id = serializers.CharField()


class ChainHoldings(serializers.Serializer):
    holdings = MoneyField(help_text="all that addresses of ours held, as of the block")
    cold = MoneyField(help_text="of that, in cold storage")
    difference = MoneyField(
        help_text="ledger less chain, once what is on its way is counted; below zero, the chain has more"
    )
    block = serializers.IntegerField(help_text="a final block")
    block_at = serializers.DateTimeField()
    read_at = serializers.DateTimeField(help_text="the treasury watch looks each minute")


class AuditSeal(serializers.Serializer):
    """The newest head of the audit log's hash chain: keep it, and nobody can rewrite the log before it unseen."""

    position = serializers.IntegerField(help_text="how many records the chain has")
    chain_hash = serializers.CharField(help_text="SHA-256, hex")
    sealed_at = serializers.DateTimeField()


class SolvencyRow(serializers.Serializer):
    liabilities = MoneyField(help_text="all balances the platform answers for, its income among them")
    custody = MoneyField(help_text="what the ledger says the chain holds")
    shortfall = MoneyField(help_text="recorded losses; zero in a healthy system")
    currency = serializers.CharField()
    as_of = serializers.DateTimeField()
    chain_id = serializers.IntegerField(allow_null=True)
    as_of_block = serializers.IntegerField(allow_null=True, help_text="deposits are complete up to this block")
    chain = ChainHoldings(allow_null=True, help_text="what the chain was last seen to hold; null if it never was")
    ledger_head = LedgerHead()
    audit_seal = AuditSeal(allow_null=True, help_text="null until the audit log is sealed")


class Solvency(PublicView):
    @documented(responses={200: SolvencyRow})
    def get(self, request: Any) -> Response:
        """Read what the platform owes, what it holds, and how far its books go."""
        books = solvency.read()
        return Response(
            {
                "liabilities": units_to_text(books.liabilities_units),
                "custody": units_to_text(books.custody_units),
                "shortfall": units_to_text(books.shortfall_units),
                "currency": "USDC",
                "as_of": moment(clock.now()),
                "chain_id": books.chain_id,
                "as_of_block": books.as_of_block,
                "chain": _shown(books.chain),
                "ledger_head": {"transfer_id": str(books.last_transfer_id), "entry_id": str(books.last_entry_id)},
                "audit_seal": audit.head(),
            }
        )


def _shown(chain: Holdings | None) -> dict[str, Any] | None:
    if chain is None:
        return None
    return {
        "holdings": units_to_text(chain.units),
        "cold": units_to_text(chain.cold_units),
        "difference": units_to_text(chain.difference_units),
        "block": chain.block,
        "block_at": moment(chain.block_at),
        "read_at": moment(chain.read_at),
    }
