"""Treasurers and others of the staff, and income for them to pay out."""

from datetime import timedelta

from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType

from accounts import clock, ids
from accounts.models import User
from escrow import ledger
from escrow.ledger import Move
from escrow.models import Withdrawal

CUSTODY = ("custody", "chain:31337")


def person(name: str, *, may_approve: bool = True) -> User:
    """Somebody of the staff, a treasurer unless said otherwise."""
    user = User.objects.create(username=name, is_staff=True)
    if may_approve:
        kind = ContentType.objects.get_for_model(Withdrawal)
        user.user_permissions.add(Permission.objects.get(content_type=kind, codename="approve_withdrawal"))
    return User.objects.get(pk=user.pk)


def earn(*accounts: tuple[str, str, int]) -> None:
    """Let the platform earn micro-USDC: `earn(("fees", "platform:3", 500_000))`."""
    moves = [Move(*account) for account in accounts]
    total = sum(move.amount_units for move in moves)
    at = clock.now() - timedelta(days=1)
    ledger.post(f"test:{ids.uuid7()}:income", kind="deposit", moves=[Move(*CUSTODY, -total), *moves], at=at)
