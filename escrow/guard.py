"""
The guard: before anything is authorized or signed, the chain is asked whether it knows of payouts that we do not.

A database restored from a backup has forgotten what it signed since. What an authorization or a relayer did that no
row stands for stops every new signature until it is recognised (recognition.py), or a person has said what it was.
"""

from __future__ import annotations

from typing import NamedTuple

from django.conf import settings
from django.db.models import Q

from accounts import alerts, clock, pauses
from accounts.errors import Paused
from accounts.models import Alert, Pause, User
from escrow import treasury
from escrow.chain import addresses, network, rpc, usdc
from escrow.models import Authorization, Outflow, PayoutGuard, Relayer, RelayTransaction

AUTHORIZATION, NONCE = "unknown_authorization", "unknown_relayer_nonce"
FROZEN_BY = (AUTHORIZATION, NONCE)
UNSAFE = (*FROZEN_BY, "unexplained_outflow")


class Unknown(NamedTuple):
    """What the chain did in our name and no row stands for."""

    authorizations: list[usdc.AuthorizationLog]
    relayers: list[Relayer]  # of which the chain has counted more transactions than we handed out nonces

    @property
    def is_nothing(self) -> bool:
        return not self.authorizations and not self.relayers


def all_is_known(node: rpc.Node, here: network.Network, tips: rpc.Heads) -> bool:
    """Tell whether anything may be signed now; if not, the alarm has been raised."""
    return check(node, here, tips).is_nothing


def check(node: rpc.Node, here: network.Network, tips: rpc.Heads) -> Unknown:
    """
    Compare what our treasuries and relayers did on the chain with our rows, alarm on what is unknown, or clear it.

    Reads every nonce used since the last finalized block in which all were known.

    :raises NodeError: if the chain cannot be read: then nothing is known, and nothing may be signed
    """
    mark = _mark(here)
    # The chain before our rows: they are committed before anything of theirs can be on it.
    counts = _counts(node, here)
    used = _used(node, here, first=mark.checked_block + 1, last=tips.latest.number)
    unknown = Unknown(_without_row(here, used), _ahead(counts))
    _tell(unknown)
    if unknown.is_nothing:
        unmoved = PayoutGuard.objects.filter(
            chain_id=here.chain_id, checked_block=mark.checked_block, checked_at=mark.checked_at
        )
        unmoved.update(checked_block=max(mark.checked_block, tips.finalized.number), checked_at=clock.now())
    return unknown


def resume(flag: str, *, by: User, reason: str) -> Pause:
    """
    Let it go on, by a person, and payouts only once everything is known.

    :raises pauses.StillUnsafe: if payouts are resumed while something is unknown; :raises pauses.AlreadySet,
    NotAllowed: as `pauses.resume`
    """
    if flag == pauses.Flag.WITHDRAWALS:
        require_known()
    return pauses.resume(flag, by=by, reason=reason)


def require_known() -> None:
    """
    Refuse while the chain shows what no row explains.

    :raises pauses.StillUnsafe: with how much of what there is
    """
    open_alerts = Alert.objects.filter(kind__in=UNSAFE, cleared_at=None)
    kinds = sorted(set(open_alerts.values_list("kind", flat=True)))
    if kinds:
        raise pauses.StillUnsafe(f"Not everything on the chain is known yet: {', '.join(kinds)}.", alerts=kinds)


def refuse_giving_back() -> None:
    """
    Refuse to give a withdrawal's money back while a signature of a forgotten past may be out, paying it all the same.

    :raises Paused: from the first unknown authorization or nonce until a treasurer has resumed payouts
    """
    if frozen():
        raise Paused("Payouts are being compared with the chain: nothing is given back until that is done.")


def frozen() -> bool:
    """Tell whether something was unknown at any time since payouts were paused, or is now."""
    found = Q(cleared_at=None)
    if pause := Pause.objects.filter(flag=pauses.Flag.WITHDRAWALS, paused=True).first():
        found |= Q(cleared_at__gte=pause.changed_at)
    return Alert.objects.filter(found, kind__in=FROZEN_BY).exists()


def forget_checked(chain_id: int) -> None:
    """Have the next check read from the first block on: there is a treasury it did not ask about."""
    PayoutGuard.objects.filter(chain_id=chain_id).update(checked_block=_before_all(), checked_at=clock.now())


def _mark(here: network.Network) -> PayoutGuard:
    """How far all is known; a database that never checked knows nothing, whatever it believes."""
    defaults = {"checked_block": _before_all(), "checked_at": clock.now()}
    return PayoutGuard.objects.get_or_create(chain_id=here.chain_id, defaults=defaults)[0]


def _before_all() -> int:
    return settings.CHAIN_START_BLOCK - 1


def _counts(node: rpc.Node, here: network.Network) -> dict[int, int]:
    """How many transactions the newest block has counted of each relayer, but for retired ones that are done."""
    busy = Q(retired_at=None) | Q(transactions__state__in=RelayTransaction.OPEN)
    rows = list(Relayer.objects.filter(busy, chain_id=here.chain_id).distinct().values_list("pk", "address"))
    answers = node.ask_many([("eth_getTransactionCount", [rpc.text(address), "latest"]) for _, address in rows])
    return {pk: rpc.number(answer) for (pk, _), answer in zip(rows, answers, strict=True)}


def _ahead(counts: dict[int, int]) -> list[Relayer]:
    return [row for row in Relayer.objects.filter(pk__in=counts).order_by("pk") if counts[row.pk] > row.next_nonce]


def _used(node: rpc.Node, here: network.Network, *, first: int, last: int) -> list[usdc.AuthorizationLog]:
    ours = sorted(treasury.addresses(here.chain_id))
    if not ours or first > last:
        return []
    return usdc.used_authorizations(node, here.usdc, authorizers=ours, first=first, last=last)


def _without_row(here: network.Network, used: list[usdc.AuthorizationLog]) -> list[usdc.AuthorizationLog]:
    nonces = [log.nonce for log in used]
    signed = Authorization.objects.filter(chain_id=here.chain_id, nonce__in=nonces)
    recognised = Outflow.objects.filter(chain_id=here.chain_id, nonce__in=nonces, orphaned_at=None)
    rows = [*signed.values_list("sender", "nonce"), *recognised.exclude(explanation="").values_list("sender", "nonce")]
    known = set(rows)
    return [log for log in used if (log.authorizer, log.nonce) not in known]


def _tell(unknown: Unknown) -> None:
    from escrow import watch  # which reads payouts, and payouts ask the guard

    if unknown.authorizations:
        first = unknown.authorizations[0]
        detail = (
            f"{len(unknown.authorizations)} used authorizations that no row stands for; the first is"
            f" {rpc.text(first.nonce)} in {rpc.text(first.tx_hash)}, block {first.block_number}"
        )
        watch.alarm(AUTHORIZATION, "", detail)
    else:
        alerts.clear(AUTHORIZATION)
    ahead = {addresses.to_text(relayer.address): relayer for relayer in unknown.relayers}
    for address, relayer in ahead.items():
        watch.alarm(NONCE, address, f"the chain has counted more transactions than nonce {relayer.next_nonce}")
    alerts.clear_others(NONCE, still=ahead)
