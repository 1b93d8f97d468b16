from typing import Any
from uuid import UUID

from django.db import transaction
from rest_framework import serializers
from rest_framework.response import Response

from accounts.api.fields import Id, moment
from accounts.edge.fields import MoneyField, Strict, units_to_text
from accounts.edge.pages import page
from accounts.edge.schema import documented, paged
from accounts.edge.views import AgentView
from accounts.errors import NotFound
from escrow import tasks, withdrawals
from escrow.chain import addresses
from escrow.models import Withdrawal


class NewWithdrawal(Strict):
    """An amount, and an entry of the agent's address book; the fee comes on top."""

    amount = MoneyField()
    address_id = Id()


class WithdrawalRow(serializers.Serializer):
    id = serializers.UUIDField()
    amount = MoneyField()
    fee = MoneyField()
    address = serializers.CharField()
    address_id = serializers.UUIDField(allow_null=True)
    state = serializers.ChoiceField(Withdrawal.State.choices)
    revision = serializers.IntegerField()
    held_for = serializers.ListField(child=serializers.CharField())
    tx_hash = serializers.CharField(allow_null=True)
    requested_at = serializers.DateTimeField()
    cooling_until = serializers.DateTimeField(allow_null=True)
    approve_by = serializers.DateTimeField(allow_null=True)
    lapses_at = serializers.DateTimeField(allow_null=True)
    closed_at = serializers.DateTimeField(allow_null=True)


class Withdrawals(AgentView):
    scopes = {"GET": "wallet:read", "POST": "withdrawals:write"}
    idempotency = {"POST": "required"}

    @documented(responses={200: paged(WithdrawalRow)})
    def get(self, request: Any) -> Response:
        """List the agent's withdrawals, newest first."""
        return page(request, Withdrawal.objects.filter(agent=request.user), render=_shown)

    @documented(request=NewWithdrawal, responses={201: WithdrawalRow})
    def post(self, request: Any) -> Response:
        """Ask for a payout; amount and fee leave the balance at once and come back if it is not paid."""
        asked = self.body(NewWithdrawal)
        withdrawal = withdrawals.request(
            request.user, amount_units=asked["amount"], entry_id=asked["address_id"], token=request.auth
        )
        transaction.on_commit(tasks.authorize_withdrawals.delay, robust=True)
        return Response(_shown(withdrawal), status=201)


class WithdrawalById(AgentView):
    scopes = {"GET": "wallet:read", "DELETE": "withdrawals:write"}

    @documented(responses={200: WithdrawalRow})
    def get(self, request: Any, withdrawal_id: UUID) -> Response:
        """Read one withdrawal."""
        withdrawal = Withdrawal.objects.filter(agent=request.user, pk=withdrawal_id).first()
        if withdrawal is None:
            raise NotFound
        return Response(_shown(withdrawal))

    @documented(responses={200: WithdrawalRow})
    def delete(self, request: Any, withdrawal_id: UUID) -> Response:
        """Call a withdrawal off, as long as it is not authorized."""
        return Response(_shown(withdrawals.cancel(withdrawal_id, agent=request.user)))


def _shown(withdrawal: Withdrawal) -> dict[str, Any]:
    return {
        "id": str(withdrawal.id),
        "amount": units_to_text(withdrawal.amount_units),
        "fee": units_to_text(withdrawal.fee_units),
        "address": addresses.to_text(withdrawal.address),
        "address_id": withdrawal.entry_id and str(withdrawal.entry_id),
        "state": withdrawal.state,
        "revision": withdrawal.revision,
        "held_for": withdrawal.held_for,
        "tx_hash": withdrawal.tx_hash and "0x" + withdrawal.tx_hash.hex(),
        "requested_at": moment(withdrawal.requested_at),
        "cooling_until": moment(withdrawal.cooling_until),
        "approve_by": moment(withdrawal.approve_by),
        "lapses_at": moment(withdrawal.lapses_at),
        "closed_at": moment(withdrawal.closed_at),
    }
