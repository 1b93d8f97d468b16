"""Ten thousand cases, for pages that must not mind them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from disputes.models import Dispute

# Every column of a copy is the original's, but for these. Half are closed, and a few wait for each step of staff.
_VARIED = {
    "id": "gen_random_uuid()",
    "job_id": "gen_random_uuid()",
    "state": "(ARRAY['final', 'settled', 'under_review', 'evidence', 'final', 'awaiting_approval', 'withdrawn',"
    " 'under_review', 'final', 'appealed'])[1 + mod(n, 10)]",
    "closed_at": "CASE WHEN mod(n, 10) IN (0, 1, 4, 6, 8) THEN now() - n * interval '10 minutes' END",
    "deadline_at": "CASE WHEN mod(n, 10) NOT IN (0, 1, 4, 6, 8) THEN now() + (n - 200) * interval '1 minute' END",
    "remind_at": "NULL",
    "created_at": "now() - mod(n, 40) * interval '17 hours'",
    "price_units": "1000000 * (1 + mod(n, 300))",
    "deposit_due_units": "0",
    "deposit_held_units": "0",
    "reason": "(ARRAY['late', 'unusable', 'fraud', 'other', 'not_delivered'])[1 + mod(n, 5)]",
    "assigned_to_id": "CASE WHEN mod(n, 7) = 0 THEN assigned_to_id END",
    "approve_by": "now()",
    "hear_appeal_by": "now()",
    "hard_stop_at": "now() + interval '60 days'",
}


@contextmanager
def many(case: Dispute, count: int = 10_000) -> Iterator[None]:
    """
    Copy a case so many times, past the triggers, and take the copies away before the books are looked at.

    The copies' jobs do not exist: no page that is measured with them reads one.
    """
    columns = [field.column for field in Dispute._meta.concrete_fields if not field.generated]
    values = [_VARIED.get(column, f'"{column}"') for column in columns]
    names = ", ".join(f'"{column}"' for column in columns)
    _without_triggers(
        f"INSERT INTO disputes_dispute ({names}) SELECT {', '.join(values)}"
        " FROM disputes_dispute, generate_series(1, %s) AS n WHERE id = %s",
        [count, case.pk],
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE disputes_dispute")
    yield
    _without_triggers("DELETE FROM disputes_dispute WHERE job_id NOT IN (SELECT id FROM marketplace_job)", [])


def _without_triggers(statement: str, values: list[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(statement, values)
        cursor.execute("SET LOCAL session_replication_role = DEFAULT")
