"""
What each action does to the money, as a plan: the verb posts it, the preview shows it, the words are written from it.
"""

from typing import Any, Literal, NamedTuple

from accounts.edge.fields import units_to_text
from escrow import holds, ledger
from escrow.ledger import Move
from marketplace.models import Job


class Effect(NamedTuple):
    """One account's change, named for people: `client.available`, `job.hold`, `platform.fees`."""

    account: str
    amount_units: int

    def rendered(self) -> dict[str, str]:
        return {"account": self.account, "amount": units_to_text(self.amount_units)}


def funding(job: Job) -> list[Move]:
    """Say what funding moves: the price into the hold, the bond beside it."""
    return holds.funding_moves(
        job.hold_key,
        client_id=job.client_id,
        seller_id=job.seller_id,
        price_units=job.price_units,
        bond_units=job.bond_units,
    )


def closing(
    job: Job, *, seller_units: int, bond_to: Literal["seller", "client"], extra: tuple[Move, ...] = ()
) -> holds.Closing:
    """Plan the end of a funded job; `seller_units` is the seller's share of the price before the fee."""
    return holds.Closing(
        key=job.hold_key,
        client_id=job.client_id,
        seller_id=job.seller_id,
        price_units=job.price_units,
        bond_units=job.bond_units,
        seller_units=seller_units,
        fee_bps=job.fee_bps,
        bond_to=bond_to,
        extra=extra,
    )


def approved(job: Job) -> holds.Closing:
    return closing(job, seller_units=job.price_units, bond_to="seller")


def aborted_by_client(job: Job) -> holds.Closing:
    return closing(job, seller_units=job.client_abort_fee_units, bond_to="seller")


def given_up_by_seller(job: Job) -> holds.Closing:
    """The seller aborted, or let its clock run out: everything goes to the client."""
    return closing(job, seller_units=0, bond_to="client")


def split(
    job: Job, seller_bps: int, *, bond_to: Literal["seller", "client"] = "seller", extra: tuple[Move, ...] = ()
) -> holds.Closing:
    """A settlement or a ruling."""
    return closing(job, seller_units=holds.split(job.price_units, seller_bps), bond_to=bond_to, extra=extra)


def of_action(job: Job, action: str, by: str) -> list[Effect]:
    """Say what an action would move now; nothing for those that move no money, or whose split is not known yet."""
    match action:
        case "fund":
            moves = funding(job)
        case "approve" | "auto_approve":
            moves = holds.closing_moves(approved(job))
        case "abort" if by == "client":
            moves = holds.closing_moves(aborted_by_client(job))
        case "abort" | "fail":
            moves = holds.closing_moves(given_up_by_seller(job))
        case _:
            return []
    return named(job, moves)


def named(job: Any, moves: list[Move]) -> list[Effect]:
    """Name the accounts of moves as the parties know them."""
    return [Effect(_account_name(job, move), move.amount_units) for move in ledger.merged(moves)]


def of_silence(job: Job, action: str) -> str:
    """Write in plain words what the job's clock does when it runs out."""
    match action, job.state:
        case "lapse", "negotiating":
            return "If nobody agrees or counters by then, the offer lapses and the job expires. No money moves."
        case "lapse", _:
            return "If the client has not funded the job by then, it expires. No money moves."
        case "fail", _:
            return (
                f"If nothing is delivered by then, the job fails: {_usdc(job.price_units)} go back to the client"
                f"{_and_bond(job, 'to the client')}."
            )
        case "auto_approve", _:
            fee = holds.fee(job.price_units, job.fee_bps)
            return (
                "If the client neither approves, asks for a revision nor disputes by then, silence is approval: "
                f"{_usdc(job.price_units - fee)} go to the seller and {_usdc(fee)} to the platform as its fee"
                f"{_and_bond(job, 'back to the seller')}."
            )
    return ""


def _and_bond(job: Job, whither: str) -> str:
    return f", and the seller's bond of {_usdc(job.bond_units)} goes {whither}" if job.bond_units else ""


def _usdc(units: int) -> str:
    return f"{units_to_text(units)} USDC"


def _account_name(job: Any, move: Move) -> str:
    if move.owner_key == str(job.client_id):
        return f"client.{move.kind}"
    if move.owner_key == str(job.seller_id):
        return f"seller.{move.kind}"
    if move.owner_key == job.hold_key:
        return f"job.{move.kind}"
    if move.owner_key.startswith("dispute:"):
        return "dispute.appeal_deposit" if move.owner_key.endswith(":appeal") else "dispute.deposit"
    return f"platform.{move.kind}"
