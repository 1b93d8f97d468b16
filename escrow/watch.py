"""
The treasury watch: what may be wrong with the money on the chain, said aloud; where it must be, payouts paused.

Each minute it reads custody, keeps the reading and judges it. Every alert ends by itself when what it tells of is
over; a pause never does. Readings that fail are counted, and three in a row pause payouts: what cannot be seen is not
safe.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction

from accounts import alerts, clock, pauses
from accounts.edge.fields import units_to_text
from accounts.errors import DomainError
from escrow import custody, readings, treasury
from escrow import withdrawal_table as table
from escrow.chain import addresses, forwarders, network, rpc
from escrow.custody import Custody
from escrow.models import DepositAddress, Outflow, TreasuryReading, WatchState

log = logging.getLogger(__name__)

FAILURES = 3
SILENCE = timedelta(minutes=5)
# A payout is on the chain before our books know it to be final, and a log is written down before it is explained.
UNEXPLAINED_FOR = timedelta(minutes=1)
OVERDUE_TOLD = 50


@transaction.atomic
def alarm(kind: str, subject: str = "", detail: str = "") -> bool:
    """
    Sound an alert, and pause withdrawals where `TREASURY_PAUSE_ON` names its kind; True if it was not known.

    Said again while it goes on, it pauses again what somebody resumed too early.
    """
    is_new = alerts.sound(kind, subject, detail=detail)
    if kind in settings.TREASURY_PAUSE_ON and not pauses.is_paused(pauses.Flag.WITHDRAWALS):
        _pause_withdrawals(kind, subject, detail)
    return is_new


def watch() -> TreasuryReading | None:
    """Read custody, keep the reading and judge it; None if that failed, which is counted."""
    here = network.current()
    try:
        found, is_confirmed = _read_twice_if_wrong()
        reading = readings.keep(found)
        judge(found, is_confirmed=is_confirmed)
        _judge_factories(here)
        _judge_payouts(here)
        _judge_outflows()
    except Exception as error:  # whatever it is, nobody has seen that the money is there
        _count_failure(here.chain_id, error)
        return None
    _count_success(here.chain_id)
    return reading


def judge(found: Custody, *, is_confirmed: bool) -> None:
    """Sound what a reading shows to be wrong, end what it shows to be right; a mismatch only if it is confirmed."""
    difference = units_to_text(found.difference_units)
    _say(
        "custody_mismatch",
        is_confirmed,
        f"the ledger says {difference} USDC more than the chain holds at block {found.block}",
    )
    _say("shortfall", bool(found.shortfall_units), f"{units_to_text(found.shortfall_units)} USDC are recorded as lost")
    # What was credited above the block is there, but not in the holdings as of the block.
    within_reach = found.treasury_units + found.unswept_units + found.early_units
    _say(
        "treasury_short",
        found.pending_units > within_reach,
        f"payouts of {units_to_text(found.pending_units)} USDC are pending, {units_to_text(within_reach)} within reach",
    )
    low = {addresses.to_text(a): wei for a, wei in found.relayers.items() if wei < settings.RELAYER_GAS_MINIMUM_WEI}
    _say_each("relayer_gas_low", {address: f"{wei} wei are left for gas" for address, wei in low.items()})


def look_after() -> bool:
    """Sound `watch_stale` where the watch has not read for five minutes; True if it is well."""
    silent = WatchState.objects.filter(read_at__lt=clock.now() - SILENCE) | WatchState.objects.filter(
        read_at=None, tried_at__lt=clock.now() - SILENCE
    )
    _say_each(
        "watch_stale",
        {
            str(state.chain_id): f"nobody has read the treasury since {state.read_at or state.tried_at:%H:%M:%S} UTC"
            for state in silent
        },
    )
    return not silent.exists()


def _read_twice_if_wrong() -> tuple[Custody, bool]:
    """A reading, and whether a second one at once confirms that ledger and chain differ."""
    found = custody.read()
    if not found.difference_units:
        return found, False
    found = custody.read()
    return found, bool(found.difference_units)


def _judge_factories(here: network.Network) -> None:
    """Deposits must come to a treasury of ours: a change that is not ours is seen two days before it can happen."""
    node = network.node()
    ours = treasury.addresses(here.chain_id)
    used = DepositAddress.objects.filter(chain_id=here.chain_id).values_list("factory", flat=True).distinct()
    foreign = {}
    for factory in {here.factory, *map(bytes, used)}:
        name = addresses.to_text(factory)
        sweeps_to = forwarders.treasury_of(node, factory)
        proposed = forwarders.proposed_treasury_of(node, factory)
        if sweeps_to not in ours:
            foreign[addresses.to_text(sweeps_to)] = f"factory {name} sweeps to it, and it is not ours"
        if proposed and proposed not in ours:
            foreign[addresses.to_text(proposed)] = f"it is proposed to factory {name}, and it is not ours"
    _say_each("factory_treasury", foreign)


def _judge_payouts(here: network.Network) -> None:
    overdue = _overdue(here.chain_id, clock.now() - timedelta(seconds=settings.PAYOUT_OVERDUE_SECONDS))
    _say_each(
        "payout_overdue",
        {str(each): f"{state} since {since:%Y-%m-%d %H:%M} UTC, and not paid" for each, state, since in overdue},
    )


def _overdue(chain_id: int, before: datetime) -> list[tuple[object, str, datetime]]:
    """The payouts that have waited longest, since they could have gone: (withdrawal id, state, since)."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT id, state, since FROM (
                SELECT w.id, w.state, coalesce(
                    a.created_at,
                    greatest(w.requested_at, w.cooling_until,
                        (SELECT max(at) FROM escrow_withdrawalapproval WHERE withdrawal_id = w.id))
                ) AS since
                FROM escrow_withdrawal w LEFT JOIN escrow_authorization a ON a.withdrawal_id = w.id
                WHERE w.chain_id = %s AND w.state = ANY (%s)
            ) AS waiting
            WHERE since < %s ORDER BY since, id LIMIT %s
            """,
            [chain_id, [*map(str, table.UNPAID), "requested"], before, OVERDUE_TOLD],
        )
        return cursor.fetchall()


def _judge_outflows() -> None:
    """Sound what nobody has got round to explaining; `explanations` sounds what it cannot explain, and ends both."""
    from escrow import explanations  # which sounds its own alarms here

    explanations.explain_due()  # its own task may be late: that is no reason to suspect a payout of ours
    for outflow in explanations.unexplained().filter(seen_at__lt=clock.now() - UNEXPLAINED_FOR).order_by("pk"):
        if not alerts.is_sounding("unexplained_outflow", str(outflow.pk)):
            alarm("unexplained_outflow", str(outflow.pk), _sentence(outflow))


def _sentence(outflow: Outflow) -> str:
    return (
        f"{units_to_text(outflow.amount_units)} USDC left {addresses.to_text(outflow.sender)} for"
        f" {addresses.to_text(outflow.receiver)} in {rpc.text(outflow.tx_hash)}, and nothing of ours says why"
    )


def _say(kind: str, is_wrong: bool, detail: str) -> None:
    if is_wrong:
        alarm(kind, detail=detail)
    else:
        alerts.clear(kind)


def _say_each(kind: str, wrong: dict[str, str]) -> None:
    """Sound the alert of each subject that has it, end those of the others."""
    for subject, detail in wrong.items():
        alarm(kind, subject, detail)
    alerts.clear_others(kind, still=wrong)


def _count_failure(chain_id: int, error: Exception) -> None:
    at = clock.now()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO escrow_watchstate AS w (chain_id, failures, tried_at) VALUES (%s, 1, %s)
            ON CONFLICT (chain_id) DO UPDATE SET failures = w.failures + 1, tried_at = EXCLUDED.tried_at
            RETURNING failures
            """,
            [chain_id, at],
        )
        [(failures,)] = cursor.fetchall()
    if isinstance(error, rpc.NodeError | rpc.ChainNotTrusted | DomainError):
        said = f"{type(error).__name__}: {error}"
        log.warning("treasury_not_read failures=%s %s", failures, said)
    else:
        said = type(error).__name__  # its words may be anybody's
        log.error("treasury_not_read failures=%s", failures, exc_info=error)
    if failures >= FAILURES:
        alarm("chain_unreadable", detail=f"{failures} readings in a row failed, the last with {said}")


def _count_success(chain_id: int) -> None:
    at = clock.now()
    WatchState.objects.update_or_create(chain_id=chain_id, defaults={"failures": 0, "tried_at": at, "read_at": at})
    alerts.clear("chain_unreadable")


def _pause_withdrawals(kind: str, subject: str, detail: str) -> None:
    reason = f"{kind} {subject}".strip() + (f": {detail}" if detail else "")
    with suppress(pauses.AlreadySet):  # another alarm was first: its cause stays
        pauses.pause(pauses.Flag.WITHDRAWALS, reason=reason, cause=kind)
