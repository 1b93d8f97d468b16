"""
Locking a job: everything that an action needs to know of it, read under its lock in one statement.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from accounts.errors import NotFound
from accounts.models import Agent
from marketplace import jobclocks, standstills
from marketplace.models import Job, Offer


def lock(job_id: UUID, *, at: datetime | None = None, skip_locked: bool = False) -> Job:
    """
    Lock the job; read it, both agents and its latest offer in one statement. `job.at` is the database's clock, read
    when the lock was got (or the given time). `job.stands_since`: since when clocks stand still, None while they run;
    nothing fires then. A job that an outage has not moved yet is moved first.

    :raises NotFound: if there is none (or, with `skip_locked`, if somebody else holds it)
    """
    with connection.cursor() as cursor:
        cursor.execute(_LOCK_SKIPPING if skip_locked else _LOCK, [job_id, standstills.after_seconds()])
        row = cursor.fetchone()
    if row is None:
        raise NotFound
    job = _built(Job, row, 0)
    *_, job.stands_since, is_behind, now = row
    if is_behind and job.closed_at is None:
        jobclocks.catch_up([job_id], known=job.standstill)
        return lock(job_id, at=at)
    position = len(_columns(Job))
    job.client = _built(Agent, row, position)
    position += len(_columns(Agent))
    job.seller = _built(Agent, row, position)
    position += len(_columns(Agent))
    if row[position] is not None:
        job.offer = _built(Offer, row, position)
    else:  # the offer was committed while we waited for the lock: this statement's snapshot is older
        job.offer = Offer.objects.get(job_id=job_id, number=job.offers_count)
    job.at = at or now
    return job


def _columns(model: Any) -> list[str]:
    return [field.column for field in model._meta.concrete_fields]


def _built(model: Any, row: tuple[Any, ...], position: int) -> Any:
    """Make an instance from part of a row, converting as the ORM would."""
    fields = model._meta.concrete_fields
    values = []
    for field, value in zip(fields, row[position : position + len(fields)], strict=True):
        convert = getattr(field, "from_db_value", None)
        values.append(convert(value, None, connection) if convert and value is not None else value)
    return model.from_db("default", [field.attname for field in fields], values)


def _select(alias: str, model: Any) -> str:
    return ", ".join(f"{alias}.{column}" for column in _columns(model))


# The row is locked inside a materialised CTE, so everything outside it, the clock first of all, is read after the lock
# was got; a plain `SELECT …, clock_timestamp() … FOR UPDATE` reads the clock before it waits.
_LOCK = f"""
    WITH job AS MATERIALIZED (
        SELECT {", ".join(_columns(Job))} FROM marketplace_job WHERE id = %s FOR NO KEY UPDATE
    )
    SELECT {_select("job", Job)}, {_select("client", Agent)}, {_select("seller", Agent)}, {_select("offer", Offer)},
           clocks.stands_since, clocks.behind, clock_timestamp()
    FROM job
    CROSS JOIN LATERAL marketplace_clocks(job.standstill, %s) clocks
    JOIN accounts_agent client ON client.id = job.client_id
    JOIN accounts_agent seller ON seller.id = job.seller_id
    LEFT JOIN marketplace_offer offer ON offer.job_id = job.id AND offer.number = job.offers_count
"""
_LOCK_SKIPPING = _LOCK.replace("FOR NO KEY UPDATE", "FOR NO KEY UPDATE SKIP LOCKED")
