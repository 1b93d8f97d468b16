"""
What a withdrawal moves in the ledger, by whose money it is: an agent's, the platform's, a stray deposit's.

A move between addresses of ours moves nothing: custody stays custody.
"""

from escrow import income, ledger
from escrow.ledger import Move
from escrow.models import Entry, Withdrawal

Owner = Withdrawal.Owner


def requested(withdrawal: Withdrawal) -> list[Move]:
    """Amount and fee out of what they are paid from."""
    if withdrawal.owner == Owner.INTERNAL:
        return []
    total = withdrawal.amount_units + withdrawal.fee_units
    from_platform = withdrawal.owner == Owner.PLATFORM
    taken = income.taken(total) if from_platform else [Move(*_source(withdrawal), -total)]
    return [*taken, Move("withdrawing", _owner_key(withdrawal), total)]


def settled(withdrawal: Withdrawal) -> list[Move]:
    """The amount has left the chain's custody, the fee is income."""
    if withdrawal.owner == Owner.INTERNAL:
        return []
    amount, fee = withdrawal.amount_units, withdrawal.fee_units
    moves = [
        Move("withdrawing", _owner_key(withdrawal), -(amount + fee)),
        Move("custody", f"chain:{withdrawal.chain_id}", amount),
        Move(*ledger.fee_account(reference(withdrawal, "settle")), fee),
    ]
    return [move for move in moves if move.amount_units]


def given_back(withdrawal: Withdrawal) -> list[Move]:
    """The whole of it, fee included, back to where it came from."""
    if withdrawal.owner == Owner.INTERNAL:
        return []
    total = withdrawal.amount_units + withdrawal.fee_units
    from_platform = withdrawal.owner == Owner.PLATFORM
    back = _given_by_income(withdrawal) if from_platform else [Move(*_source(withdrawal), total)]
    return [Move("withdrawing", _owner_key(withdrawal), -total), *back]


def reference(withdrawal: Withdrawal, what: str) -> str:
    return f"withdrawal:{withdrawal.id}:{what}"


def _source(withdrawal: Withdrawal) -> tuple[str, str]:
    """What it is paid from, unless that is the platform's income, which has many accounts."""
    if withdrawal.owner == Owner.RETURN:
        return ("suspense", ledger.PLATFORM)
    return ("available", str(withdrawal.agent_id))


def _given_by_income(withdrawal: Withdrawal) -> list[Move]:
    request = Entry.objects.filter(transfer__reference=reference(withdrawal, "request"), amount__lt=0)
    given = request.values_list("account__kind", "account__owner_key", "amount")
    return [Move(kind, owner_key, -amount) for kind, owner_key, amount in given]


def _owner_key(withdrawal: Withdrawal) -> str:
    return str(withdrawal.agent_id) if withdrawal.owner == Owner.AGENT else ledger.PLATFORM
