from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.cache import cache
from django.db import transaction
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.response import Response

from accounts.api.fields import moment
from accounts.edge.fields import MoneyField, Strict, Text, units_to_text
from accounts.edge.pages import page
from accounts.edge.schema import documented, paged
from accounts.edge.views import AgentView
from accounts.errors import NotFound
from escrow import deposit_addresses, tasks
from escrow.chain import addresses, network
from escrow.models import Deposit, ScanCursor

HINT_SECONDS = 10


class DepositAddressRow(serializers.Serializer):
    chain_id = serializers.IntegerField()
    token = serializers.CharField(help_text="USDC on that chain")
    address = serializers.CharField()
    factory = serializers.CharField(help_text="`address_of(salt)` of this contract gives the address")
    salt = serializers.CharField()
    minimum = MoneyField()
    credit_rule = serializers.CharField()


class DepositRow(serializers.Serializer):
    id = serializers.UUIDField()
    tx_hash = serializers.CharField()
    log_index = serializers.IntegerField()
    block_number = serializers.IntegerField()
    amount = MoneyField()
    state = serializers.ChoiceField(Deposit.State.choices)
    confirmations = serializers.IntegerField()
    credited_at = serializers.DateTimeField(allow_null=True)


@extend_schema_field({"type": "string", "pattern": "^0x[0-9a-fA-F]{64}$"})
class TransactionHash(Text):
    default_error_messages = {"invalid_hash": "A transaction hash is 0x and 64 hexadecimal digits."}

    def to_internal_value(self, data: Any) -> Any:
        given = super().to_internal_value(data)
        digits = given[2:]
        if given[:2].lower() != "0x" or len(digits) != 64 or not all(c in "0123456789abcdefABCDEF" for c in digits):
            self.fail("invalid_hash")
        return bytes.fromhex(digits)


class Hint(Strict):
    """A transaction that paid the agent's deposit address."""

    tx_hash = TransactionHash()


class DepositAddress(AgentView):
    scopes = {"GET": "wallet:read"}

    @documented(responses={200: DepositAddressRow})
    def get(self, request: Any) -> Response:
        """Read where to send USDC; nobody holds a key of this address, it can only pay the treasury."""
        own = deposit_addresses.of(request.user)
        limit = units_to_text(settings.DEPOSIT_SAFE_LIMIT_UNITS)
        return Response(
            {
                "chain_id": own.chain_id,
                "token": addresses.to_text(network.current().usdc),
                "address": addresses.to_text(own.address),
                "factory": addresses.to_text(own.factory),
                "salt": "0x" + own.salt.hex(),
                "minimum": units_to_text(settings.DEPOSIT_MINIMUM_UNITS),
                "credit_rule": "Credited when its block is finalized; already when it is safe, while no more than"
                f" {limit} USDC of yours rest on blocks that are not final. Amounts below the minimum add up.",
            }
        )


class Deposits(AgentView):
    scopes = {"GET": "wallet:read"}

    @documented(responses={200: paged(DepositRow)})
    def get(self, request: Any) -> Response:
        """List what came in on the chain, newest first."""
        return page(request, Deposit.objects.filter(agent=request.user), render=partial(_shown, heads=_heads()))


class DepositById(AgentView):
    scopes = {"GET": "wallet:read"}

    @documented(responses={200: DepositRow})
    def get(self, request: Any, deposit_id: UUID) -> Response:
        """Read one deposit."""
        deposit = Deposit.objects.filter(agent=request.user, pk=deposit_id).first()
        if deposit is None:
            raise NotFound
        return Response(_shown(deposit, heads=_heads()))


class DepositHints(AgentView):
    scopes = {"POST": "wallet:write"}

    @documented(request=Hint, responses={202: None})
    def post(self, request: Any) -> Response:
        """Point at a transaction that paid you: it only makes the chain be read sooner."""
        tx_hash = self.body(Hint)["tx_hash"].hex()
        transaction.on_commit(lambda: _ring(tx_hash), robust=True)
        return Response(status=202)


def _ring(tx_hash: str) -> None:
    """Look at most once in ten seconds, however many hint and however they spell it."""
    if cache.add(f"deposit-hint:{tx_hash}", 1, HINT_SECONDS):
        tasks.look_up_deposit.delay(tx_hash)


def _heads() -> dict[int, int]:
    return dict(ScanCursor.objects.values_list("chain_id", "latest_number"))


def _shown(deposit: Deposit, *, heads: dict[int, int]) -> dict[str, Any]:
    gone = deposit.state == Deposit.State.ORPHANED
    above = heads.get(deposit.chain_id, deposit.block_number) - deposit.block_number + 1
    return {
        "id": str(deposit.id),
        "tx_hash": "0x" + deposit.tx_hash.hex(),
        "log_index": deposit.log_index,
        "block_number": deposit.block_number,
        "amount": units_to_text(deposit.amount_units),
        "state": deposit.state,
        "confirmations": 0 if gone else max(above, 1),
        "credited_at": moment(deposit.credited_at),
    }
