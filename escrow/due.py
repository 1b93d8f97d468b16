"""What waits for each step of a payout, for the clockwork's page: the few that are open, never the whole table."""

from datetime import datetime

from accounts import clockwork
from escrow import withdrawal_table as table
from escrow.models import Authorization, RelayTransaction, Withdrawal


def of_authorizing() -> tuple[int, datetime | None]:
    return clockwork.counted(Withdrawal.objects.filter(state=Withdrawal.State.REQUESTED), "requested_at")


def of_relaying() -> tuple[int, datetime | None]:
    return clockwork.counted(RelayTransaction.objects.filter(state__in=RelayTransaction.OPEN), "created_at")


def of_settling() -> tuple[int, datetime | None]:
    return clockwork.counted(Authorization.objects.filter(withdrawal__state__in=table.UNPAID), "created_at")


# By task: the name in escrow.tasks.
PAYOUTS = {
    "authorize_withdrawals": of_authorizing,
    "relay_transactions": of_relaying,
    "settle_withdrawals": of_settling,
}
