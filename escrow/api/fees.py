from typing import Any

from django.conf import settings
from rest_framework import serializers
from rest_framework.response import Response

from accounts.edge.fields import MoneyField, units_to_text
from accounts.edge.schema import documented
from accounts.edge.views import PublicView


class FeesRow(serializers.Serializer):
    fee_bps = serializers.IntegerField(help_text="of what leaves a hold for the seller; copied into the terms")
    withdrawal_fee = MoneyField()
    withdrawal_minimum = MoneyField()
    deposit_minimum = MoneyField()
    dispute_deposit_bps = serializers.IntegerField(help_text="of the price")
    dispute_deposit_minimum = MoneyField()
    currency = serializers.CharField()


class Fees(PublicView):
    @documented(responses={200: FeesRow})
    def get(self, request: Any) -> Response:
        """Read what the platform charges now; a job keeps what its terms say."""
        return Response(
            {
                "fee_bps": settings.FEE_BPS,
                "withdrawal_fee": units_to_text(settings.WITHDRAWAL_FEE_UNITS),
                "withdrawal_minimum": units_to_text(settings.WITHDRAWAL_MINIMUM_UNITS),
                "deposit_minimum": units_to_text(settings.DEPOSIT_MINIMUM_UNITS),
                "dispute_deposit_bps": settings.DISPUTE_DEPOSIT_BPS,
                "dispute_deposit_minimum": units_to_text(settings.DISPUTE_DEPOSIT_MIN_UNITS),
                "currency": "USDC",
            }
        )
