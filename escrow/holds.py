"""
What is held while two agents work: the client's price, the seller's bond, deposits of a dispute.

A hold is known by an opaque key (`job:<id>`, `dispute:<id>:opening`); whose money it is, is the caller's knowledge.
Amounts are integers of micro-USDC, shares basis points. Nothing is rounded up: what a floor leaves is the client's.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from django.db import connection, transaction

from accounts.errors import DomainError
from escrow import ledger
from escrow.ledger import Move, Posting

WHOLE_BPS = 10_000


class BondUnavailable(DomainError):
    """The seller cannot cover the bond. How much is missing is the seller's own business."""

    code = "bond_unavailable"
    title = "The seller cannot cover the bond at this moment"


class NotAsAgreed(DomainError):
    """The books of a job are wrong: our bug, told to staff; nothing is paid out of them."""

    code = "hold_not_as_agreed"
    title = "What is held is not what was agreed"


@dataclass(frozen=True, kw_only=True)
class Closing:
    """
    How the money of a job is divided at its end.

    `seller_units` is the seller's share of the price, before the fee.
    """

    key: str
    client_id: UUID
    seller_id: UUID
    price_units: int
    bond_units: int
    seller_units: int
    fee_bps: int
    bond_to: Literal["seller", "client"]
    # What ends with the job in the same transfer, such as the deposits of its dispute.
    extra: tuple[Move, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.seller_units <= self.price_units:
            raise ValueError(f"the seller's share {self.seller_units} is not within the price {self.price_units}")
        if not (self.bond_units >= 0 and 0 <= self.fee_bps <= WHOLE_BPS):
            raise ValueError("a bond is not negative, a fee at most the whole")


def fund(key: str, *, client_id: UUID, seller_id: UUID, price_units: int, bond_units: int, at: datetime) -> Posting:
    """
    Take the price from the client and the bond from the seller.

    :raises InsufficientFunds: if the client cannot cover the price
    :raises BondUnavailable: if the client can, but the seller cannot cover the bond
    """
    moves = funding_moves(key, client_id=client_id, seller_id=seller_id, price_units=price_units, bond_units=bond_units)
    try:
        return ledger.post(f"{key}:fund", kind="job.fund", moves=moves, actor=str(client_id), at=at)
    except ledger.InsufficientFunds as error:
        if error.account == ("available", str(seller_id)):
            raise BondUnavailable from error
        raise


def funding_moves(key: str, *, client_id: UUID, seller_id: UUID, price_units: int, bond_units: int) -> list[Move]:
    """Say what `fund` will post, entry by entry."""
    return _without_zeros(
        [
            Move("available", str(client_id), -price_units),
            Move("hold", key, price_units),
            Move("available", str(seller_id), -bond_units),
            Move("bond", key, bond_units),
        ]
    )


def require(key: str, *, price_units: int, bond_units: int) -> None:
    """
    Check that exactly this is held; the caller's lock on the job keeps it so.

    :raises NotAsAgreed: if it is not
    """
    held = ledger.balances(key, ["hold", "bond"])
    if held != {"hold": price_units, "bond": bond_units}:
        raise NotAsAgreed("An operator must look at the books of this job first.")


def close(closing: Closing, *, kind: str, at: datetime) -> Posting:
    """Pay out everything that was held for the job, in one transfer: exactly `closing_moves`."""
    return ledger.post(_reference(closing), kind=kind, moves=closing_moves(closing), at=at)


def closing_moves(closing: Closing) -> list[Move]:
    """Say what `close` will post, entry by entry."""
    fee_units = fee(closing.seller_units, closing.fee_bps)
    client, seller = str(closing.client_id), str(closing.seller_id)
    return _without_zeros(
        [
            Move("hold", closing.key, -closing.price_units),
            Move("available", seller, closing.seller_units - fee_units),
            Move(*ledger.fee_account(_reference(closing)), fee_units),
            Move("available", client, closing.price_units - closing.seller_units),
            Move("bond", closing.key, -closing.bond_units),
            Move("available", seller if closing.bond_to == "seller" else client, closing.bond_units),
            *closing.extra,
        ]
    )


def split(amount_units: int, bps: int) -> int:
    """Reckon the seller's part of an amount; the rest is the client's."""
    return amount_units * bps // WHOLE_BPS


def fee(units: int, fee_bps: int) -> int:
    """Reckon the platform's fee on what leaves a hold for the seller."""
    return units * fee_bps // WHOLE_BPS


@transaction.atomic
def take_deposit(key: str, *, agent_id: UUID, wanted_units: int, at: datetime) -> int:
    """
    Hold a deposit from what the agent has available, as far as that reaches; return the micro-USDC held.

    Asked again under the same key it answers what was held the first time.
    """
    reference = f"{key}:take"
    available_units = _lock_available(agent_id)
    held_units = _held_before(reference)
    if held_units is not None:
        return held_units
    held_units = min(wanted_units, available_units)
    if held_units > 0:
        moves = [Move("available", str(agent_id), -held_units), Move("dispute_deposit", key, held_units)]
        ledger.post(reference, kind="deposit.take", moves=moves, actor=str(agent_id), at=at)
    return held_units


def deposit_moves(key: str, held_units: int, *, to: tuple[str, str]) -> list[Move]:
    """Say what gives a deposit to an account `(kind, owner_key)`; for `Closing.extra` or a post of its own."""
    return _without_zeros([Move("dispute_deposit", key, -held_units), Move(*to, held_units)])


def _reference(closing: Closing) -> str:
    return f"{closing.key}:close"


def _without_zeros(moves: list[Move]) -> list[Move]:
    return [move for move in ledger.merged(moves) if move.amount_units]


def _lock_available(agent_id: UUID) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT balance FROM escrow_ledgeraccount WHERE kind = 'available' AND owner_key = %s FOR NO KEY UPDATE",
            [str(agent_id)],
        )
        row = cursor.fetchone()
    return row[0] if row else 0


def _held_before(reference: str) -> int | None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT entry.amount FROM escrow_transfer transfer"
            " JOIN escrow_entry entry ON entry.transfer_id = transfer.id"
            " JOIN escrow_ledgeraccount account ON account.id = entry.account_id"
            " WHERE transfer.reference = %s AND account.kind = 'dispute_deposit'",
            [reference],
        )
        row = cursor.fetchone()
    return row[0] if row else None
