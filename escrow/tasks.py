"""Alarm clocks: what is due stands in rows, so each may run twice, late, or never."""

import logging
from collections.abc import Callable

from celery import shared_task

from accounts.errors import TryLater
from escrow import (
    books,
    deposits,
    explanations,
    payouts,
    readings,
    recognition,
    relays,
    scans,
    sweeps,
    watch,
    withdrawals,
)
from escrow.chain import rpc

log = logging.getLogger(__name__)


@shared_task(queue="default", ignore_result=True)
def check_recent_books(**_: object) -> None:
    """Check what changed in the books lately."""
    books.report(books.check_recent())


@shared_task(queue="default", ignore_result=True)
def check_books(**_: object) -> None:
    """Check the books from the first row to the last."""
    books.report(books.check(full=True))


# --- the chain ------------------------------------------------------------------------------------------------------
@shared_task(queue="chain", ignore_result=True)
def scan_deposits(**_: object) -> None:
    """Read the chain's new blocks."""
    _ask_the_chain(scans.scan)


@shared_task(queue="chain", ignore_result=True)
def credit_deposits(**_: object) -> None:
    """Credit deposits that have become safe enough."""
    _ask_the_chain(deposits.credit_due)


@shared_task(queue="chain", ignore_result=True)
def look_up_deposit(tx_hash: str, **_: object) -> None:
    """Read a transaction that an agent points at, and new blocks."""
    _ask_the_chain(lambda: scans.hinted(bytes.fromhex(tx_hash)))


@shared_task(queue="deadlines", ignore_result=True)
def advance_withdrawals(**_: object) -> None:
    """Release withdrawals that have cooled, reject those nobody approved in time."""
    withdrawals.advance_due()


@shared_task(queue="treasury", ignore_result=True)
def authorize_withdrawals(**_: object) -> None:
    """Sign payouts that may go and hand them to a relayer."""
    _ask_the_chain(payouts.authorize_due, payouts.relay_due, relays.push_due)


@shared_task(queue="treasury", ignore_result=True)
def relay_transactions(**_: object) -> None:
    """Send, send again, replace and close relayed transactions."""
    _ask_the_chain(payouts.relay_due, relays.push_due)


@shared_task(queue="treasury", ignore_result=True)
def settle_withdrawals(**_: object) -> None:
    """End the payouts that the finalized chain has decided."""
    _ask_the_chain(payouts.settle_due)


@shared_task(queue="treasury", ignore_result=True)
def sweep_deposits(**_: object) -> None:
    """Empty deposit addresses into the treasury."""
    _ask_the_chain(sweeps.sweep_due, relays.push_due)


# --- the treasury watch ---------------------------------------------------------------------------------------------
@shared_task(queue="chain", ignore_result=True)
def explain_outflows(**_: object) -> None:
    """Find the payout behind what left our addresses; alarm on what has none."""
    _ask_the_chain(explanations.explain_due)


@shared_task(queue="chain", ignore_result=True)
def recognise_payouts(**_: object) -> None:
    """Look for payouts that the chain knows and the database does not, and recognise them."""
    _ask_the_chain(recognition.recognise_due)


@shared_task(queue="chain", ignore_result=True)
def watch_treasury(**_: object) -> None:
    """Read what the chain holds for us, and say what is wrong."""
    _ask_the_chain(watch.watch)


@shared_task(queue="default", ignore_result=True)
def look_after_watch(**_: object) -> None:
    """Say so where the treasury watch is silent."""
    watch.look_after()


@shared_task(queue="default", ignore_result=True)
def thin_readings(**_: object) -> None:
    """Forget old readings of the treasury but for one an hour."""
    readings.thin()


def _ask_the_chain(*verbs: Callable[[], object]) -> None:
    """Run what needs the node. Where it is away or not believed, that is a line in the log until the next beat."""
    try:
        for verb in verbs:
            verb()
    except (rpc.NodeError, rpc.ChainNotTrusted, TryLater) as error:
        log.warning("chain_not_asked: %s: %s", type(error).__name__, error)
