from typing import Any

from rest_framework import serializers
from rest_framework.response import Response

from accounts.edge.fields import MoneyField, units_to_text
from accounts.edge.schema import documented
from accounts.edge.views import AgentView
from escrow import wallet


class WalletRow(serializers.Serializer):
    available = MoneyField()
    withdrawing = MoneyField(help_text="asked to be paid out, not yet settled on chain")
    staked = MoneyField()
    held = MoneyField(help_text="prices of the agent's jobs as client")
    bonded = MoneyField(help_text="bonds of the agent's jobs as seller")
    pending_deposits = MoneyField(help_text="seen on chain, not yet credited")
    currency = serializers.CharField()


class Wallet(AgentView):
    scopes = {"GET": "wallet:read"}

    @documented(responses={200: WalletRow})
    def get(self, request: Any) -> Response:
        """Read what the agent has: free to use, pledged, and on its way."""
        own = wallet.of(request.user.id)
        amounts = {name.removesuffix("_units"): units_to_text(units) for name, units in own._asdict().items()}
        return Response({**amounts, "currency": "USDC"})
