"""The one clock: PostgreSQL's, so that a host whose own clock is wrong changes nothing."""

from datetime import datetime

from django.db import connection


def now() -> datetime:
    """Read the database's clock, which moves on inside a transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]
