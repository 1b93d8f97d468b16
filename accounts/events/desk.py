"""Where a courier speaks to the database, in one thread: what came back is recorded before more is claimed."""

import logging
from collections.abc import Sequence
from typing import Any

from django.db import InterfaceError, OperationalError, connection

from accounts.errors import TryLater
from accounts.events import deliveries
from accounts.events.parcels import Parcel, Result, Return, Standing

log = logging.getLogger(__name__)

_TROUBLE = (OperationalError, InterfaceError, TryLater)


def exchange(
    results: Sequence[Result], returned: Sequence[Return], claim: dict[str, Any] | None
) -> tuple[list[Standing], list[Parcel]]:
    """Record, then claim. To record twice changes nothing: the leases are gone."""
    try:
        standings = _recorded(results, returned)
        return standings, deliveries.claim(**claim) if claim else []
    except Exception:
        connection.close()
        raise


def _recorded(results: Sequence[Result], returned: Sequence[Return]) -> list[Standing]:
    """One that raises does not stop the others; its lease runs out."""
    try:
        return deliveries.record(results, returned=returned)
    except _TROUBLE:
        raise
    except Exception:
        log.exception("webhook_results_not_recorded count=%s", len(results))
    standings = []
    for some, back in [*(([result], ()) for result in results), *(((), [one]) for one in returned)]:
        try:
            standings += deliveries.record(some, returned=back)
        except _TROUBLE:
            raise
        except Exception:
            log.exception("webhook_result_not_recorded")
    return standings


def close() -> None:
    """End the connection of this thread."""
    connection.close()
