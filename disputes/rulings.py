"""The rulings of a case: which one stands, which one waits for a second word; and how one is written down."""

from datetime import datetime
from typing import Any

from accounts.models import User
from disputes.decisions import Decision
from disputes.models import Dispute, Ruling
from disputes.models.rulings import REASON_CODES

Standing = Ruling.Standing


def standing(dispute: Any) -> Ruling | None:
    """Find the ruling that stands; a list of cases has read it already (`standing`)."""
    read = getattr(dispute, "standing", None)
    if read is not None:
        return read[0] if read else None
    return Ruling.objects.filter(dispute=dispute, standing=Standing.STANDING).first()


def in_force(dispute: Dispute) -> Ruling:
    """Get the ruling of a case that is ruled or appealed: such a case has one."""
    return Ruling.objects.get(dispute=dispute, standing=Standing.STANDING)


def proposed(dispute: Dispute) -> Ruling | None:
    """Find the ruling that waits for a second person."""
    return Ruling.objects.filter(dispute=dispute, standing=Standing.PROPOSED).first()


def record(
    dispute: Dispute,
    decision: Decision,
    *,
    standing: str,
    at: datetime,
    author: User | None,
    reason_codes: list[str],
    reasons: str,
    revision: int,
    private_notes: str = "",
    needs_approval: bool = False,
    on_appeal: bool = False,
) -> Ruling:
    """Write down what was decided, in its author's words; without an author it is the default ruling."""
    return Ruling.objects.create(
        dispute=dispute,
        number=Ruling.objects.filter(dispute=dispute).count() + 1,
        standing=standing,
        author=author,
        is_default=author is None,
        on_appeal=on_appeal,
        seller_bps=None if decision.redo else decision.seller_bps,
        seller_units=None if decision.redo else decision.seller_units,
        redo=decision.redo,
        bond_to=decision.bond_to,
        deposit=decision.deposit,
        appeal_deposit=decision.appeal_deposit,
        reason_codes=sorted(set(reason_codes), key=REASON_CODES.index),
        reasons=reasons,
        private_notes=private_notes,
        needs_approval=needs_approval,
        revision=revision,
        ruled_at=at,
    )


def put_in_force(dispute: Dispute, ruling: Ruling) -> None:
    """Let a ruling stand, and no other; one that is proposed beside it is put away."""
    if ruling.standing == Standing.PROPOSED:
        replace_standing(dispute)
        _put(ruling, Standing.STANDING)
    drop_proposed(dispute)


def replace_standing(dispute: Dispute) -> None:
    Ruling.objects.filter(dispute=dispute, standing=Standing.STANDING).update(standing=Standing.REPLACED)


def put_back(ruling: Ruling) -> None:
    """Give a ruling back to its author."""
    _put(ruling, Standing.RETURNED)


def drop_proposed(dispute: Dispute) -> None:
    """Put away a ruling that nobody approved, because the case went on without it."""
    Ruling.objects.filter(dispute=dispute, standing=Standing.PROPOSED).update(standing=Standing.REPLACED)


def outcome_of(ruling: Ruling) -> dict[str, str]:
    """Say what was decided, as the events tell it."""
    return {"redo": "true"} if ruling.redo else {"seller_bps": str(ruling.seller_bps)}


def _put(ruling: Ruling, standing: str) -> None:
    ruling.standing = standing
    ruling.save(update_fields=["standing"])
